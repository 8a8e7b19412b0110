//! Objects of an API server that say what claims stand for, each asked for by its name: a node may read those that its
//! pods refer to, and watch none of them (upstream `plugin/pkg/auth/authorizer/node`).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube_model::core::{Node, PersistentVolume, PersistentVolumeClaim};
use kube_model::k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube_model::view::EventType;
use serde_json::Value;

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

    /// What the cluster says of a CSI driver, which is nothing of some.
    fn csi_driver<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CSIDriver>, StorageError>>;

    /// That a volume is attached to this node.
    fn attachment<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<VolumeAttachment, StorageError>>;

    /// What is in a Secret for a CSI driver. Not to be logged.
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, StorageError>>;

    /// Strategic merge patch of a claim's status; the answer is the claim after it.
    fn patch_claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        patch: &'a Value,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>>;

    /// Records an event about a claim.
    fn tell(&self, claim: &PersistentVolumeClaim, kind: EventType, reason: &'static str, message: String);

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

    fn csi_driver<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CSIDriver>, StorageError>> {
        let why = format!("there is no API server that could tell of the CSI driver {name:?}");
        Box::pin(std::future::ready(Err(StorageError(why))))
    }

    fn attachment<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<VolumeAttachment, StorageError>> {
        let why = format!("there is no API server that could have the attachment {name:?}");
        Box::pin(std::future::ready(Err(StorageError(why))))
    }

    fn secret<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, StorageError>> {
        let why = format!("there is no API server that could have the secret {name:?}");
        Box::pin(std::future::ready(Err(StorageError(why))))
    }

    fn patch_claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        _: &'a Value,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        self.claim(namespace, name)
    }

    fn tell(&self, _: &PersistentVolumeClaim, _: EventType, _: &'static str, _: String) {}

    fn node(&self) -> Option<Arc<Node>> {
        None
    }
}
