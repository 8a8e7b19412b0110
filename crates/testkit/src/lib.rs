//! A fake CRI server for faults that a real runtime will not make on demand, and pod builders.

pub mod env;
pub mod fake_cri;
