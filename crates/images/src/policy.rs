//! When to ask the registry.

use kube_model::core::{Container, ImageVolumeSource};

use crate::with_default_tag;

/// `imagePullPolicy`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At each start of a container.
    Always,
    /// When the image is not on the node.
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// The policy of a container. Where it has none, the API's default: `Always` for the tag `latest`, given or
    /// implied, else `IfNotPresent`.
    pub fn of(container: &Container) -> Self {
        Self::new(container.image_pull_policy.as_deref(), container.image.as_deref())
    }

    /// The policy of an image that is a volume, with the same default.
    pub fn of_volume(volume: &ImageVolumeSource) -> Self {
        Self::new(volume.pull_policy.as_deref(), volume.reference.as_deref())
    }

    fn new(policy: Option<&str>, image: Option<&str>) -> Self {
        match policy {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ => match with_default_tag(image.unwrap_or_default()) {
                Ok(image) if image.ends_with(":latest") => Self::Always,
                _ => Self::IfNotPresent,
            },
        }
    }
}
