//! Objects of the API server that variables come from. The caller looks them up; what follows from what it found
//! is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube_model::core::{Container, EnvVarSource};
pub use kube_model::objects::Kind;

/// `data` of an object by key, that of a Secret decoded. `binaryData` gives no variables.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Why there is no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// There is no such object: an optional reference goes without.
    NotFound,
    /// It could not be read; the whole sentence, shown as it is. No optional reference goes without for that.
    Unreadable(String),
}

/// What the caller found for one container.
pub struct References<'a> {
    /// The variables that tell of services; the container's own are stronger.
    pub services: &'a BTreeMap<String, String>,
    /// Each of [`references`].
    pub objects: BTreeMap<(Kind, &'a str), Result<&'a Data, Missing>>,
    /// Each of [`files`], as far as it could be read; else why not, the whole sentence.
    pub files: BTreeMap<FileKey<'a>, Result<Option<&'a [u8]>, Missing>>,
}

/// One value of a file in a volume (`fileKeyRef`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileKey<'a> {
    /// The volume's name.
    pub volume: &'a str,
    /// Below the volume.
    pub path: &'a str,
    /// In the file.
    pub key: &'a str,
}

/// Names only: values are secret.
impl fmt::Debug for References<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("References")
            .field("services", &self.services.keys())
            .field("objects", &self.objects.keys())
            .field("files", &self.files.keys())
            .finish()
    }
}

/// The objects that the container's `envFrom` and `env` need, each once. All are in the pod's namespace.
pub fn references(container: &Container) -> BTreeSet<(Kind, &str)> {
    let mut all = BTreeSet::new();
    for from in container.env_from.iter().flatten() {
        all.extend(from.config_map_ref.as_ref().map(|r| (Kind::ConfigMap, r.name.as_str())));
        all.extend(from.secret_ref.as_ref().map(|r| (Kind::Secret, r.name.as_str())));
    }
    for source in sources(container) {
        all.extend(source.config_map_key_ref.as_ref().map(|r| (Kind::ConfigMap, r.name.as_str())));
        all.extend(source.secret_key_ref.as_ref().map(|r| (Kind::Secret, r.name.as_str())));
    }
    all
}

/// The values of files that the container's `env` needs, each once.
pub fn files(container: &Container) -> BTreeSet<FileKey<'_>> {
    let files = sources(container).filter_map(|source| source.file_key_ref.as_ref());
    files.map(|file| FileKey { volume: &file.volume_name, path: &file.path, key: &file.key }).collect()
}

/// A value of its own is stronger than any source.
fn sources(container: &Container) -> impl Iterator<Item = &EnvVarSource> {
    let variables = container.env.iter().flatten();
    let without_value = variables.filter(|var| var.value.as_deref().unwrap_or_default().is_empty());
    without_value.filter_map(|var| var.value_from.as_ref())
}
