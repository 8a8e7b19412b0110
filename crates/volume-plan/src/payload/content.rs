//! The kinds of volume that are made of content, and what each needs from elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use kube_model::core::{
    ConfigMapVolumeSource, DownwardAPIVolumeSource, Pod, ProjectedVolumeSource, SecretVolumeSource, Volume,
};
use kube_model::downward::Allocatable;

use super::object::Source;
use super::projected::{Projection, projections};
use super::{FileSet, Kind, Missing, Object, PayloadError, Token, downward};

/// A volume that is made of content, as the pod has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content<'a> {
    /// `configMap`
    ConfigMap(&'a ConfigMapVolumeSource),
    /// `secret`
    Secret(&'a SecretVolumeSource),
    /// `downwardAPI`
    DownwardApi(&'a DownwardAPIVolumeSource),
    /// `projected`
    Projected(&'a ProjectedVolumeSource),
}

/// What the pod and the node are, for files that tell of them.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod, with the annotations that the kubelet gives it (`kubernetes.io/config.source`).
    pub pod: &'a Pod,
    /// Limits of containers that have none.
    pub allocatable: &'a Allocatable,
}

/// What content comes from beside the pod itself. All is in the pod's namespace, tokens are of its service account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need<'a> {
    /// A ConfigMap or a Secret, by its name.
    Object(Kind, &'a str),
    /// A service account token.
    Token(Token<'a>),
}

/// What the caller found of each [`Need`].
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// ConfigMaps and Secrets.
    pub objects: BTreeMap<(Kind, &'a str), Result<Object<'a>, Missing>>,
    /// Tokens, or why there is none: the whole sentence.
    pub tokens: BTreeMap<Token<'a>, Result<Secret<'a>, String>>,
}

/// Text that is not shown.
#[derive(Clone, Copy)]
pub struct Secret<'a>(pub &'a str);

impl std::fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<'a> Content<'a> {
    /// `None` for the other kinds of volume.
    pub fn of(volume: &'a Volume) -> Option<Self> {
        let Volume { config_map, secret, downward_api, projected, .. } = volume;
        let content = config_map.as_ref().map(Self::ConfigMap);
        let content = content.or(secret.as_ref().map(Self::Secret));
        let content = content.or(downward_api.as_ref().map(Self::DownwardApi));
        content.or(projected.as_ref().map(Self::Projected))
    }

    /// Whether the content lies in memory: all but a ConfigMap, which is on the disk as in the kubelet.
    pub fn in_memory(self) -> bool {
        !matches!(self, Self::ConfigMap(_))
    }

    /// What has to be looked up before [`Content::files`], each once.
    pub fn needs(self) -> BTreeSet<Need<'a>> {
        let object = |source: Source<'a>| Need::Object(source.kind, source.name);
        match self {
            Self::ConfigMap(volume) => [object(Source::config_map(volume))].into(),
            Self::Secret(volume) => [object(Source::secret(volume))].into(),
            Self::DownwardApi(_) => BTreeSet::new(),
            Self::Projected(volume) => projections(volume)
                .filter_map(|projection| match projection {
                    Projection::Object(source) => Some(object(source)),
                    Projection::Token { token, .. } => Some(Need::Token(token)),
                    Projection::Downward(_) | Projection::NotBuilt(_) => None,
                })
                .collect(),
        }
    }

    /// Whether the files tell of the pod itself, and so change with its labels, annotations or resources.
    pub fn tells_of_pod(self) -> bool {
        match self {
            Self::ConfigMap(_) | Self::Secret(_) => false,
            Self::DownwardApi(_) => true,
            Self::Projected(volume) => volume.sources.iter().flatten().any(|s| s.downward_api.is_some()),
        }
    }

    /// The files of the volume.
    ///
    /// # Errors
    /// All that is missing or wrong; there is no part of a volume.
    pub fn files(self, facts: Facts<'a>, found: &Found<'a>) -> Result<FileSet<'a>, PayloadError> {
        let mut set = FileSet::default();
        match self {
            Self::ConfigMap(volume) => Source::config_map(volume).add_to(&mut set, found)?,
            Self::Secret(volume) => Source::secret(volume).add_to(&mut set, found)?,
            Self::DownwardApi(volume) => {
                let items = volume.items.as_deref().unwrap_or_default();
                let default_mode = volume.default_mode.unwrap_or(super::file_set::DEFAULT_MODE);
                PayloadError::all(downward::add_to(&mut set, items, default_mode, facts))?;
            }
            Self::Projected(volume) => super::projected::add_to(&mut set, volume, facts, found)?,
        }
        Ok(set)
    }
}
