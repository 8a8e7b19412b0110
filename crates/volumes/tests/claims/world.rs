//! A node whose volumes are real; who has its claims is a fake.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, ready};
use kube_model::core::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube_model::k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube_model::view::EventType;
use kube_model::{Monotonic, PodUid};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use volume_fs::MountTable;
use volumes::{News, NoContent, NoStorage, Settings, Storage, StorageError, Volumes};

/// No step takes that long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Claims and volumes by their names.
#[derive(Clone, Default)]
pub(crate) struct Objects(Arc<Mutex<BTreeMap<String, Value>>>);

impl Objects {
    pub(crate) fn set(&self, name: &str, value: Value) {
        self.0.lock().unwrap().insert(name.to_owned(), value);
    }

    /// A claim and the volume that it is bound to: `NAME` and `NAME-pv`.
    pub(crate) fn bind(&self, name: &str, spec: Value) {
        let volume = format!("{name}-pv");
        self.set(name, claim(name, "Bound"));
        let mut all = json!({"claimRef": {"uid": format!("{name}-uid")}, "accessModes": ["ReadWriteOnce"]});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.set(&volume, json!({"metadata": {"name": volume}, "spec": all}));
    }

    fn get<T: serde::de::DeserializeOwned>(&self, plural: &str, name: &str) -> Result<T, StorageError> {
        let found = self.0.lock().unwrap().get(name).cloned();
        let found = found.ok_or_else(|| StorageError(format!("{plural} {name:?} not found")))?;
        Ok(serde_json::from_value(found).unwrap())
    }
}

pub(crate) fn claim(name: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": {"volumeName": format!("{name}-pv")},
        "status": {"phase": phase}})
}

impl Storage for Objects {
    fn claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        assert_eq!(namespace, "ns");
        Box::pin(ready(self.get("persistentvolumeclaims", name)))
    }

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, StorageError>> {
        Box::pin(ready(self.get("persistentvolumes", name)))
    }

    fn csi_driver<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CSIDriver>, StorageError>> {
        let object = json!({"metadata": {"name": name}, "spec": {"attachRequired": false}});
        Box::pin(ready(Ok(Some(serde_json::from_value(object).unwrap()))))
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
        let labels = json!({"metadata": {"labels": {"kubernetes.io/hostname": "node1"}}});
        Some(Arc::new(serde_json::from_value(labels).unwrap()))
    }
}

pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) objects: Objects,
    pub(crate) volumes: Volumes,
    news: mpsc::Receiver<News>,
    pub(crate) stop: CancellationToken,
}

impl World {
    /// As a run of the agent that starts with what an earlier one has left.
    pub(crate) fn on(dir: PathBuf, objects: Objects) -> Self {
        let start = Instant::now();
        let settings = Settings {
            pods_dir: dir.join("pods"),
            plugins_dir: dir.join("plugins"),
            node_name: "node1".to_owned(),
            drivers: csi::Drivers::default(),
            allocatable: Default::default(),
            file_label: None,
            sync_frequency: Duration::from_secs(60),
            now: Arc::new(move || Monotonic::after_start(start.elapsed())),
        };
        let (volumes, news) = Volumes::new(settings, Arc::new(NoContent), Arc::new(objects.clone()));
        let stop = CancellationToken::new();
        tokio::spawn(volumes.clone().run(stop.clone()));
        Self { dir, objects, volumes, news, stop }
    }

    pub(crate) fn new(dir: PathBuf) -> Self {
        Self::on(dir, Objects::default())
    }

    pub(crate) fn restarted(self) -> Self {
        self.stop.cancel();
        Self::on(self.dir, self.objects)
    }

    pub(crate) async fn news(&mut self) -> News {
        tokio::time::timeout(SOON, self.news.recv()).await.unwrap().unwrap()
    }

    /// Looks again at each news until the pod lacks nothing.
    pub(crate) async fn until_mounted(&mut self, pod: &Arc<Pod>) {
        while let Some(lacking) = self.volumes.desire(pod) {
            let told = tokio::time::timeout(SOON, self.news.recv()).await;
            told.unwrap_or_else(|_| panic!("still lacking: {lacking:?}")).unwrap();
        }
    }

    /// What the event about the next failure says.
    pub(crate) async fn failure(&mut self, pod: &Arc<Pod>) -> String {
        assert!(self.volumes.desire(pod).is_some(), "nothing is lacking");
        loop {
            if let News::FailedMount(_, message) = self.news().await {
                return message;
            }
        }
    }

    pub(crate) fn host_path(&self, pod: &Pod) -> PathBuf {
        self.volumes.host_path(&uid(pod), &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0]).unwrap()
    }

    /// Whether something is mounted there.
    pub(crate) fn at(&self, path: &str) -> bool {
        self.mounted().iter().any(|point| point == path)
    }

    /// What is mounted below the folder, in the order of the paths.
    pub(crate) fn mounted(&self) -> Vec<String> {
        let table = MountTable::read().unwrap();
        let below = table.below(&self.dir).filter(|mount| mount.point != self.dir);
        let mut points: Vec<_> =
            below.map(|mount| mount.point.strip_prefix(&self.dir).unwrap().display().to_string()).collect();
        points.sort();
        points
    }
}

pub(crate) fn uid(pod: &Pod) -> PodUid {
    PodUid::new(pod.metadata.uid.clone().unwrap())
}

/// A pod with one volume, `v`, that its container uses by `field`.
pub(crate) fn pod_with(uid: &str, volume: &Value, field: &str, context: &Value) -> Arc<Pod> {
    let mut source = json!({"name": "v"});
    source.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
    let used = match field {
        "volumeDevices" => json!([{"name": "v", "devicePath": "/dev/v"}]),
        _ => json!([{"name": "v", "mountPath": "/v"}]),
    };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "ns", "uid": uid},
            "spec": {"securityContext": context, "containers": [{"name": "c", field: used}], "volumes": [source]},
        }))
        .unwrap(),
    )
}

pub(crate) fn pod(uid: &str, claim: &str) -> Arc<Pod> {
    pod_with(uid, &json!({"persistentVolumeClaim": {"claimName": claim}}), "volumeMounts", &json!({}))
}
