//! The runtime's image service as the `images` crate sees it.

use cri_client::v1::{ImageSpec, ImageStatusRequest, PullImageRequest};
use cri_client::{Client, Code, Error, ErrorKind};
use images::{ImageInfo, ImageService, ImageUser, ServiceError};
use kube_model::core::Pod;

/// Asks the runtime for images.
#[derive(Debug)]
pub(crate) struct CriImages {
    pub(crate) client: Client,
    pub(crate) config: cri_config::Settings,
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

    async fn pull_image(&self, image: &str, pod: &Pod) -> Result<String, ServiceError> {
        let sandbox_config =
            cri_config::sandbox_config(pod, 0, &self.config).map_err(|e| ServiceError(e.to_string()))?;
        // Runtimes choose by these annotations how to unpack; the kubelet sends the pod's with each pull.
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let image = Some(ImageSpec { annotations, ..spec(image) });
        let request = PullImageRequest { image, auth: None, sandbox_config: Some(sandbox_config) };
        Ok(self.client.pull_image(request).await.map_err(|e| as_go_says(&e))?.image_ref)
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
