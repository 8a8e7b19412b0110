//! `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1` as of Kubernetes 1.36: every field, its default, and
//! its JSON as the kubelet's `/configz` writes it.
//!
//! Owns the types, their defaults and what Go means by zero and null. Must not know files and flags.

mod auth;
mod defaults;
mod fields;
mod kubelet;
mod logging;
mod parts;
#[cfg(test)]
mod tests;

pub use auth::{
    AnonymousAuthentication, Authentication, Authorization, WebhookAuthentication, WebhookAuthorization,
    X509Authentication,
};
pub(crate) use defaults::join;
pub use defaults::{DEFAULT_EVICTION_HARD, Decoded, TypeError};
pub use fields::{Effect, FIELDS, LIVE, Row, field};
pub use kubelet::KubeletConfiguration;
pub use logging::{FlushFrequency, FormatOptions, Logging, MAX_VERBOSITY, OutputRouting, VModuleItem};
pub use parts::{
    CrashLoopBackOff, MemoryReservation, MemorySwap, ShutdownGracePeriodByPodPriority, Tracing,
    UserNamespaces,
};

/// The group and version of [`KubeletConfiguration`].
pub const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// The kind of [`KubeletConfiguration`].
pub const KIND: &str = "KubeletConfiguration";

/// Go's `omitempty` for what is not a struct.
fn zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
