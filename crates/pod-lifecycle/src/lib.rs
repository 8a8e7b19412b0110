//! Pure pod lifecycle rules: plan, phase, conditions, status, restart and back-off decisions.
//!
//! Everything here is a synchronous function of its arguments. Time is an argument; there is no clock, no I/O,
//! no randomness and no logging, so each rule of the reference is a case in a table test.

pub mod backoff;
mod inputs;
mod plan;

pub use inputs::{Failure, FailureReason, Inputs, Intent, Memory, NodeFacts};
pub use plan::{Action, Plan, Progress, StopCause};
