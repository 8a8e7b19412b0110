//! Image pull policy, queue and back-off.
