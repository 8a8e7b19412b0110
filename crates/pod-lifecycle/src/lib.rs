//! Pure pod lifecycle rules: plan, phase, conditions, status, restart and back-off decisions.
//!
//! Everything here is a synchronous function of its arguments. Time is an argument, by both clocks (see
//! [`Now`](kube_model::Now)); there is no clock, no I/O,
//! no randomness and no logging, so each rule of the kubelet is a case in a table test.
//!
//! One round of a pod's actor:
//!
//! 1. [`Memory::before_plan`] with what the runtime reports,
//! 2. [`status`] for the world to see, kept in [`Memory::last_status`],
//! 3. [`plan()`], whose actions it executes in order, telling [`Memory`] what failed and what succeeded,
//! 4. wait for news or for [`Plan::wake_at`], and observe again.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod backoff;
mod conditions;
mod container_status;
mod context;
mod deadline;
mod decide;
mod ephemeral;
mod garbage;
mod init;
mod inputs;
mod memory;
mod phase;
mod plan;
mod post_start;
mod precondition;
mod rejection;
mod resources;
mod restart;
mod sandbox;
mod status;
mod termination;
mod termination_message;
mod waiting;

pub use deadline::REASON as DEADLINE_EXCEEDED;
pub use decide::plan;
pub use inputs::{FailedStatus, Failure, FailureReason, Grace, Inputs, Intent, Memory, NodeFacts};
pub use plan::{Action, Plan, Progress, StopCause};
pub use post_start::has_hook as has_post_start_hook;
pub use precondition::Unmet;
pub use rejection::Rejection;
pub use status::status;
