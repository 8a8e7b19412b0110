//! The volumes of pods, as what a pod waits for and what a container has mounted.

use std::path::PathBuf;
use std::sync::Arc;

use cri_client::v1::{Device, ImageSpec, Mount, MountPropagation};
use cri_config::ContainerExtras;
use kube_model::core::{Container, Pod, Volume, VolumeDevice};
use kube_model::view::EventType;
use kube_model::{PodUid, pod};
use pod_lifecycle::{FailureReason, Unmet};
use pod_workers::{NodeState, Probes, Workers};
use tokio::sync::{mpsc, watch};
use volume_plan::container_mounts::{ContainerMount, Propagation, container_mounts};
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
            let uid = pod::identity(pod).0;
            let attributes = |name: &str| self.volumes.attributes(&uid, volume(pod, name)?);
            let variable = |name: &str| variables.get(name).map(|value| String::from_utf8_lossy(value));
            let wanted = container_mounts(container, attributes, variable, recursive);
            let mut mounts = Vec::new();
            for mount in wanted.map_err(|e| config_error(&e))? {
                mounts.push(self.resolve(pod, container, mount).await.map_err(|e| config_error(&e))?);
            }
            let devices = devices(&self.volumes, pod, container).map_err(|e| config_error(&e))?;
            let supplemental_groups = self.volumes.supplemental_groups(pod);
            Ok(ContainerExtras { mounts, devices, supplemental_groups, ..ContainerExtras::default() })
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

/// The devices of a container (upstream `pkg/kubelet/kubelet_pods.go` `makeBlockVolumes`).
fn devices(volumes: &Volumes, pod: &Pod, container: &Container) -> Result<Vec<Device>, MountError> {
    let uid = pod::identity(pod).0;
    let of = |device: &VolumeDevice| {
        let (name, path) = (&device.name, &device.device_path);
        if !path.starts_with('/') {
            return Err(MountError::DevicePath(path.clone()));
        }
        let found = volume(pod, name).and_then(|volume| volumes.device(&uid, volume));
        let no_device = || MountError::NoDevice { volume: name.clone(), container: container.name.clone() };
        let ::volumes::Device { host_path, read_only } = found.ok_or_else(no_device)?;
        Ok(Device {
            container_path: path.clone(),
            host_path: host_path.to_string_lossy().into_owned(),
            permissions: if read_only { "r" } else { "mrw" }.to_owned(),
        })
    };
    container.volume_devices.iter().flatten().map(of).collect()
}

/// Why a container cannot have a volume.
#[derive(Debug, thiserror::Error)]
enum MountError {
    #[error("volume {0:?} is of a kind that is not mounted")]
    NoVolume(String),
    #[error("error DevicePath `{0}` must be an absolute path")]
    DevicePath(String),
    #[error("cannot find volume {volume:?} to pass into container {container:?}")]
    NoDevice { volume: String, container: String },
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
            News::Event(uid, kind, reason, message) => workers.event(&uid, None, kind, reason, message),
        }
    }
}

fn tell<P: Probes>(workers: &Workers<CriRuntime, P>, uid: &PodUid, message: String) {
    workers.event(uid, None, EventType::Warning, "FailedMount", message);
}
