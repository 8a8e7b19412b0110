//! One actor per pod, the runtime cache and orphan clean-up.
