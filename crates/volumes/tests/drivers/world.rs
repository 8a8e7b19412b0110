//! A node with a driver that really mounts; who has the objects is a fake.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use csi::{Drivers, Registrar};
use futures::future::{BoxFuture, ready};
use kube_model::core::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube_model::k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube_model::objects::{Kind, Object};
use kube_model::view::EventType;
use kube_model::{Monotonic, PodUid};
use serde_json::{Value, json};
use testkit::fake_csi::{Capability, CsiOptions, FakeCsi};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use volume_fs::MountTable;
use volume_plan::payload;
use volumes::{Content, ContentError, News, Settings, Storage, StorageError, Token, Volumes};

/// No step takes that long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const DRIVER: &str = "disk.csi.test";

/// Objects by their names; the driver's is called after it.
#[derive(Clone, Default)]
pub(crate) struct Objects(Arc<Mutex<BTreeMap<String, Value>>>);

impl Objects {
    pub(crate) fn set(&self, name: &str, value: Value) {
        self.0.lock().unwrap().insert(name.to_owned(), value);
    }

    pub(crate) fn driver(&self, spec: Value) {
        self.set(DRIVER, json!({"metadata": {"name": DRIVER}, "spec": spec}));
    }

    /// A claim `NAME` that is bound to a volume of the driver, `NAME-pv`, whose handle is `NAME-handle`.
    pub(crate) fn bind(&self, name: &str, spec: &Value, csi: &Value) {
        let volume = format!("{name}-pv");
        let uid = format!("{name}-uid");
        let claim = json!({"metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": "1"}, "spec": {"volumeName": volume}, "status": {"phase": "Bound"}});
        self.set(name, claim);
        let mut source =
            json!({"driver": DRIVER, "volumeHandle": format!("{name}-handle"), "fsType": "ext4"});
        source.as_object_mut().unwrap().extend(csi.as_object().unwrap().clone());
        let mut all = json!({"claimRef": {"uid": uid}, "accessModes": ["ReadWriteOnce"], "csi": source});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.set(&volume, json!({"metadata": {"name": volume}, "spec": all}));
    }

    /// Changes an object as the API server does, which counts its versions.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut all = self.0.lock().unwrap();
        let object = all.get_mut(name).unwrap();
        let version: u64 =
            object["metadata"]["resourceVersion"].as_str().map_or(1, |text| text.parse().unwrap());
        edit(object);
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    }

    /// A strategic merge patch of a claim's status.
    fn patch(&self, name: &str, patch: &Value) -> Result<(), StorageError> {
        let found: Value = self.get(name)?;
        let (has, wants) = (&found["metadata"]["resourceVersion"], &patch["metadata"]["resourceVersion"]);
        if !wants.is_null() && has != wants {
            return Err(StorageError("the object has been modified".to_owned()));
        }
        self.edit(name, |object| {
            let status = &mut object["status"];
            for (field, value) in patch["status"].as_object().unwrap() {
                let Some(conditions) = value.as_array() else {
                    merge(&mut status[field.as_str()], value);
                    continue;
                };
                let mut all = status[field.as_str()].as_array().cloned().unwrap_or_default();
                for condition in conditions {
                    all.retain(|has| has["type"] != condition["type"]);
                    all.extend((condition["$patch"] != "delete").then(|| condition.clone()));
                }
                status[field.as_str()] = json!(all);
            }
        });
        Ok(())
    }

    pub(crate) fn get<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, StorageError> {
        let found = self.0.lock().unwrap().get(name).cloned();
        let found = found.ok_or_else(|| StorageError(format!("{name:?} not found")))?;
        Ok(serde_json::from_value(found).unwrap())
    }
}

fn merge(object: &mut Value, patch: &Value) {
    if object.is_null() {
        *object = json!({});
    }
    let object = object.as_object_mut().unwrap();
    for (key, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => drop(object.remove(key)),
            value => drop(object.insert(key.clone(), value.clone())),
        }
    }
}

impl Storage for Objects {
    fn claim<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        Box::pin(ready(self.get(name)))
    }

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, StorageError>> {
        Box::pin(ready(self.get(name)))
    }

    fn csi_driver<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CSIDriver>, StorageError>> {
        Box::pin(ready(Ok(self.get(name).ok())))
    }

    fn attachment<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<VolumeAttachment, StorageError>> {
        Box::pin(ready(self.get(name)))
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, StorageError>> {
        Box::pin(ready(self.get(&format!("{namespace}/{name}"))))
    }

    fn patch_claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        patch: &'a Value,
    ) -> BoxFuture<'a, Result<PersistentVolumeClaim, StorageError>> {
        assert_eq!(namespace, "ns");
        Box::pin(ready(self.patch(name, patch).and_then(|()| self.get(name))))
    }

    fn tell(&self, claim: &PersistentVolumeClaim, _: EventType, reason: &'static str, message: String) {
        let name = claim.metadata.name.as_deref().unwrap();
        self.set("event", json!([name, reason, message]));
    }

    fn node(&self) -> Option<Arc<Node>> {
        None
    }
}

impl Content for Objects {
    fn object<'a>(
        &'a self,
        _: &'a Pod,
        _: Kind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Object>, ContentError>> {
        Box::pin(ready(Err(ContentError::NotFound(name.to_owned()))))
    }

    fn token<'a>(
        &'a self,
        _: &'a Pod,
        request: payload::Token<'a>,
    ) -> BoxFuture<'a, Result<Token, ContentError>> {
        let token = format!("token-for-{}-{:?}", request.audience, request.expiration_seconds);
        let expires = Some("2030-01-01T00:00:00Z".into());
        Box::pin(ready(Ok(Token { token: token.into(), expires, refresh_at: Instant::now() })))
    }
}

pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) objects: Objects,
    pub(crate) drivers: Drivers,
    pub(crate) volumes: Volumes,
    pub(crate) news: mpsc::Receiver<News>,
    /// Whether the cluster hears of volumes in use.
    pub(crate) hears: watch::Sender<bool>,
    pub(crate) stop: CancellationToken,
}

impl World {
    /// As a run of the agent that starts with what an earlier one has left.
    pub(crate) fn on(dir: PathBuf, objects: Objects) -> Self {
        let start = Instant::now();
        let drivers = Drivers::default();
        let settings = Settings {
            pods_dir: dir.join("pods"),
            plugins_dir: dir.join("plugins"),
            node_name: "node1".to_owned(),
            drivers: drivers.clone(),
            allocatable: Default::default(),
            file_label: Some("system_u:object_r:container_file_t:s0".to_owned()),
            sync_frequency: Duration::from_millis(50),
            now: Arc::new(move || Monotonic::after_start(start.elapsed())),
        };
        let (volumes, news) = Volumes::new(settings, Arc::new(objects.clone()), Arc::new(objects.clone()));
        let stop = CancellationToken::new();
        tokio::spawn(volumes.clone().run(stop.clone()));
        let (registrar, until) =
            (Registrar::new(dir.join("plugins_registry"), drivers.clone()), stop.clone());
        tokio::spawn(async move { until.run_until_cancelled(registrar.run()).await });
        let (hears, cluster, until) = (watch::Sender::new(true), volumes.clone(), stop.clone());
        let mut may_hear = hears.subscribe();
        let hear = async move {
            let mut in_use = cluster.in_use();
            while may_hear.wait_for(|may| *may).await.is_ok() {
                cluster.told_in_use(in_use.borrow_and_update().revision);
                if in_use.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(async move { until.run_until_cancelled(hear).await });
        Self { dir, objects, drivers, volumes, news, hears, stop }
    }

    /// With a driver that can do this and nothing needs to be attached for.
    pub(crate) async fn with(dir: PathBuf, capabilities: &[Capability]) -> (Self, FakeCsi) {
        let world = Self::on(dir, Objects::default());
        world.objects.driver(json!({"attachRequired": false}));
        let can = capabilities.iter().fold(CsiOptions::new(DRIVER), |options, can| options.can(*can));
        let driver = FakeCsi::start(can).unwrap();
        world.register(&driver).await;
        driver.forget_calls();
        (world, driver)
    }

    pub(crate) async fn register(&self, driver: &FakeCsi) {
        driver.register(&self.dir.join("plugins_registry")).unwrap();
        let mut changes = self.drivers.changes();
        let there = changes.wait_for(|drivers| drivers.contains_key(DRIVER));
        tokio::time::timeout(SOON, there).await.unwrap().unwrap();
    }

    pub(crate) fn restarted(self) -> Self {
        self.stop.cancel();
        Self::on(self.dir, self.objects)
    }

    pub(crate) async fn until_mounted(&mut self, pod: &Arc<Pod>) {
        while let Some(lacking) = self.volumes.desire(pod) {
            let told = tokio::time::timeout(SOON, self.news.recv()).await;
            told.unwrap_or_else(|_| panic!("still lacking: {lacking:?}")).unwrap();
        }
    }

    /// What the event about the next failure says.
    pub(crate) async fn failure(&mut self, pod: &Arc<Pod>) -> String {
        self.volumes.desire(pod);
        loop {
            let news = tokio::time::timeout(SOON, self.news.recv()).await.unwrap().unwrap();
            match news {
                News::FailedMount(_, message) | News::Event(_, _, "FailedMapVolume", message) => {
                    return message;
                }
                News::Wake(_) | News::Event(..) => {}
            }
        }
    }

    /// Waits until all volumes in use are known, and these are it.
    pub(crate) async fn until_in_use(&self, claims: &[&str]) {
        let want = claims.iter().map(|claim| format!("kubernetes.io/csi/{DRIVER}^{claim}-handle")).collect();
        let mut in_use = self.volumes.in_use();
        let waited = tokio::time::timeout(SOON, in_use.wait_for(|now| now.all && now.names == want)).await;
        assert!(waited.is_ok(), "wanted {want:?}, and it is {:?}", self.volumes.in_use().borrow());
    }

    pub(crate) fn volume_dir(&self, pod: &Pod, name: &str) -> PathBuf {
        self.dir.join("pods").join(uid(pod).as_str()).join("volumes/kubernetes.io~csi").join(name)
    }

    /// What is mounted below the folder, in the order of the paths.
    pub(crate) fn mounted(&self) -> Vec<PathBuf> {
        let table = MountTable::read().unwrap();
        let below = table.below(&self.dir).filter(|mount| mount.point != self.dir);
        let mut points: Vec<_> = below.map(|mount| mount.point.clone()).collect();
        points.sort();
        points
    }

    /// That nothing is left of volumes.
    pub(crate) fn assert_nothing_is_left(&self) {
        assert_eq!(self.mounted(), [] as [PathBuf; 0]);
        for dir in ["plugins/kubernetes.io/csi/disk.csi.test", "pods/a/volumes/kubernetes.io~csi"] {
            let left: Vec<_> = fs::read_dir(self.dir.join(dir)).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

pub(crate) fn uid(pod: &Pod) -> PodUid {
    PodUid::new(pod.metadata.uid.clone().unwrap())
}

pub(crate) fn pod_with(uid: &str, volume: &Value, context: &Value) -> Arc<Pod> {
    let mut source = json!({"name": "v"});
    source.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
    let pod = json!({
        "metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "spec": {
            "securityContext": context, "serviceAccountName": "sa", "volumes": [source],
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        },
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

pub(crate) fn pod(uid: &str, claim: &str) -> Arc<Pod> {
    pod_with(uid, &json!({"persistentVolumeClaim": {"claimName": claim}}), &json!({}))
}

/// One that has the volume of the claim as a device.
pub(crate) fn device_of(uid: &str, claim: &str) -> Arc<Pod> {
    let mut pod = (*pod(uid, claim)).clone();
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.volume_mounts = None;
    container.volume_devices =
        Some(serde_json::from_value(json!([{"name": "v", "devicePath": "/dev/v"}])).unwrap());
    Arc::new(pod)
}

pub(crate) fn inline(uid: &str, csi: Value) -> Arc<Pod> {
    let mut source = json!({"driver": DRIVER});
    source.as_object_mut().unwrap().extend(csi.as_object().unwrap().clone());
    pod_with(uid, &json!({"csi": source}), &json!({}))
}
