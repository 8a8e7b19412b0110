//! Which probes run: one worker per probe of each running container, brought in line with the pod on each sync.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_model::core::{Container, Pod};
use kube_model::pod::{self, ContainerKind};
use kube_model::probe::{PodProbes, ProbeKind};
use kube_model::view::EventType;
use kube_model::{Monotonic, Now, PodUid, Timestamp};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::decide::{self, Settings};
use crate::exec::Exec;
use crate::http;
use crate::tally::{self, Tallied};
use crate::worker::{PodState, Shared, Target, Worker, outcome_of, probe_of};

/// Hears what probing brings. Called from the workers' tasks: must not block.
pub trait Sink: Send + Sync + 'static {
    /// An outcome of this pod changed: look at [`Prober::results`] again.
    fn changed(&self, pod: &PodUid);

    /// Something to tell the pod's owner, worded as by the kubelet. Repeats as often as the probe fails.
    fn event(&self, pod: &PodUid, container: &str, kind: EventType, reason: &'static str, message: String);
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Name in the pod spec.
    pub name: String,
    /// The runtime's ID.
    pub container_id: String,
    /// When this instance was started.
    pub started_at: Timestamp,
}

/// Probes the containers of many pods. Share it behind an `Arc`; dropping it ends all probing.
#[derive(Debug)]
pub struct Prober<E, S> {
    shared: Arc<Shared<E, S>>,
    pods: Mutex<HashMap<PodUid, Entry>>,
    /// Stands in for the outcomes of pods that have none.
    nothing: Arc<PodProbes>,
}

#[derive(Debug)]
struct Entry {
    state: Arc<PodState>,
    terminating: bool,
    /// By container name.
    instances: BTreeMap<Arc<str>, Instance>,
}

/// The newest known instance of a container, and its probes' tasks: none while it does not run. A task that found out
/// all there is has ended, but keeps its place.
#[derive(Debug)]
struct Instance {
    id: Arc<str>,
    /// When it was started, going by the clock at the time when it was first seen.
    started: Monotonic,
    workers: BTreeMap<ProbeKind, AbortOnDropHandle<()>>,
    /// How the probes went, handed on from instance to instance.
    tallies: BTreeMap<ProbeKind, tally::Shared>,
}

const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness];

impl<E: Exec, S: Sink> Prober<E, S> {
    /// A prober for an agent that starts now, see [`decide::first_delay`]. `wall` is the clock that the runtime's times
    /// come from.
    pub fn new(exec: E, sink: S, wall: fn() -> Timestamp) -> Self {
        Self::of_agent(exec, sink, wall, Monotonic::default())
    }

    fn of_agent(exec: E, sink: S, wall: fn() -> Timestamp, agent_started: Monotonic) -> Self {
        let (http, began) = (http::Client::new(), Instant::now());
        Self {
            shared: Arc::new(Shared { exec, sink, http, wall, began, agent_started }),
            pods: Mutex::default(),
            nothing: Arc::default(),
        }
    }

    /// Brings the pod's probes in line with its spec and its running containers: level-triggered, and cheap when
    /// nothing changed. Must be called within a tokio runtime.
    ///
    /// A new container ID starts afresh, a new IP holds from the next probe on, a changed probe starts counting
    /// anew with the outcome kept. The outcomes of a container that is not running any more stay until its name has
    /// a new ID.
    pub fn sync(&self, pod: &Arc<Pod>, pod_ip: Option<IpAddr>, running: &[Running]) {
        let Some(spec) = &pod.spec else { return };
        let uid = PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default());
        let probed = |c: &Container| KINDS.iter().any(|kind| probe_of(c, *kind).is_some());
        let mut pods = self.lock();
        if !pods.contains_key(&uid) && !pod::containers(spec).any(|(_, c)| probed(c)) {
            return;
        }
        let entry = self.entry(&mut pods, &uid);
        let before = entry.state.target();
        let same_pod = Arc::ptr_eq(&before.pod, pod);
        if !same_pod || before.ip != pod_ip {
            entry.state.retarget(Target { pod: pod.clone(), ip: pod_ip });
        }
        if !same_pod {
            entry.retain(|name| pod::container(spec, name).is_some_and(|(_, c)| probed(c)));
        }
        for (kind, container) in pod::containers(spec) {
            if kind == ContainerKind::Init || !probed(container) {
                continue;
            }
            match running.iter().find(|r| r.name == container.name) {
                Some(running) => {
                    let old = if same_pod { pod } else { &before.pod };
                    self.sync_instance(entry, old, container, running);
                }
                None => {
                    if let Some(instance) = entry.instances.get_mut(&*container.name) {
                        instance.workers.clear();
                        // It will not run again; a sidecar does whatever the pod's policy says.
                        if kind == ContainerKind::Regular && spec.restart_policy.as_deref() == Some("Never") {
                            instance.tallies.clear();
                        }
                    }
                }
            }
        }
    }

    fn sync_instance(&self, entry: &mut Entry, old: &Pod, container: &Container, running: &Running) {
        let terminating = entry.terminating;
        let state = entry.state.clone();
        let now = self.shared.now();
        let instance = entry.instance(running, now);
        let old = old.spec.as_ref().and_then(|spec| pod::container(spec, &container.name));
        for kind in KINDS {
            let Some(probe) = probe_of(container, kind) else {
                instance.workers.remove(&kind);
                instance.tallies.remove(&kind);
                state.update(&instance.id, |known| *outcome_of(known, kind) = None);
                continue;
            };
            let unchanged = old.is_some_and(|(_, old)| {
                probe_of(old, kind) == Some(probe)
                    && old.startup_probe.is_some() == container.startup_probe.is_some()
            });
            if !decide::runs(kind, terminating) || unchanged && instance.workers.contains_key(&kind) {
                continue;
            }
            let settings = Settings::from(probe);
            let mut known = state.outcomes.borrow().of(&instance.id);
            // Nothing found out yet holds a container back, but for liveness: that one counts as well until then.
            let eager = kind != ProbeKind::Liveness && outcome_of(&mut known, kind).is_none();
            let spread = if eager { 0.0 } else { decide::spread(&state.uid, &container.name, kind) };
            let delay =
                decide::first_delay(&settings, self.shared.agent_started, instance.started, now.mono, spread);
            let worker = Worker {
                shared: self.shared.clone(),
                pod: state.clone(),
                container: container.name.as_str().into(),
                container_id: instance.id.clone(),
                kind,
                settings,
                has_startup_probe: container.startup_probe.is_some(),
                tally: instance.tallies.entry(kind).or_default().clone(),
                first: Instant::now() + delay,
            };
            instance.workers.insert(kind, AbortOnDropHandle::new(tokio::spawn(worker.run())));
        }
    }

    /// Outcomes known from before a restart of the agent. Each is adopted for the container ID that it names, so that
    /// readiness does not flip while the first probes run. Call it before the pod's first sync: what this
    /// prober found out itself is not overwritten.
    pub fn restore(&self, pod: &PodUid, known: PodProbes) {
        let mut pods = self.lock();
        let entry = self.entry(&mut pods, pod);
        entry.state.outcomes.send_modify(|outcomes| {
            let outcomes = Arc::make_mut(outcomes);
            for (id, known) in known.0 {
                outcomes.0.entry(id).or_insert(known);
            }
        });
    }

    /// The settled outcomes of the pod's probes, by container ID; empty if there are none.
    pub fn results(&self, pod: &PodUid) -> Arc<PodProbes> {
        let pods = self.lock();
        pods.get(pod).map_or_else(|| self.nothing.clone(), |entry| entry.state.outcomes.borrow().clone())
    }

    /// The pod is being stopped: liveness and startup probes end, readiness goes on until [`Prober::remove`].
    pub fn terminating(&self, pod: &PodUid) {
        let mut pods = self.lock();
        let entry = self.entry(&mut pods, pod);
        entry.terminating = true;
        for instance in entry.instances.values_mut() {
            instance.workers.retain(|kind, _| decide::runs(*kind, true));
            instance.tallies.retain(|kind, _| decide::runs(*kind, true));
        }
    }

    /// How all probes went that are there now, also those that wait or are done with. In no order.
    pub fn tallies(&self) -> Vec<Tallied> {
        let pods = self.lock();
        let mut tallies = Vec::new();
        for entry in pods.values() {
            let pod = entry.state.target().pod;
            for (container, instance) in &entry.instances {
                tallies.extend(instance.tallies.iter().map(|(kind, tally)| Tallied {
                    pod: Arc::clone(&pod),
                    container: Arc::clone(container),
                    kind: *kind,
                    tally: tally.lock().clone(),
                }));
            }
        }
        tallies
    }

    /// Ends all probes of the pod and forgets it.
    pub fn remove(&self, pod: &PodUid) {
        self.lock().remove(pod);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PodUid, Entry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry<'a>(&self, pods: &'a mut HashMap<PodUid, Entry>, uid: &PodUid) -> &'a mut Entry {
        pods.entry(uid.clone()).or_insert_with(|| {
            let nowhere = Target { pod: Arc::default(), ip: None };
            let state = PodState::new(uid.clone(), nowhere, self.nothing.clone());
            Entry { state: Arc::new(state), terminating: false, instances: BTreeMap::new() }
        })
    }
}

impl Entry {
    /// The named container's instance with this ID; an older one goes, with its probes and outcomes.
    fn instance(&mut self, running: &Running, now: Now) -> &mut Instance {
        let Self { state, instances, .. } = self;
        let fresh = || {
            state.outcomes.send_modify(|outcomes| {
                Arc::make_mut(outcomes).0.entry(running.container_id.clone()).or_default();
            });
            let id = running.container_id.as_str().into();
            let started = now.placed(running.started_at);
            Instance { id, started, workers: BTreeMap::new(), tallies: BTreeMap::new() }
        };
        match instances.entry(running.name.as_str().into()) {
            btree_map::Entry::Vacant(place) => place.insert(fresh()),
            btree_map::Entry::Occupied(mut place) => {
                if *place.get().id != *running.container_id {
                    let old = place.insert(fresh());
                    state.forget(&old.id);
                    place.get_mut().tallies = old.tallies;
                }
                place.into_mut()
            }
        }
    }

    /// Ends the probes of all containers but those, and forgets their outcomes.
    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let Self { state, instances, .. } = self;
        instances.retain(|name, instance| {
            let kept = keep(name);
            if !kept {
                state.forget(&instance.id);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests;
