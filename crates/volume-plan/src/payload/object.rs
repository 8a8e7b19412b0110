//! A ConfigMap or a Secret to files.

use std::collections::BTreeMap;
use std::fmt;

use kube_model::core::{ConfigMapVolumeSource, KeyToPath, SecretVolumeSource};
use kube_model::objects::Kind;

use super::file_set::DEFAULT_MODE;
use super::{File, FileSet, Found, PayloadError};

/// The content of a ConfigMap or Secret, held by the caller.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    /// `data`; of a Secret decoded.
    pub data: &'a BTreeMap<String, Vec<u8>>,
    /// `binaryData` of a ConfigMap, decoded.
    pub binary_data: &'a BTreeMap<String, Vec<u8>>,
}

/// Keys only: values may be secret.
impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("data", &self.data.keys())
            .field("binary_data", &self.binary_data.keys())
            .finish()
    }
}

/// Why there is no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// There is none of that name: an optional source goes without.
    NotFound,
    /// It could not be read; the whole sentence, shown as it is. No optional source goes without for that.
    Unreadable(String),
}

/// A source as the three kinds of volume that have it write it: `configMap`, `secret`, and those of `projected`.
pub(super) struct Source<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a str,
    pub(super) items: &'a [KeyToPath],
    pub(super) default_mode: i32,
    pub(super) optional: bool,
}

impl<'a> Source<'a> {
    pub(super) fn config_map(volume: &'a ConfigMapVolumeSource) -> Self {
        Self {
            kind: Kind::ConfigMap,
            name: &volume.name,
            items: volume.items.as_deref().unwrap_or_default(),
            default_mode: volume.default_mode.unwrap_or(DEFAULT_MODE),
            optional: volume.optional.unwrap_or(false),
        }
    }

    pub(super) fn secret(volume: &'a SecretVolumeSource) -> Self {
        Self {
            kind: Kind::Secret,
            name: volume.secret_name.as_deref().unwrap_or_default(),
            items: volume.items.as_deref().unwrap_or_default(),
            default_mode: volume.default_mode.unwrap_or(DEFAULT_MODE),
            optional: volume.optional.unwrap_or(false),
        }
    }

    /// Adds the source's files to `set`; without items, one for each key.
    ///
    /// # Errors
    /// What is missing and may not be, or a path. `set` has some of the files then.
    pub(super) fn add_to(&self, set: &mut FileSet<'a>, found: &Found<'a>) -> Result<(), PayloadError> {
        let &Self { kind, name, items, default_mode, optional } = self;
        let object = match found.objects.get(&(kind, name)) {
            Some(Ok(object)) => *object,
            Some(Err(Missing::NotFound)) if optional => return Ok(()),
            Some(Err(Missing::NotFound)) => {
                return Err(PayloadError::NotFound { kind, name: name.to_owned() });
            }
            Some(Err(Missing::Unreadable(sentence))) => {
                return Err(PayloadError::Unreadable(sentence.clone()));
            }
            None => return Err(PayloadError::Unreadable(format!("{kind} {name:?} was not looked up"))),
        };
        if items.is_empty() {
            // The API server refuses a key that stands in both; the kubelet has the binary one win.
            for (key, value) in object.data.iter().chain(object.binary_data) {
                set.insert(key.as_str(), File::new(value.as_slice(), default_mode))?;
            }
            return Ok(());
        }
        for item in items {
            match object.data.get(&item.key).or_else(|| object.binary_data.get(&item.key)) {
                Some(value) => {
                    let mode = item.mode.unwrap_or(default_mode);
                    set.insert(item.path.as_str(), File::new(value.as_slice(), mode))?;
                }
                None if optional => {}
                None => return Err(PayloadError::MissingKey { kind, key: item.key.clone() }),
            }
        }
        Ok(())
    }
}
