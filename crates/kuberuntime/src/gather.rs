//! What is found out and made ready for one start of a container, and what the runtime is then asked for: the first is
//! I/O, the second is not (upstream `pkg/kubelet/kuberuntime/kuberuntime_container.go` `generateContainerConfig`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use ::images::{ImageInfo, PullPolicy, Reason};
use cri_client::v1::{CreateContainerRequest, Mount};
use cri_config::env::{FileKey, Missing};
use cri_config::{ConfigError, ContainerExtras, ContainerInputs, ImageUser, Settings, hosts, paths};
use futures::future::join_all;
use kube_model::core::{Container, Pod};
use kube_model::{PodKey, PodUid, pod};
use pod_lifecycle::FailureReason;
use pod_workers::{Reporter, StartContainer, StepError};
use volume_plan::env_file;
use volumes::FileError;

use super::providers::Variables;
use super::references::Found;
use super::{CriRuntime, failed};

/// All that a container's configuration depends on beside its pod and the node's settings.
pub(super) struct Gathered<'a> {
    image_ref: String,
    image_user: ImageUser,
    restart_count: u32,
    pub(super) pod_ips: Vec<IpAddr>,
    termination_log: PathBuf,
    found: Found<'a>,
    extras: ContainerExtras,
}

impl Gathered<'_> {
    /// What the runtime is to create.
    ///
    /// # Errors
    /// A field of the pod or container that nothing can be made of, or a user that it must not run as.
    pub(super) fn request(
        &self,
        start: StartContainer<'_>,
        container: &Container,
        node: &Settings,
    ) -> Result<CreateContainerRequest, ConfigError> {
        let StartContainer { pod, sandbox, .. } = start;
        let references = self.found.as_inputs();
        let hosts_file = paths::hosts_file(&node.root_dir, &pod::identity(pod).0);
        let inputs = ContainerInputs {
            pod,
            container,
            restart_count: self.restart_count,
            image_ref: &self.image_ref,
            image_user: &self.image_user,
            pod_ips: &self.pod_ips,
            hosts_file: Some(&hosts_file),
            termination_log: &self.termination_log,
            references: Some(&references),
            extras: &self.extras,
        };
        Ok(CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(cri_config::container_config(inputs, node)?),
            sandbox_config: Some(cri_config::sandbox_config(
                pod,
                sandbox.attempt,
                &self.extras.supplemental_groups,
                node,
            )?),
        })
    }
}

impl CriRuntime {
    /// Fetches the image, prepares the files, and looks up all that the configuration refers to.
    pub(super) async fn gather<'a>(
        &self,
        start: StartContainer<'a>,
        container: &'a Container,
        node: &Settings,
        reporter: &Reporter,
    ) -> Result<Gathered<'a>, StepError> {
        let StartContainer { pod, name, sandbox, .. } = start;
        let (uid, key) = pod::identity(pod);
        let config_error = |e: &dyn std::error::Error| failed(FailureReason::CreateContainerConfigError, e);
        let image = container.image.as_deref().unwrap_or_default();
        reporter.doing(format!("getting image {image:?} for container {name}"));
        let image = self.ensure(pod, image, PullPolicy::of(container), reporter).await?;
        reporter.doing(format!("preparing container {name}"));
        let restart_count = self.restart_count(&start, &uid, &key).await;
        let pod_ips = self.ips(&sandbox.ips, pod);
        let hosts_text = hosts::etc_hosts(pod, &pod_ips, &self.node_hosts(pod).await, &node.dns.domain)
            .map_err(|e| config_error(&e))?;
        let work = {
            let name = name.to_owned();
            move |files: &super::Files| files.prepare_container(&uid, &key, &name, &hosts_text)
        };
        let termination_log = self.files.run(work).await.map_err(|e| config_error(&e))?;
        reporter.doing(format!("looking up what the variables of container {name} come from"));
        let mut found = self.references.of_container(pod, container).await.map_err(|e| config_error(&e))?;
        found.files = self.files_for_variables(pod, container).await;
        let variables = match refers_to_variables(container) {
            true => cri_config::variables(pod, container, &pod_ips, node, Some(&found.as_inputs()))
                .map_err(|e| config_error(&e))?,
            false => Variables::new(),
        };
        let mut extras = self.providers.extras(pod, container, &variables).await?;
        self.images_of_volumes(pod, &mut extras.mounts, reporter).await?;
        let image_user = match image.user {
            ::images::ImageUser::Uid(uid) => ImageUser::Uid(uid),
            ::images::ImageUser::Name(name) => ImageUser::Name(name),
        };
        let image_ref = image.id;
        Ok(Gathered { image_ref, image_user, restart_count, pod_ips, termination_log, found, extras })
    }

    /// Has the image on the node, as the policy says.
    async fn ensure(
        &self,
        pod: &Pod,
        image: &str,
        policy: PullPolicy,
        reporter: &Reporter,
    ) -> Result<ImageInfo, StepError> {
        let report = |event: ::images::ImageEvent| reporter.event(event.kind, event.reason, event.message);
        let found = self.images.ensure(pod, image, policy, &report).await;
        found.map_err(|error| StepError {
            reason: reason(error.reason),
            retry_after: error.retry_after,
            message: error.message,
        })
    }

    /// What stands in files of volumes that variables come from, at each start anew: an init container may have written
    /// them.
    async fn files_for_variables<'a>(
        &self,
        pod: &Pod,
        container: &'a Container,
    ) -> BTreeMap<FileKey<'a>, Result<Option<Vec<u8>>, Missing>> {
        let (uid, _) = pod::identity(pod);
        let wanted = cri_config::env::files(container);
        let places: BTreeSet<_> = wanted.iter().map(|key| (key.volume, key.path)).collect();
        let read = places.into_iter().map(|(volume, path)| {
            let uid = &uid;
            async move { ((volume, path), self.volumes.read_file(uid, volume, path).await) }
        });
        let read: BTreeMap<_, _> = join_all(read).await.into_iter().collect();
        let value = |key: FileKey<'a>| match &read[&(key.volume, key.path)] {
            Ok(text) => env_file::value(text, key.key).map_err(|error| {
                let (path, volume) = (key.path, key.volume);
                let problem = format!("couldn't parse env file: {path:?} of volume {volume:?}: {error}");
                Missing::Unreadable(problem)
            }),
            Err(FileError::NotFound) => Err(Missing::NotFound),
            Err(error) => Err(Missing::Unreadable(error.to_string())),
        };
        wanted.into_iter().map(|key| (key, value(key))).collect()
    }

    /// Fetches the images that are volumes of the container, and tells the runtime by what it knows them (upstream
    /// `pkg/kubelet/kuberuntime/kuberuntime_manager.go` `getImageVolumes`).
    async fn images_of_volumes(
        &self,
        pod: &Pod,
        mounts: &mut [Mount],
        reporter: &Reporter,
    ) -> Result<(), StepError> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for volume in volumes.filter_map(|volume| volume.image.as_ref()) {
            let reference = volume.reference.as_deref().unwrap_or_default();
            let images = mounts.iter_mut().filter_map(|mount| mount.image.as_mut());
            let mut wanted: Vec<_> = images.filter(|image| image.user_specified_image == reference).collect();
            if wanted.is_empty() {
                continue;
            }
            reporter.doing(format!("getting image {reference:?}, which is a volume"));
            let found = self.ensure(pod, reference, PullPolicy::of_volume(volume), reporter).await?;
            for image in &mut wanted {
                image.image.clone_from(&found.id);
            }
        }
        Ok(())
    }

    /// The planned count, unless logs tell of runs that the runtime has forgotten (upstream
    /// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
    async fn restart_count(&self, start: &StartContainer<'_>, uid: &PodUid, key: &PodKey) -> u32 {
        if start.restart_count > 0 {
            return start.restart_count;
        }
        let (uid, key, name) = (uid.clone(), key.clone(), start.name.to_owned());
        let highest = self.files.run(move |files| Ok(files.highest_log(&uid, &key, &name))).await;
        highest.ok().flatten().map_or(0, |n| n.saturating_add(1))
    }

    /// The node's own hosts file, for a pod in the node's network; one that cannot be read is empty.
    async fn node_hosts(&self, pod: &Pod) -> String {
        if !pod.spec.as_ref().is_some_and(pod::host_network) {
            return String::new();
        }
        let read = self.files.run(|_| Ok(fs::read_to_string(hosts::HOSTS_PATH).unwrap_or_default())).await;
        read.unwrap_or_default()
    }

    /// The pod's addresses: its sandbox's, or the node's.
    pub(super) fn ips(&self, sandbox: &[IpAddr], pod: &Pod) -> Vec<IpAddr> {
        match pod.spec.as_ref().is_some_and(pod::host_network) {
            true => self.config.load().node_ips.clone(),
            false => sandbox.to_vec(),
        }
    }
}

/// Whether a path in a volume is made of the container's variables.
fn refers_to_variables(container: &Container) -> bool {
    let mounts = container.volume_mounts.iter().flatten();
    mounts.filter_map(|mount| mount.sub_path_expr.as_ref()).any(|expression| !expression.is_empty())
}

fn reason(reason: Reason) -> FailureReason {
    match reason {
        Reason::ErrImagePull => FailureReason::ErrImagePull,
        Reason::ImagePullBackOff => FailureReason::ImagePullBackOff,
        Reason::ErrImageNeverPull => FailureReason::ErrImageNeverPull,
        Reason::InvalidImageName => FailureReason::InvalidImageName,
        Reason::ImageInspectError => FailureReason::ImageInspectError,
        Reason::RegistryUnavailable => FailureReason::RegistryUnavailable,
        Reason::SignatureValidationFailed => FailureReason::SignatureValidationFailed,
    }
}
