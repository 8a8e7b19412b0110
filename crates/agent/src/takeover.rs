//! Static pods that another kubelet left running: asks the runtime which of them the manifests mean, and keeps on disk by
//! which UID each pod of a manifest goes.
//!
//! The decision itself is [`cri_config::takeover`]. Owns the file `podsource/uids.json` in the root folder, which no other
//! kubelet reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::{
    ContainerStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxStatusRequest,
};
use cri_client::{Client, Error};
use cri_config::paths::{pod_dir, pods_dir};
use cri_config::takeover::{self, Difference, Running};
use kube_model::core::Pod;
use kube_model::{PodUid, pod};
use podsource::{Mux, file, http};
use serde::{Deserialize, Serialize};

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

/// What is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// By which UID a pod goes, by the UID that its manifest gives it, by its source.
    uids: BTreeMap<String, BTreeMap<String, String>>,
    /// The UIDs of pods that were wanted before, and of which something may still be here.
    former: BTreeSet<String>,
}

/// Knows by which UIDs pods of manifests go.
#[derive(Debug)]
pub(crate) struct Takeover {
    client: Client,
    root_dir: PathBuf,
    file: PathBuf,
    kept: Kept,
}

impl Takeover {
    /// With what an earlier run of the agent kept in `root_dir`.
    pub(crate) fn new(client: Client, root_dir: &Path) -> Self {
        let file = root_dir.join("podsource").join("uids.json");
        let kept = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!("{} is not used: {}", file.display(), util::causes(&error));
                Kept::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::default(),
            Err(error) => {
                tracing::warn!("{} cannot be read: {}", file.display(), util::causes(&error));
                Kept::default()
            }
        };
        Self { client, root_dir: root_dir.to_owned(), file, kept }
    }

    /// By which UIDs these pods of `source` go. Where a folder may be of a pod that another kubelet left running, asks the
    /// runtime until it answers; may be dropped and asked again.
    pub(crate) async fn uids(&self, source: &str, pods: &[Arc<Pod>]) -> Vec<(PodUid, PodUid)> {
        let usual: Vec<_> = pods.iter().map(|pod| pod::identity(pod).0).collect();
        let usual: Vec<_> = usual.into_iter().map(|own| (own.clone(), self.usual(source, &own))).collect();
        if !self.is_any_left(&usual).await {
            return usual;
        }
        let mut told = false;
        loop {
            match self.ask(source, pods).await {
                Ok(uids) => return uids,
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(
                        error = util::causes(&error),
                        "The pods of {source} wait for the runtime to tell which of them another kubelet left running"
                    );
                }
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What a pod of `source` goes by, unless it runs under another UID.
    fn usual(&self, source: &str, own: &PodUid) -> PodUid {
        let kept = self.kept.uids.get(source).and_then(|kept| kept.get(own.as_str()));
        kept.map_or_else(|| own.clone(), |uid| PodUid::from(uid.as_str()))
    }

    /// Whether there is a folder of a pod whose UID another kubelet may have made of a manifest.
    async fn is_any_left(&self, usual: &[(PodUid, PodUid)]) -> bool {
        let dir = pods_dir(&self.root_dir);
        let listed = tokio::task::spawn_blocking(move || {
            let folders = std::fs::read_dir(dir).into_iter().flatten().flatten();
            folders.map(|folder| PodUid::new(folder.file_name().to_string_lossy())).collect::<Vec<_>>()
        });
        let known = |uid: &PodUid| usual.iter().any(|(own, usual)| uid == own || uid == usual);
        let left = |uid: &PodUid| is_hash(uid) && !known(uid) && !self.was_given(uid);
        // Else the agent is going down.
        listed.await.is_ok_and(|found| found.iter().any(left))
    }

    /// Whether this agent has given the UID to a pod.
    fn was_given(&self, uid: &PodUid) -> bool {
        let given = self.kept.uids.values().flat_map(BTreeMap::values);
        given.chain(&self.kept.former).any(|given| given == uid.as_str())
    }

    async fn ask(&self, source: &str, pods: &[Arc<Pod>]) -> Result<Vec<(PodUid, PodUid)>, Error> {
        let (sandboxes, containers) = futures::try_join!(
            self.client.list_pod_sandbox(ListPodSandboxRequest::default()),
            self.client.list_containers(ListContainersRequest::default()),
        )?;
        let running = takeover::running(&sandboxes.items, &containers.containers);
        let mut uids = Vec::new();
        for pod in pods {
            let (own, key) = pod::identity(pod);
            let usual = self.usual(source, &own);
            let left = running.get(&key).filter(|left| self.may_be(left, &own, &usual));
            let uid = match left {
                Some(left) => self.compare(pod, left).await.unwrap_or(usual),
                None => usual,
            };
            uids.push((own, uid));
        }
        Ok(uids)
    }

    /// Whether what runs may be the same pod under a UID that another kubelet made of its manifest: neither this agent
    /// nor a manifest gave it the UID, and it is of this root folder.
    fn may_be(&self, left: &Running<'_>, own: &PodUid, usual: &PodUid) -> bool {
        left.uid != *usual
            && is_hash(own)
            && is_hash(&left.uid)
            && !self.was_given(&left.uid)
            && pod_dir(&self.root_dir, &left.uid).is_dir()
    }

    /// The UID of what runs, if nothing tells that it is not the pod.
    async fn compare(&self, pod: &Pod, left: &Running<'_>) -> Option<PodUid> {
        let (_, key) = pod::identity(pod);
        let difference = match takeover::as_listed(pod, left) {
            Some(difference) => Some(difference),
            // What one pod's status does not tell holds up no other, and ends nothing.
            None => self.look_closer(pod, left).await.unwrap_or_else(|error| {
                tracing::warn!(pod = %key, error = util::causes(&error), "Not all that runs can be compared with its manifest");
                None
            }),
        };
        let Some(Difference { field, running, wanted }) = difference else {
            tracing::info!(pod = %key, uid = %left.uid, "runs as its manifest says, and is taken over with its UID");
            return Some(left.uid.clone());
        };
        tracing::warn!(pod = %key, uid = %left.uid, field, running, wanted, "runs, but not as its manifest says: {field} differs; it is replaced");
        None
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
            if self.kept.uids.get(source).map_or(names.is_empty(), |kept| *kept == names) {
                continue;
            }
            let before = self.kept.uids.insert(source.to_owned(), names);
            self.kept.former.extend(before.into_iter().flat_map(BTreeMap::into_values));
            changed = true;
        }
        if !changed {
            return;
        }
        let Kept { uids, former } = &mut self.kept;
        former.retain(|uid| uids.values().flat_map(BTreeMap::values).all(|wanted| wanted != uid));
        let (file, root_dir, of_files) = (self.file.clone(), self.root_dir.clone(), former.clone());
        let gone = tokio::task::spawn_blocking(move || {
            of_files
                .into_iter()
                .filter(|uid| !pod_dir(&root_dir, &PodUid::from(uid.as_str())).exists())
                .collect()
        });
        let gone: Vec<String> = gone.await.unwrap_or_default();
        former.retain(|uid| !gone.contains(uid));
        let kept = serde_json::json!(self.kept).to_string();
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
