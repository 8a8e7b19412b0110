//! Images: any name can be pulled; names are taken as they are.

use std::fmt::Write;

use node_proto::cri::v1::*;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::model::{Answer, Model};

/// Bytes that each image is said to have.
const SIZE: u64 = 1 << 20;

/// The reference with digest.
pub(super) fn image_ref(image: &Image) -> String {
    image.repo_digests.first().unwrap_or(&image.id).clone()
}

/// The same for the same name, always.
fn image(name: &str) -> Image {
    let mut id = String::from("sha256:");
    for byte in Sha256::digest(name) {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    let repository = name.split('@').next().unwrap_or(name);
    Image {
        repo_tags: vec![name.to_owned()],
        repo_digests: vec![format!("{repository}@{id}")],
        id,
        size: SIZE,
        ..Default::default()
    }
}

fn name(spec: Option<&ImageSpec>) -> &str {
    spec.map_or("", |spec| &spec.image)
}

impl Model {
    /// By name, digest or ID.
    pub(super) fn find_image(&self, name: &str) -> Option<&Image> {
        self.images.values().find(|image| {
            let mut names = image.repo_tags.iter().chain(&image.repo_digests);
            image.id == name || names.any(|known| known == name)
        })
    }

    pub(super) fn list_images(&mut self, request: &ListImagesRequest) -> Answer<ListImagesResponse> {
        let wanted = name(request.filter.as_ref().and_then(|filter| filter.image.as_ref()));
        let images = match wanted {
            "" => self.images.values().cloned().collect(),
            wanted => self.find_image(wanted).cloned().into_iter().collect(),
        };
        Ok(ListImagesResponse { images })
    }

    pub(super) fn image_status(&mut self, request: &ImageStatusRequest) -> Answer<ImageStatusResponse> {
        let image = self.find_image(name(request.image.as_ref())).cloned();
        Ok(ImageStatusResponse { image, ..Default::default() })
    }

    pub(super) fn pull_image(&mut self, request: &PullImageRequest) -> Answer<PullImageResponse> {
        let name = name(request.image.as_ref());
        if name.is_empty() {
            return Err(Status::invalid_argument(
                "failed to parse image reference \"\": invalid reference format",
            ));
        }
        let pulled = image(name);
        let image_ref = pulled.id.clone();
        self.images.insert(pulled.id.clone(), pulled);
        Ok(PullImageResponse { image_ref })
    }

    pub(super) fn remove_image(&mut self, request: &RemoveImageRequest) -> Answer<RemoveImageResponse> {
        if let Some(id) = self.find_image(name(request.image.as_ref())).map(|image| image.id.clone()) {
            self.images.remove(&id);
        }
        Ok(RemoveImageResponse {})
    }

    pub(super) fn image_fs_info(&mut self, _: &ImageFsInfoRequest) -> Answer<ImageFsInfoResponse> {
        let images = self.images.len() as u64;
        let usage = FilesystemUsage {
            timestamp: self.now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: "/var/lib/fake-cri".into() }),
            used_bytes: Some(UInt64Value { value: images * SIZE }),
            inodes_used: Some(UInt64Value { value: images }),
        };
        Ok(ImageFsInfoResponse { image_filesystems: vec![usage], container_filesystems: Vec::new() })
    }
}
