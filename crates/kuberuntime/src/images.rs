//! The runtime's image service as the `images` crate sees it.

use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::{AuthConfig, ImageSpec, ImageStatusRequest, PullImageRequest};
use cri_client::{Client, Code, Error, ErrorKind};
use images::credentials::{Credential, DockerConfigPaths, Keyring};
use images::{ImageInfo, ImageService, ImageUser, PullSecretError, ServiceError};
use kube_model::core::Pod;

use super::References;
use crate::metrics::Metrics;

/// Hears of each pull of an image.
pub type PulledFor = Box<dyn Fn(&Pod, Duration) + Send + Sync>;

/// Asks the runtime for images.
pub struct CriImages {
    /// The runtime.
    pub client: Client,
    /// What the node is to its containers.
    pub config: super::CriConfig,
    /// Where the node's own credentials may be.
    pub docker_config: DockerConfigPaths,
    /// `None` without an API server: then no pull secret can be had.
    pub references: References,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who else wants to know for which pod an image was pulled, and how long that took.
    pub pulled_for: PulledFor,
}

impl ImageService for CriImages {
    async fn image_status(&self, image: &str) -> Result<Option<ImageInfo>, ServiceError> {
        let request = ImageStatusRequest { image: Some(spec(image)), verbose: false };
        let answer = self.client.image_status(request).await.map_err(|e| as_go_says(&e))?;
        Ok(answer.image.map(|image| ImageInfo {
            size: image.size,
            user: match image.uid {
                None if !image.username.is_empty() => ImageUser::Name(image.username),
                uid => ImageUser::Uid(uid.map_or(0, |uid| uid.value)),
            },
            id: image.id,
        }))
    }

    async fn pull_image(
        &self,
        image: &str,
        pod: &Pod,
        credential: Option<&Credential>,
    ) -> Result<String, ServiceError> {
        let sandbox_config = cri_config::sandbox_config(pod, 0, &[], &self.config.load())
            .map_err(|e| ServiceError(e.to_string()))?;
        // Runtimes choose by these annotations how to unpack; the kubelet sends the pod's with each pull.
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let image = Some(ImageSpec { annotations, ..spec(image) });
        let auth = credential.map(|credential| AuthConfig {
            username: credential.username.clone(),
            password: credential.password.clone(),
            ..AuthConfig::default()
        });
        let request = PullImageRequest { image, auth, sandbox_config: Some(sandbox_config) };
        Ok(self.client.pull_image(request).await.map_err(|e| as_go_says(&e))?.image_ref)
    }

    async fn pull_secret(&self, pod: &Pod, name: &str) -> Result<Keyring, PullSecretError> {
        self.references.pull_secret(pod, name).await
    }

    fn pulled(&self, pod: &Pod, size: u64, took: Duration) {
        self.metrics.image_pulled(size, took);
        (self.pulled_for)(pod, took);
    }

    async fn node_keyring(&self) -> Keyring {
        let paths = self.docker_config.clone();
        // Only a panic keeps the task from its answer.
        let read = tokio::task::spawn_blocking(move || paths.read()).await;
        let (keyring, problems) = read.unwrap_or_default();
        for problem in problems {
            let error = &problem as &(dyn std::error::Error + 'static);
            tracing::warn!(error, "credentials of the node are not used");
        }
        keyring
    }
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..ImageSpec::default() }
}

/// The kubelet shows pull errors as Go prints a gRPC error, and people and tools match on that; of one with the
/// code `Unknown` only the runtime's own message.
fn as_go_says(error: &Error) -> ServiceError {
    let code = match error.kind() {
        ErrorKind::NotFound { .. } => Code::NotFound,
        ErrorKind::Unavailable { .. } => Code::Unavailable,
        ErrorKind::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        ErrorKind::Unimplemented { .. } => Code::Unimplemented,
        ErrorKind::Runtime { code, .. } => *code,
        _ => return ServiceError(error.to_string()),
    };
    let message = error.message();
    ServiceError(match code {
        Code::Unknown => message.to_owned(),
        code => format!("rpc error: code = {code:?} desc = {message}"),
    })
}
