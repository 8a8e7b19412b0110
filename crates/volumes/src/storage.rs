//! Objects of an API server that say what claims stand for, each asked for by its name: a node may read those that its
//! pods refer to, and watch none of them (upstream `plugin/pkg/auth/authorizer/node`).

use std::sync::Arc;

use futures::future::BoxFuture;
use kube_model::core::{Node, PersistentVolume, PersistentVolumeClaim};

/// Who has them. All calls may be dropped half-way, and ask anew each time.
pub trait Storage: Send + Sync + 'static {
    /// A claim.
    fn claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>>;

    /// A persistent volume.
    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, StorageError>>;

    /// This node, as it is known now.
    fn node(&self) -> Option<Arc<Node>>;
}

/// Why an object cannot be had now, in the words of the API server: `persistentvolumeclaims "a" not found`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);

/// Nobody has any: a node without an API server.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStorage;

impl Storage for NoStorage {
    fn claim<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        let why = format!("there is no API server that could have the claim {name:?}");
        Box::pin(std::future::ready(Err(StorageError(why))))
    }

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, StorageError>> {
        let why = format!("there is no API server that could have the volume {name:?}");
        Box::pin(std::future::ready(Err(StorageError(why))))
    }

    fn node(&self) -> Option<Arc<Node>> {
        None
    }
}
