//! Why no message can be built from a pod.

use kube_model::core::Pod;
use kube_model::{PodKey, pod};

/// Why a sandbox or a container cannot be configured. Trying again helps only after the pod was changed, or
/// the image or object that the message names; the kubelet's waiting reason is `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A field of the pod.
    #[error("pod {pod}: {field}: {problem}")]
    Pod {
        /// The pod.
        pod: PodKey,
        /// As Kubernetes writes it: `spec.hostname`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field of one of its containers.
    #[error("pod {pod}, container {container}: {field}: {problem}")]
    Container {
        /// The pod.
        pod: PodKey,
        /// Name of the container.
        container: String,
        /// Below the container: `env[HOST].valueFrom.fieldRef`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The name that `setHostnameAsFQDN` asks for is longer than the kernel takes. The kubelet's words: upstream
    /// `pkg/kubelet/util/util.go` `GetNodenameForKernel`.
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({max} characters is \
         the max, {} characters requested)",
        fqdn.len()
    )]
    FqdnTooLong {
        /// The name.
        fqdn: String,
        /// How many bytes the kernel takes.
        max: usize,
    },
    /// An object of the API server that a variable comes from is not to be had. The kubelet's words.
    #[error("{problem}")]
    Reference {
        /// The pod.
        pod: PodKey,
        /// Name of the container.
        container: String,
        /// Which object or key is missing.
        problem: String,
    },
    /// `runAsNonRoot` does not agree with the user that it would run as. The kubelet's words.
    #[error("{problem} (pod: \"{}_{}({uid})\", container: {container})", pod.name, pod.namespace)]
    NonRoot {
        /// The pod.
        pod: PodKey,
        /// Its UID.
        uid: String,
        /// Name of the container.
        container: String,
        /// What does not agree.
        problem: String,
    },
}

/// A field and what is wrong with it; whoever knows the pod makes it a [`ConfigError`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    field: String,
    problem: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    pub(crate) fn of_pod(self, pod: &Pod) -> ConfigError {
        ConfigError::Pod { pod: pod::identity(pod).1, field: self.field, problem: self.problem }
    }

    pub(crate) fn of_container(self, pod: &Pod, container: &str) -> ConfigError {
        ConfigError::Container {
            pod: pod::identity(pod).1,
            container: container.to_owned(),
            field: self.field,
            problem: self.problem,
        }
    }
}
