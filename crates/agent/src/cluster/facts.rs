//! What the Node tells of this machine, measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::{ImageFsInfoRequest, ListImagesRequest, StatusRequest};
use kube_model::Monotonic;
use kube_model::core::{ContainerImage, NodeRuntimeHandler, NodeRuntimeHandlerFeatures};
use kube_model::eviction::SignalObservations;
use kube_model::view::RuntimeView;
use node_reporter::{Facts, Hardware, Machine, RuntimeFacts, VolumesInUse};
use pod_workers::Clock;
use stats::{available, machine};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use volumes::{InUse, Volumes};

use super::Parts;
use crate::settings::CGROUP_MOUNT;

/// How long a list of images is good for: the kubelet's image manager lists as often.
const IMAGES: Duration = Duration::from_secs(30);

/// Longest time for one question to the runtime.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a runtime that does not answer counts as what it was last, as the kubelet has it (upstream
/// `pkg/kubelet/kubelet.go`). It is given as long for its first answer.
const SILENCE: Duration = Duration::from_secs(30);

pub(crate) struct NodeFacts {
    changes: watch::Receiver<u64>,
    runtime: cri_client::Client,
    runtime_view: watch::Receiver<RuntimeView<Monotonic>>,
    clock: Clock,
    node: watch::Receiver<Arc<pod_workers::NodeState>>,
    root_dir: PathBuf,
    hardware: Hardware,
    volumes: Volumes,
    volumes_in_use: watch::Receiver<InUse>,
    /// Why volumes cannot be used yet.
    storage: watch::Receiver<Option<String>>,
    known: Mutex<Known>,
}

/// What is not asked for each time.
#[derive(Default)]
struct Known {
    images: Option<(Instant, Vec<ContainerImage>)>,
    /// What was wrong with the runtime when it last answered.
    problem: Option<String>,
    /// As of the time since which the runtime is ready: it may be another one after a restart.
    features: Option<(Monotonic, Features)>,
}

#[derive(Debug, Clone, Default)]
struct Features {
    handlers: Vec<NodeRuntimeHandler>,
    supplemental_groups_policy: Option<bool>,
    /// Where the images are.
    image_dir: Option<PathBuf>,
}

impl NodeFacts {
    pub(crate) fn new(
        parts: &Parts,
        storage: watch::Receiver<Option<String>>,
        changes: watch::Receiver<u64>,
    ) -> Self {
        Self {
            changes,
            storage,
            runtime: parts.runtime.clone(),
            runtime_view: parts.runtime_view.clone(),
            clock: parts.workers.clock().clone(),
            node: parts.node.clone(),
            root_dir: parts.root_dir.clone(),
            hardware: parts.hardware.clone(),
            volumes_in_use: parts.volumes.in_use(),
            volumes: parts.volumes.clone(),
            known: Mutex::default(),
        }
    }

    async fn features(&self, since: Monotonic, known: &mut Known) -> Features {
        if let Some((at, features)) = &known.features
            && *at == since
        {
            return features.clone();
        }
        let Ok(Ok(status)) =
            tokio::time::timeout(PATIENCE, self.runtime.status(StatusRequest::default())).await
        else {
            // What it had it probably has still.
            return known.features.as_ref().map(|(_, features)| features.clone()).unwrap_or_default();
        };
        let file_systems =
            tokio::time::timeout(PATIENCE, self.runtime.image_fs_info(ImageFsInfoRequest::default())).await;
        let image_dir = file_systems.ok().and_then(Result::ok).and_then(|answer| {
            Some(PathBuf::from(answer.image_filesystems.into_iter().next()?.fs_id?.mountpoint))
        });
        let handler = |handler: cri_client::v1::RuntimeHandler| NodeRuntimeHandler {
            name: Some(handler.name),
            features: handler.features.map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        };
        let features = Features {
            handlers: status.runtime_handlers.into_iter().map(handler).collect(),
            supplemental_groups_policy: status.features.map(|f| f.supplemental_groups_policy),
            image_dir,
        };
        known.features = Some((since, features.clone()));
        features
    }

    async fn images(&self, known: &mut Known) -> Vec<ContainerImage> {
        if let Some((at, images)) = &known.images
            && at.elapsed() < IMAGES
        {
            return images.clone();
        }
        let listed =
            tokio::time::timeout(PATIENCE, self.runtime.list_images(ListImagesRequest::default())).await;
        match listed {
            Ok(Ok(answer)) => {
                let image = |image: cri_client::v1::Image| ContainerImage {
                    names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
                    size_bytes: i64::try_from(image.size).ok(),
                };
                let images: Vec<_> = answer.images.into_iter().map(image).collect();
                known.images = Some((Instant::now(), images.clone()));
                images
            }
            // What was there is probably there still.
            _ => known.images.as_ref().map(|(_, images)| images.clone()).unwrap_or_default(),
        }
    }
}

impl Machine for NodeFacts {
    async fn measure(&self) -> Facts {
        let view = self.runtime_view.borrow().clone();
        let (network, addresses) = {
            let node = self.node.borrow();
            (node.facts.network_not_ready.clone(), node.facts.host_ips.clone())
        };
        let InUse { names, all, revision } = self.volumes_in_use.borrow().clone();
        let mut known = self.known.lock().await;
        let (features, images) = if view.ready {
            (self.features(view.since, &mut known).await, self.images(&mut known).await)
        } else {
            let features = known.features.as_ref().map(|(_, features)| features.clone());
            let images = known.images.as_ref().map(|(_, images)| images.clone());
            (features.unwrap_or_default(), images.unwrap_or_default())
        };
        let problem = runtime_problem(&view, &known.problem, self.clock.mono());
        if view.answers {
            known.problem.clone_from(&problem);
        }
        drop(known);
        let (root_dir, image_dir) = (self.root_dir.clone(), features.image_dir.clone());
        // A dead network file system must not hold up the other tasks.
        let observations =
            tokio::task::spawn_blocking(move || observations(&root_dir, image_dir.as_deref())).await;
        Facts {
            addresses,
            hardware: self.hardware.clone(),
            observations: observations.unwrap_or_default(),
            runtime: RuntimeFacts {
                problems: problem.into_iter().chain(network).collect(),
                name: view.name,
                version: view.version,
                handlers: features.handlers,
                supplemental_groups_policy: features.supplemental_groups_policy,
            },
            storage: self.storage.borrow().clone(),
            images,
            volumes_in_use: VolumesInUse { names, all, revision },
        }
    }

    fn told(&self, volumes: &VolumesInUse) {
        self.volumes.told_in_use(volumes.revision);
    }

    async fn answered(&self) {
        // What was there when this began came before any answer. An error says that the agent is about to end.
        let (mut node, mut storage) = (self.node.clone(), self.storage.clone());
        let stored = async { storage.wait_for(Option::is_none).await.is_ok() };
        let both = async { tokio::join!(node.changed(), stored) };
        let _answered_or_not = tokio::time::timeout(SILENCE, both).await;
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// What is wrong with the runtime, in the kubelet's words (upstream `pkg/kubelet/nodestatus/setters.go`). While it is
/// silent it counts as it did when it last answered.
fn runtime_problem(view: &RuntimeView<Monotonic>, last: &Option<String>, now: Monotonic) -> Option<String> {
    match view.ready {
        true => None,
        false if view.version.is_empty() => {
            Some("container runtime status check may not have completed yet".to_owned())
        }
        false if view.answers => Some(view.message.clone()),
        false if now.since(view.since).unsigned_abs() >= SILENCE => {
            Some("container runtime is down".to_owned())
        }
        false => last.clone(),
    }
}

/// What can be said without a runtime.
pub(crate) fn of_machine(root_dir: &Path) -> Facts {
    Facts { hardware: hardware(), observations: observations(root_dir, None), ..Facts::default() }
}

fn hardware() -> Hardware {
    let machine::Identity { machine_id, system_uuid, boot_id, kernel_version, os_image } =
        machine::Identity::read();
    Hardware {
        cores: machine::cores(),
        memory: machine::memory().map(signed).unwrap_or_default(),
        swap: machine::swap().map(signed).unwrap_or_default(),
        hugepages: machine::hugepages(),
        machine_id,
        system_uuid,
        boot_id,
        kernel_version,
        os_image,
        architecture: machine::architecture().to_owned(),
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// What runs out on this node.
fn observations(root_dir: &Path, image_dir: Option<&Path>) -> SignalObservations {
    available::signal_observations(Path::new("/proc"), CGROUP_MOUNT.as_ref(), root_dir, image_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_measured() {
        let dir = tempfile::tempdir().unwrap();
        let observations = observations(dir.path(), Some(dir.path()));
        assert_eq!(observations.len(), 6, "{observations:?}");
        assert!(
            observations.values().all(|s| s.capacity > 0 && s.available >= 0 && s.available <= s.capacity)
        );
        let hardware = hardware();
        assert!(hardware.cores > 0 && hardware.memory > 0 && !hardware.boot_id.is_empty());
        assert!(!hardware.kernel_version.is_empty() && !hardware.os_image.is_empty());
    }

    #[test]
    fn what_is_wrong_with_the_runtime_is_said_as_the_kubelet_does() {
        let at = |second| Monotonic::after_start(Duration::from_secs(second));
        let view = |ready, answers, version: &str| RuntimeView {
            endpoint: String::new(),
            name: String::new(),
            version: version.to_owned(),
            ready,
            answers,
            message: "told".to_owned(),
            since: at(100),
        };
        let problem =
            |view: &RuntimeView<Monotonic>, now| runtime_problem(view, &Some("before".to_owned()), at(now));
        assert_eq!(problem(&view(true, true, "1"), 100), None);
        assert_eq!(problem(&view(false, true, "1"), 100).unwrap(), "told");
        let started = problem(&view(false, false, ""), 100).unwrap();
        assert_eq!(started, "container runtime status check may not have completed yet");
        // A runtime that is restarted is away for a moment.
        assert_eq!(problem(&view(false, false, "1"), 129).unwrap(), "before");
        assert_eq!(runtime_problem(&view(false, false, "1"), &None, at(129)), None);
        assert_eq!(problem(&view(false, false, "1"), 130).unwrap(), "container runtime is down");
    }
}
