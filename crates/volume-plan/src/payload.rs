//! What stands in a volume that is made of content: ConfigMap, Secret, downward API, projected (upstream
//! `pkg/volume/{configmap,secret,downwardapi,projected}`).
//!
//! Nothing is copied: a [`FileSet`] borrows the bytes of the objects it is made of. The caller holds those (in an
//! `Arc`, once for all pods) while it writes the files, and keeps no set.

mod content;
mod downward;
mod file_set;
mod object;
mod projected;
#[cfg(test)]
mod tests;

use std::fmt;

pub use content::{Content, Facts, Found, Need, Secret};
pub use file_set::{Clash, File, FileSet, PathError};
pub use kube_model::objects::Kind;
pub use object::{Missing, Object};
pub use projected::{Token, only_user};

/// Why a volume has no content, in the kubelet's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadError {
    /// An object that may not be missing is.
    NotFound {
        /// ConfigMap or Secret.
        kind: Kind,
        /// Its name, in the pod's namespace.
        name: String,
    },
    /// An object could not be read; the whole sentence.
    Unreadable(String),
    /// An object does not have the key of an item.
    MissingKey {
        /// ConfigMap or Secret.
        kind: Kind,
        /// What the item asks for.
        key: String,
    },
    /// A file's path cannot be had below the volume.
    Path(PathError),
    /// The pod or the node has nothing to put into a file.
    Downward {
        /// The file's path.
        path: String,
        /// What is wrong with its source.
        problem: String,
    },
    /// A source that this agent does not build.
    NotBuilt(&'static str),
    /// Several sources fail, each for its reason.
    Several(Vec<PayloadError>),
}

impl PayloadError {
    /// One error of all: each reason once.
    fn all(errors: Vec<Self>) -> Result<(), Self> {
        let mut all: Vec<Self> = Vec::new();
        for error in errors {
            if !all.contains(&error) {
                all.push(error);
            }
        }
        match all.pop() {
            None => Ok(()),
            Some(only) if all.is_empty() => Err(only),
            Some(last) => {
                all.push(last);
                Err(Self::Several(all))
            }
        }
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { kind, name } => write!(f, "{kind} {name:?} not found"),
            Self::Unreadable(sentence) => f.write_str(sentence),
            Self::MissingKey { kind: Kind::ConfigMap, key } => {
                write!(f, "configmap references non-existent config key: {key}")
            }
            Self::MissingKey { kind: Kind::Secret, key } => {
                write!(f, "references non-existent secret key: {key}")
            }
            Self::Path(error) => error.fmt(f),
            Self::Downward { path, problem } => write!(f, "file {path:?}: {problem}"),
            Self::NotBuilt(source) => write!(f, "{source} projections are not supported yet"),
            Self::Several(errors) => {
                f.write_str("[")?;
                for (i, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl std::error::Error for PayloadError {}

impl From<PathError> for PayloadError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}
