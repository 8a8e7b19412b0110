//! Claims that are bound, by their names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::{BoxFuture, ready};
use kube_model::core::{Node, PersistentVolume, PersistentVolumeClaim};
use kube_model::k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube_model::view::EventType;
use serde_json::{Value, json};
use volumes::{NoStorage, Storage, StorageError};

pub(crate) const DRIVER: &str = "disk.csi.test";

pub(crate) struct Claims {
    /// What the local volume is.
    pub(crate) local: PathBuf,
}

fn of<T: serde::de::DeserializeOwned + Send + 'static>(
    object: Value,
) -> BoxFuture<'static, Result<T, StorageError>> {
    Box::pin(ready(Ok(serde_json::from_value(object).unwrap())))
}

impl Storage for Claims {
    fn claim<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        let (metadata, spec) = (json!({"name": name, "uid": "c"}), json!({"volumeName": name}));
        of(json!({"metadata": metadata, "spec": spec, "status": {"phase": "Bound"}}))
    }

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, StorageError>> {
        let mut spec = json!({"claimRef": {"uid": "c"}, "accessModes": ["ReadWriteOnce"]});
        match name {
            "local" => spec["local"] = json!({"path": self.local}),
            _ => spec["csi"] = json!({"driver": DRIVER, "volumeHandle": name}),
        }
        if name == "device" {
            spec["volumeMode"] = json!("Block");
        }
        of(json!({"metadata": {"name": name}, "spec": spec}))
    }

    fn csi_driver<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CSIDriver>, StorageError>> {
        of(json!({"metadata": {"name": name}, "spec": {"attachRequired": false}}))
    }

    fn attachment<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<VolumeAttachment, StorageError>> {
        NoStorage.attachment(name)
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, StorageError>> {
        NoStorage.secret(namespace, name)
    }

    fn patch_claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        patch: &'a Value,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        NoStorage.patch_claim(namespace, name, patch)
    }

    fn tell(&self, _: &PersistentVolumeClaim, _: EventType, _: &'static str, _: String) {}

    fn node(&self) -> Option<Arc<Node>> {
        None
    }
}
