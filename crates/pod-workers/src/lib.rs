//! One actor per pod UID: it observes, plans (`pod-lifecycle`) and executes, and publishes what it sees.
//!
//! Owns the actors, the runtime cache, the order between pods of one name, and the clean-up of pods that the
//! runtime has but nobody wants. Must not know how a runtime is spoken to, what a manifest is, or how a probe
//! works: those come in through [`Runtime`], [`Probes`] and [`Admit`].
//!
//! Wake-ups carry no data. Whatever wakes an actor, it reads the desired pod and the observed pod anew, so a
//! lost or doubled wake-up costs time, never correctness.

mod actor;
mod admission;
mod cache;
mod clock;
mod execute;
mod metrics;
mod observer;
mod orphan;
mod pod_status;
mod pods;
mod registry;
mod state;
mod traits;

pub use self::metrics::{PodMetrics, StartupLatency, container_type, write_working};
pub use cache::Listed;
pub use clock::Clock;
pub use observer::Observer;
pub use pod_status::{EventSink, Reporter};
pub use registry::{Context, Lifecycle, Wanted, Workers, Working, WorkingPods};
pub use traits::{
    ActivePods, Admit, CleanUp, NodeState, Observed, Probes, Runtime, RuntimeDown, StartContainer, StepError,
};
