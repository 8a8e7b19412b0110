//! The volumes of pods, as what a pod waits for and what a container has mounted.

use std::path::PathBuf;
use std::sync::Arc;

use cri_client::v1::{ImageSpec, Mount, MountPropagation};
use cri_config::ContainerExtras;
use kube_model::core::{Container, Pod, Volume};
use kube_model::view::EventType;
use kube_model::{PodUid, pod};
use pod_lifecycle::{FailureReason, Unmet};
use pod_workers::{NodeState, Probes, Workers};
use tokio::sync::{mpsc, watch};
use volume_plan::container_mounts::{Attributes, ContainerMount, Propagation, container_mounts};
use volume_plan::spec::Kind;
use volumes::{Lacking, News, PartError, Volumes};

use super::providers::{Extras, Provider, Variables};
use super::{CriRuntime, failed};

/// What pods wait for while a volume is not there.
const NOT_MOUNTED: &str = "VolumesNotMounted";

/// Has the pod's volumes made, and its containers mount them.
pub struct VolumeMounts {
    /// Who makes them.
    pub volumes: Volumes,
    /// What the runtime can do.
    pub node: watch::Receiver<Arc<NodeState>>,
}

impl Provider for VolumeMounts {
    fn unmet(&self, pod: &Arc<Pod>) -> Option<Unmet> {
        let Lacking { message, since, until } = self.volumes.desire(pod)?;
        Some(Unmet::Waiting { reason: NOT_MOUNTED.to_owned(), message, since, until })
    }

    fn extras<'a>(&'a self, pod: &'a Pod, container: &'a Container, variables: &'a Variables) -> Extras<'a> {
        Box::pin(async move {
            let config_error =
                |e: &dyn std::error::Error| failed(FailureReason::CreateContainerConfigError, e);
            let recursive = self.node.borrow().facts.recursive_read_only_mounts;
            let attributes = |name: &str| volume(pod, name).map(Kind::of).and_then(Attributes::of);
            let variable = |name: &str| variables.get(name).map(|value| String::from_utf8_lossy(value));
            let wanted = container_mounts(container, attributes, variable, recursive);
            let mut mounts = Vec::new();
            for mount in wanted.map_err(|e| config_error(&e))? {
                mounts.push(self.resolve(pod, container, mount).await.map_err(|e| config_error(&e))?);
            }
            Ok(ContainerExtras { mounts, ..ContainerExtras::default() })
        })
    }
}

impl VolumeMounts {
    /// Which path of the node it is.
    async fn resolve(
        &self,
        pod: &Pod,
        container: &Container,
        mount: ContainerMount<'_>,
    ) -> Result<Mount, MountError> {
        let no_volume = || MountError::NoVolume(mount.volume.to_owned());
        let uid = pod::identity(pod).0;
        let of = volume(pod, mount.volume).ok_or_else(no_volume)?;
        let image = match Kind::of(of) {
            Kind::Image(source) => Some(ImageSpec {
                // By what the runtime knows it is said when it is there.
                user_specified_image: source.reference.clone().unwrap_or_default(),
                annotations: pod.metadata.annotations.clone().unwrap_or_default(),
                ..ImageSpec::default()
            }),
            _ => None,
        };
        let host_path = match &mount.sub_path {
            _ if image.is_some() => PathBuf::new(),
            Some(part) => self.volumes.part(&uid, of, &container.name, mount.index, part).await?,
            None => self.volumes.host_path(&uid, of).ok_or_else(no_volume)?,
        };
        let part = mount.sub_path.filter(|_| image.is_some());
        Ok(Mount {
            container_path: mount.container_path.into_owned(),
            image,
            image_sub_path: part.map(|part| part.path.into_owned()).unwrap_or_default(),
            host_path: host_path.to_string_lossy().into_owned(),
            readonly: mount.read_only,
            recursive_read_only: mount.recursive_read_only,
            propagation: propagation(mount.propagation).into(),
            selinux_relabel: mount.selinux_relabel,
            ..Mount::default()
        })
    }
}

/// Why a container cannot have a volume.
#[derive(Debug, thiserror::Error)]
enum MountError {
    #[error("volume {0:?} is of a kind that is not mounted")]
    NoVolume(String),
    #[error(transparent)]
    Part(#[from] PartError),
}

fn volume<'a>(pod: &'a Pod, name: &str) -> Option<&'a Volume> {
    pod.spec.as_ref()?.volumes.as_ref()?.iter().find(|volume| volume.name == name)
}

fn propagation(propagation: Propagation) -> MountPropagation {
    match propagation {
        Propagation::Private => MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => MountPropagation::PropagationBidirectional,
    }
}

/// Wakes pods whose volumes have come, and tells of those that do not. Ends with `news`.
pub async fn follow_volumes<P: Probes>(mut news: mpsc::Receiver<News>, workers: Workers<CriRuntime, P>) {
    while let Some(news) = news.recv().await {
        match news {
            News::Wake(uid) => workers.wake(&uid),
            News::FailedMount(uid, message) => {
                tell(&workers, &uid, message);
                // What it waits for says why.
                workers.wake(&uid);
            }
        }
    }
}

fn tell<P: Probes>(workers: &Workers<CriRuntime, P>, uid: &PodUid, message: String) {
    workers.event(uid, None, EventType::Warning, "FailedMount", message);
}
