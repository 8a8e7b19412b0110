//! What claims stand for, where the agent has it: the API server's objects, and this node's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::volumes::{Storage, StorageError};
use apiserver_sync::events::Recorder;
use apiserver_sync::storage;
use futures::future::BoxFuture;
use kube_model::core::{Node, PersistentVolume, PersistentVolumeClaim};
use kube_model::k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube_model::view::EventType;
use serde_json::Value;
use tokio::sync::watch;

/// The API server's.
pub struct ApiStorage {
    /// Who asks for them.
    pub objects: storage::Storage,
    /// Who records events about them.
    pub recorder: Recorder,
    /// This node, as the watch of it says.
    pub node: watch::Receiver<Option<Arc<Node>>>,
}

impl Storage for ApiStorage {
    fn claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        Box::pin(async move {
            self.objects.claim(namespace, name).await.map_err(|error| StorageError(error.to_string()))
        })
    }

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, StorageError>> {
        Box::pin(
            async move { self.objects.volume(name).await.map_err(|error| StorageError(error.to_string())) },
        )
    }

    fn csi_driver<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CSIDriver>, StorageError>> {
        Box::pin(async move {
            self.objects.csi_driver(name).await.map_err(|error| StorageError(error.to_string()))
        })
    }

    fn attachment<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<VolumeAttachment, StorageError>> {
        Box::pin(async move {
            self.objects.attachment(name).await.map_err(|error| StorageError(error.to_string()))
        })
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, StorageError>> {
        Box::pin(async move {
            self.objects.secret(namespace, name).await.map_err(|error| StorageError(error.to_string()))
        })
    }

    fn patch_claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        patch: &'a Value,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        Box::pin(async move {
            let patched = self.objects.patch_claim(namespace, name, patch).await;
            patched.map_err(|error| StorageError(error.to_string()))
        })
    }

    fn tell(&self, claim: &PersistentVolumeClaim, kind: EventType, reason: &'static str, message: String) {
        self.recorder.claim(claim, kind, reason, message);
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.node.borrow().clone()
    }
}
