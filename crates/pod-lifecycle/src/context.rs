//! The inputs of one decision, and the questions that most rules ask of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kube_model::core::{Container, ContainerStatus, PodSpec, PodStatus};
use kube_model::hash::container_hash;
use kube_model::observed::{self, ContainerState};
use kube_model::pod::{self, ContainerKind};
use kube_model::probe::ProbeOutcome;

use crate::garbage;
use crate::inputs::{Inputs, Intent};

/// What the inputs have by name, looked up once: a pod may have very many containers.
pub(crate) struct Index<'a> {
    /// Containers of the spec, but for ephemeral ones.
    containers: BTreeMap<&'a str, ContainerKind>,
    /// The newest instance, and the one before.
    instances: BTreeMap<&'a str, (&'a observed::Container, Option<&'a observed::Container>)>,
    previous: BTreeMap<&'a str, &'a ContainerStatus>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(inputs: &'a Inputs<'a>) -> Self {
        let spec = inputs.pod.spec.iter();
        let containers = spec.flat_map(pod::containers).map(|(kind, c)| (c.name.as_str(), kind));
        let mut instances = BTreeMap::new();
        for instance in &inputs.observed.containers {
            match instances.entry(instance.name.as_str()) {
                Entry::Vacant(free) => {
                    free.insert((instance, None));
                }
                Entry::Occupied(mut taken) => {
                    taken.get_mut().1.get_or_insert(instance);
                }
            }
        }
        let statuses = previous(inputs).into_iter().flat_map(|status| {
            let all = status.container_statuses.iter().chain(&status.init_container_statuses);
            all.chain(&status.ephemeral_container_statuses).flatten()
        });
        let previous = statuses.map(|status| (status.name.as_str(), status));
        Self { containers: firsts(containers), instances, previous: firsts(previous) }
    }
}

/// The first of each name.
fn firsts<'a, T>(all: impl Iterator<Item = (&'a str, T)>) -> BTreeMap<&'a str, T> {
    let mut firsts = BTreeMap::new();
    for (name, one) in all {
        firsts.entry(name).or_insert(one);
    }
    firsts
}

fn previous<'a>(inputs: &'a Inputs<'a>) -> Option<&'a PodStatus> {
    inputs.memory.last_status.as_deref().or(inputs.pod.status.as_ref())
}

/// Inputs of a pod that has a spec.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) spec: &'a PodSpec,
    index: &'a Index<'a>,
}

impl<'a> Context<'a> {
    /// `None` for a pod without spec, which no source publishes.
    pub(crate) fn new(inputs: &'a Inputs<'a>, index: &'a Index<'a>) -> Option<Self> {
        Some(Self { inputs, spec: inputs.pod.spec.as_ref()?, index })
    }

    /// All containers of the spec with their kind, in its order.
    pub(crate) fn containers(self) -> impl Iterator<Item = (ContainerKind, &'a Container)> {
        pod::containers(self.spec)
    }

    /// Whether the end of its removal is an end of the pod itself, with a terminal phase for its object to show:
    /// that of a pod which was deleted, but not of a static pod whose manifest is gone (upstream
    /// `pkg/kubelet/kubelet_pods.go`).
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
        self.kind(name).is_some() || self.spec.ephemeral_containers.iter().flatten().any(|c| c.name == name)
    }

    /// The kind of a container of the spec; none of an ephemeral one.
    pub(crate) fn kind(self, name: &str) -> Option<ContainerKind> {
        self.index.containers.get(name).copied()
    }

    /// The newest instance of a container.
    pub(crate) fn newest(self, name: &str) -> Option<&'a observed::Container> {
        self.newest_two(name).map(|(newest, _)| newest)
    }

    /// The newest instance of a container, and the one before.
    pub(crate) fn newest_two(
        self,
        name: &str,
    ) -> Option<(&'a observed::Container, Option<&'a observed::Container>)> {
        self.index.instances.get(name).copied()
    }

    /// The instance that decides about a container: the newest; of init containers and sidecars only one in
    /// the newest sandbox, because a new sandbox is initialised from the start.
    pub(crate) fn instance(self, kind: ContainerKind, name: &str) -> Option<&'a observed::Container> {
        let newest = self.newest(name)?;
        (kind == ContainerKind::Regular || self.in_newest_sandbox(newest)).then_some(newest)
    }

    pub(crate) fn in_newest_sandbox(self, instance: &observed::Container) -> bool {
        self.inputs.observed.sandboxes.first().is_some_and(|s| s.id == instance.sandbox_id)
    }

    /// Whether all init containers have run, and sidecars have started, in the newest sandbox: the regular
    /// containers in it tell.
    pub(crate) fn has_regular_instance(self) -> bool {
        let regular = |name: &str| self.kind(name) == Some(ContainerKind::Regular);
        self.inputs.observed.containers.iter().any(|i| regular(&i.name) && self.in_newest_sandbox(i))
    }

    /// The status of the previous round, else the one that came with the pod from the API server.
    pub(crate) fn previous(self) -> Option<&'a PodStatus> {
        previous(self.inputs)
    }

    pub(crate) fn previous_container(self, name: &str) -> Option<&'a ContainerStatus> {
        self.index.previous.get(name).copied()
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

    /// Whether name or image differ from those that the instance was created with (upstream
    /// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
    pub(crate) fn definition_changed(self, container: &Container, instance: &observed::Container) -> bool {
        instance.hash.as_ref().is_some_and(|hash| *hash != container_hash(container))
    }
}
