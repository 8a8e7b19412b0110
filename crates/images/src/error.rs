//! Why an image is not there.

use std::time::Duration;

use crate::credentials::InvalidConfig;

/// What the runtime answered, as the kubelet passes it on: `rpc error: code = NotFound desc = ...` as Go prints a
/// gRPC error, but of one with the code `Unknown` only its own message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ServiceError(pub String);

/// Why a pod's pull secret opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullSecretError {
    /// It is not to be had: there is none of that name, or it cannot be read now.
    #[error("the secret cannot be had")]
    Missing,
    /// It is there, and of no use.
    #[error("the secret cannot be used")]
    Invalid(#[from] InvalidConfig),
}

/// The waiting reason of a container without its image; names are the kubelet's (upstream
/// `pkg/kubelet/images/types.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The pull failed just now.
    ErrImagePull,
    /// The pull failed before and is not tried again yet.
    ImagePullBackOff,
    /// The image is not there and the policy forbids to pull it.
    ErrImageNeverPull,
    /// The name cannot be one of an image.
    InvalidImageName,
    /// The runtime does not tell whether the image is there.
    ImageInspectError,
    /// The runtime says that the registry cannot be reached.
    RegistryUnavailable,
    /// The runtime says that the image's signature is not valid.
    SignatureValidationFailed,
}

impl Reason {
    /// The Kubernetes reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrImagePull => "ErrImagePull",
            Self::ImagePullBackOff => "ImagePullBackOff",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::InvalidImageName => "InvalidImageName",
            Self::ImageInspectError => "ImageInspectError",
            Self::RegistryUnavailable => "RegistryUnavailable",
            Self::SignatureValidationFailed => "SignatureValidationFailed",
        }
    }
}

/// Why an image is not there: reason and message of the container's waiting state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    /// One word.
    pub reason: Reason,
    /// The whole story, the runtime's words included.
    pub message: String,
    /// How long the back-off of this pod and image lasts from now; `None` when it is not what holds it up.
    pub retry_after: Option<Duration>,
}

impl ImageError {
    /// Some runtimes begin their message with one of two reasons. Rule: upstream
    /// `pkg/kubelet/images/image_manager.go`.
    pub(crate) fn from_pull(image: &str, failure: &ServiceError) -> Self {
        for (reason, cause) in [
            (Reason::RegistryUnavailable, "the registry is unavailable"),
            (Reason::SignatureValidationFailed, "the signature validation failed"),
        ] {
            if let Some(rest) = failure.0.strip_prefix(reason.as_str()) {
                let message = format!("image pull failed for {image} because {cause}{rest}");
                return Self { reason, message, retry_after: None };
            }
        }
        Self { reason: Reason::ErrImagePull, message: failure.to_string(), retry_after: None }
    }

    /// Whether it may go away without a change of the pod.
    pub fn is_retryable(&self) -> bool {
        self.reason != Reason::InvalidImageName
    }
}
