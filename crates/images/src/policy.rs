//! When to ask the registry.

use kube_model::core::Container;

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
        match container.image_pull_policy.as_deref() {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ => match with_default_tag(container.image.as_deref().unwrap_or_default()) {
                Ok(image) if image.ends_with(":latest") => Self::Always,
                _ => Self::IfNotPresent,
            },
        }
    }
}
