//! Static pods that another kubelet left running: asks the runtime which of them the manifests mean, and keeps on disk by
//! which UID each pod of a manifest goes.
//!
//! The decision itself is [`cri_config::takeover`]. Owns the file `podsource/uids.json` in the root folder, which no other
//! kubelet reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::{
    ContainerStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxStatusRequest,
};
use cri_client::{Client, Error};
use cri_config::paths::pod_dir;
use cri_config::takeover::{self, Difference, Running};
use kube_model::core::Pod;
use kube_model::{PodUid, pod};
use podsource::{Mux, file, http};

/// The sources of static pods whose UIDs are made of manifests.
pub(crate) const SOURCES: [&str; 2] = [file::SOURCE, http::SOURCE];

/// How long to wait before a runtime that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// What the Go kubelet keeps in its root folder for itself. It checks it against what there is when it starts again.
const OF_THE_GO_KUBELET: [&str; 8] = [
    "cpu_manager_state",
    "memory_manager_state",
    "allocated_pods_state",
    "actuated_pods_state",
    "image_manager",
    "device-plugins/kubelet_internal_checkpoint",
    "dra_manager_state",
    "graceful_node_shutdown_state",
];

/// Says what of the Go kubelet's own state is here: it is neither used nor touched.
pub(crate) fn tell_of_state(root_dir: &Path) {
    let there = OF_THE_GO_KUBELET.into_iter().filter(|name| root_dir.join(name).exists());
    let there = there.collect::<Vec<_>>().join(", ");
    if !there.is_empty() {
        tracing::info!(
            "{} has state of another kubelet, which is left as it is: {there}",
            root_dir.display()
        );
    }
}

/// By which UID a pod goes, by the UID that its manifest gives it, by its source.
type Uids = BTreeMap<String, BTreeMap<String, String>>;

/// Knows by which UIDs pods of manifests go.
#[derive(Debug)]
pub(crate) struct Takeover {
    client: Client,
    root_dir: PathBuf,
    file: PathBuf,
    kept: Uids,
}

impl Takeover {
    /// With what an earlier run of the agent kept in `root_dir`.
    pub(crate) fn new(client: Client, root_dir: &Path) -> Self {
        let file = root_dir.join("podsource").join("uids.json");
        let kept = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!("{} is not used: {}", file.display(), util::causes(&error));
                Uids::new()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Uids::new(),
            Err(error) => {
                tracing::warn!("{} cannot be read: {}", file.display(), util::causes(&error));
                Uids::new()
            }
        };
        Self { client, root_dir: root_dir.to_owned(), file, kept }
    }

    /// By which UIDs these pods of `source` go. Asks the runtime until it answers; may be dropped and asked again.
    pub(crate) async fn uids(&self, source: &str, pods: &[Arc<Pod>]) -> Vec<(PodUid, PodUid)> {
        loop {
            match self.ask(source, pods).await {
                Ok(uids) => return uids,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn ask(&self, source: &str, pods: &[Arc<Pod>]) -> Result<Vec<(PodUid, PodUid)>, Error> {
        if pods.is_empty() {
            return Ok(Vec::new());
        }
        let (sandboxes, containers) = futures::try_join!(
            self.client.list_pod_sandbox(ListPodSandboxRequest::default()),
            self.client.list_containers(ListContainersRequest::default()),
        )?;
        let running = takeover::running(&sandboxes.items, &containers.containers);
        let mut uids = Vec::new();
        for pod in pods {
            let (own, key) = pod::identity(pod);
            let kept = self
                .kept
                .get(source)
                .and_then(|kept| kept.get(own.as_str()))
                .map(|uid| PodUid::from(uid.as_str()));
            let usual = kept.unwrap_or_else(|| own.clone());
            let left = running.get(&key).filter(|left| self.may_be(left, &own, &usual));
            let uid = match left {
                Some(left) => self.compare(pod, left).await?.unwrap_or(usual),
                None => usual,
            };
            uids.push((own, uid));
        }
        Ok(uids)
    }

    /// Whether what runs may be the same pod under a UID that another kubelet made of its manifest: neither this agent
    /// nor a manifest gave it the UID, and it is of this root folder.
    fn may_be(&self, left: &Running<'_>, own: &PodUid, usual: &PodUid) -> bool {
        let given = self.kept.values().flat_map(BTreeMap::values).any(|uid| uid == left.uid.as_str());
        left.uid != *usual
            && is_hash(own)
            && is_hash(&left.uid)
            && !given
            && pod_dir(&self.root_dir, &left.uid).is_dir()
    }

    /// The UID of what runs, if nothing tells that it is not the pod.
    async fn compare(&self, pod: &Pod, left: &Running<'_>) -> Result<Option<PodUid>, Error> {
        let (_, key) = pod::identity(pod);
        let difference = match takeover::as_listed(pod, left) {
            Some(difference) => Some(difference),
            None => self.look_closer(pod, left).await?,
        };
        let Some(Difference { field, running, wanted }) = difference else {
            tracing::info!(pod = %key, uid = %left.uid, "runs as its manifest says, and is taken over with its UID");
            return Ok(Some(left.uid.clone()));
        };
        tracing::warn!(pod = %key, uid = %left.uid, field, running, wanted, "runs, but not as its manifest says: {field} differs; it is replaced");
        Ok(None)
    }

    /// Asks for what the lists do not tell. What is gone by now tells nothing.
    async fn look_closer(&self, pod: &Pod, left: &Running<'_>) -> Result<Option<Difference>, Error> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: left.sandbox.id.clone(), verbose: false };
        let status = match self.client.pod_sandbox_status(request).await {
            Err(error) if error.is_not_found() => None,
            answer => answer?.status,
        };
        if let Some(difference) = status.and_then(|status| takeover::in_namespaces(pod, &status)) {
            return Ok(Some(difference));
        }
        let Some(spec) = &pod.spec else { return Ok(None) };
        for (_, container) in pod::containers(spec) {
            let Some(running) = left.containers.get(&*container.name) else { continue };
            let request = ContainerStatusRequest { container_id: running.id.clone(), verbose: true };
            let answer = match self.client.container_status(request).await {
                Err(error) if error.is_not_found() => continue,
                answer => answer?,
            };
            let info = answer.info.get("info");
            if let Some(difference) = info.and_then(|info| takeover::as_made(container, info)) {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    /// Keeps by which UIDs the pods go now.
    pub(crate) async fn keep(&mut self, mux: &Mux) {
        let mut changed = false;
        for source in
            SOURCES.into_iter().filter(|source| mux.pods().awaited().all(|awaited| awaited != *source))
        {
            let names = mux.names(source).into_iter();
            let names: BTreeMap<_, _> = names.map(|(own, uid)| (own.to_string(), uid.to_string())).collect();
            if self.kept.get(source).map_or(names.is_empty(), |kept| *kept == names) {
                continue;
            }
            self.kept.insert(source.to_owned(), names);
            changed = true;
        }
        if !changed {
            return;
        }
        let (file, kept) = (self.file.clone(), serde_json::json!(self.kept).to_string());
        let written = tokio::task::spawn_blocking(move || write(&file, &kept));
        // Not written when the agent is going down, either: one that starts asks the runtime again.
        if let Ok(Err(error)) = written.await {
            tracing::warn!("{} cannot be written: {}", self.file.display(), util::causes(&error));
        }
    }
}

/// Whole or not at all.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(&partial, file)
}

/// Whether a UID may be one that a kubelet made of a manifest.
fn is_hash(uid: &PodUid) -> bool {
    let uid = uid.as_str();
    uid.len() == 32 && uid.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
