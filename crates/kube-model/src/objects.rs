//! ConfigMaps and Secrets as those see them who use their content: variables, volumes, image pulls.
//!
//! One type whoever has the object, the API server or a manifest of this node, so that what is made of it is written
//! once, and held once however many pods use it.

mod references;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use references::{references, required};

/// The two kinds, shown as the API server names them in its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `configmaps`
    ConfigMap,
    /// `secrets`
    Secret,
}

impl Kind {
    /// The word in a path of the API.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }

    /// As an object of the kind names itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        })
    }
}

/// One object, shown as `secret "shop/password"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// ConfigMap or Secret.
    pub kind: Kind,
    /// That of the pod.
    pub namespace: Arc<str>,
    /// As the pod refers to it.
    pub name: Arc<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}/{}\"", self.kind, self.namespace, self.name)
    }
}

/// The content of a ConfigMap or Secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// Of a Secret its type (`kubernetes.io/dockerconfigjson`), else empty.
    pub kind: String,
    /// `data`; of a Secret decoded.
    pub data: BTreeMap<String, Vec<u8>>,
    /// `binaryData` of a ConfigMap, decoded: for volumes; variables do not see it.
    pub binary_data: BTreeMap<String, Vec<u8>>,
    /// Whether it can never change; it is not watched any more then.
    pub immutable: bool,
}

/// Keys only: values are secret.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("kind", &self.kind)
            .field("data", &self.data.keys())
            .field("binary_data", &self.binary_data.keys())
            .field("immutable", &self.immutable)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_shown() {
        let object = Object {
            kind: String::new(),
            data: [("key".to_owned(), b"very-secret".to_vec())].into(),
            binary_data: [("more".to_owned(), b"very-secret".to_vec())].into(),
            immutable: false,
        };
        let shown = format!("{object:?}");
        assert!(shown.contains("key") && shown.contains("more"), "{shown}");
        assert!(!shown.contains("very-secret") && !shown.contains("118"), "{shown}");
    }
}
