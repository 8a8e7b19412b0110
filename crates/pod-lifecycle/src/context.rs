//! The inputs of one decision, and the questions that most rules ask of them.

use kube_model::core::{Container, ContainerStatus, PodSpec, PodStatus};
use kube_model::hash::container_hash;
use kube_model::observed::{self, ContainerState};
use kube_model::pod::{self, ContainerKind};
use kube_model::probe::ProbeOutcome;

use crate::garbage;
use crate::inputs::{Inputs, Intent};

/// Inputs of a pod that has a spec.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) spec: &'a PodSpec,
}

impl<'a> Context<'a> {
    /// `None` for a pod without spec, which no source publishes.
    pub(crate) fn new(inputs: &'a Inputs<'a>) -> Option<Self> {
        Some(Self { inputs, spec: inputs.pod.spec.as_ref()? })
    }

    /// All containers of the spec with their kind, in its order.
    pub(crate) fn containers(self) -> impl Iterator<Item = (ContainerKind, &'a Container)> {
        pod::containers(self.spec)
    }

    /// Whether the end of its removal is an end of the pod itself, with a terminal phase for its object to show:
    /// that of a pod which was deleted, but not of a static pod whose manifest is gone (reference 4.7).
    pub(crate) fn ends_by_removal(self) -> bool {
        let pod = self.inputs.pod;
        matches!(self.inputs.intent, Intent::Remove { .. })
            && (!pod::is_static(pod) || pod.metadata.deletion_timestamp.is_some())
    }

    /// Whether the pod ended by its removal and the runtime has nothing of it (any more), or only what it cannot
    /// remove.
    pub(crate) fn is_over(self) -> bool {
        self.ends_by_removal() && (self.inputs.observed.is_gone() || garbage::is_left(self))
    }

    /// Whether the spec names this container; ephemeral ones count.
    pub(crate) fn is_known(self, name: &str) -> bool {
        pod::container(self.spec, name).is_some()
            || self.spec.ephemeral_containers.iter().flatten().any(|c| c.name == name)
    }

    /// The instance that decides about a container: the newest; of init containers and sidecars only one in
    /// the newest sandbox, because a new sandbox is initialised from the start.
    pub(crate) fn instance(self, kind: ContainerKind, name: &str) -> Option<&'a observed::Container> {
        let newest = self.inputs.observed.newest(name)?;
        (kind == ContainerKind::Regular || self.in_newest_sandbox(newest)).then_some(newest)
    }

    pub(crate) fn in_newest_sandbox(self, instance: &observed::Container) -> bool {
        self.inputs.observed.sandboxes.first().is_some_and(|s| s.id == instance.sandbox_id)
    }

    /// Whether all init containers have run, and sidecars have started, in the newest sandbox: the regular
    /// containers in it tell.
    pub(crate) fn has_regular_instance(self) -> bool {
        let regular = |name: &str| self.spec.containers.iter().any(|c| c.name == name);
        self.inputs.observed.containers.iter().any(|i| regular(&i.name) && self.in_newest_sandbox(i))
    }

    /// The status of the previous round, else the one that came with the pod from the API server.
    pub(crate) fn previous(self) -> Option<&'a PodStatus> {
        self.inputs.memory.last_status.as_deref().or(self.inputs.pod.status.as_ref())
    }

    pub(crate) fn previous_container(self, name: &str) -> Option<&'a ContainerStatus> {
        let status = self.previous()?;
        let all = status.container_statuses.iter().chain(&status.init_container_statuses);
        all.chain(&status.ephemeral_container_statuses).flatten().find(|s| s.name == name)
    }

    /// `status.containerID` of an instance.
    pub(crate) fn container_id(self, instance: &observed::Container) -> String {
        format!("{}://{}", self.inputs.node.runtime_name, instance.id)
    }

    /// The previous status of this very instance.
    pub(crate) fn previous_of(self, instance: &observed::Container) -> Option<&'a ContainerStatus> {
        let id = self.container_id(instance);
        self.previous_container(&instance.name).filter(|s| s.container_id.as_deref() == Some(id.as_str()))
    }

    /// `status.started`: runs, and its startup probe has succeeded if there is one. An outcome that is not
    /// known (any more) is what it was.
    pub(crate) fn is_started(self, container: &Container, instance: &observed::Container) -> bool {
        if instance.state != ContainerState::Running {
            return false;
        }
        container.startup_probe.is_none()
            || match self.inputs.probes.of(&instance.id).startup {
                Some(outcome) => outcome == ProbeOutcome::Success,
                None => self.previous_of(instance).is_some_and(|s| s.started == Some(true)),
            }
    }

    /// `status.ready` of a container that is to run all the time: started, and its readiness probe succeeds if
    /// there is one.
    pub(crate) fn is_ready(self, container: &Container, instance: &observed::Container) -> bool {
        self.is_started(container, instance)
            && (container.readiness_probe.is_none()
                || match self.inputs.probes.of(&instance.id).readiness {
                    Some(outcome) => outcome == ProbeOutcome::Success,
                    None => self.previous_of(instance).is_some_and(|s| s.ready),
                })
    }

    /// Whether name or image differ from those that the instance was created with (reference 4.4).
    pub(crate) fn definition_changed(self, container: &Container, instance: &observed::Container) -> bool {
        instance.hash.as_ref().is_some_and(|hash| *hash != container_hash(container))
    }
}
