//! How long pods of the API server take from their creation until the server shows that they run (as
//! upstream `pkg/kubelet/util/pod_startup_latency_tracker.go`).
//!
//! A pod is followed from when the agent first hears of it until it has been counted; one that somebody had begun to
//! start before, or that could not be scheduled at once, is not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use ::metrics::{Histogram, Kind, Text};
use kube_model::core::{ContainerStatus, Pod, PodSpec};
use kube_model::pod::{ContainerKind, containers, has_ended, host_network, identity, is_static};
use kube_model::{Monotonic, Now, PodUid, Timestamp};
use pod_manager::Change;

use super::{STARTS, lock};

/// Follows the pods that are starting.
#[derive(Debug)]
pub struct StartupLatency(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    starting: HashMap<PodUid, Start>,
    total: Histogram,
    /// Without pulls and init containers, and only pods without lasting volumes.
    sli: Histogram,
    /// Of those, the first one with a network of its own.
    first: Option<f64>,
    counted: (u64, u64),
}

/// A pod that is starting.
#[derive(Debug)]
struct Start {
    /// When it was created, by the age that it had when it was first heard of: a clock that is set later changes
    /// nothing.
    created: Option<Monotonic>,
    /// How long images were pulled for it; what overlaps counts once.
    pulls: Duration,
    /// When the last pull ended.
    pulled: Option<Monotonic>,
}

impl Default for StartupLatency {
    fn default() -> Self {
        Self(Mutex::new(Counts {
            starting: HashMap::new(),
            total: Histogram::new(STARTS),
            sli: Histogram::new(STARTS),
            first: None,
            counted: (0, 0),
        }))
    }
}

impl StartupLatency {
    /// A source has told of a pod.
    pub fn heard(&self, change: &Change, now: Now) {
        match change {
            Change::Remove(uid) => {
                lock(&self.0).starting.remove(uid);
            }
            Change::Add(pod) if !is_static(pod) => {
                let begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
                if !begun && !is_lost(pod) {
                    let created = pod.metadata.creation_timestamp.as_ref().map(|time| now.placed(time.0));
                    let start = Start { created, pulls: Duration::ZERO, pulled: None };
                    lock(&self.0).starting.entry(identity(pod).0).or_insert(start);
                }
            }
            Change::Update(pod) | Change::Delete(pod) | Change::Reconcile(pod) if !is_static(pod) => {
                lock(&self.0).shown(pod, now.mono);
            }
            Change::Add(_) | Change::Update(_) | Change::Delete(_) | Change::Reconcile(_) => {}
        }
    }

    /// An image was pulled for a pod until now.
    pub fn pulled_for(&self, pod: &Pod, took: Duration, now: Monotonic) {
        let mut counts = lock(&self.0);
        let Some(start) = counts.starting.get_mut(&identity(pod).0) else { return };
        let since_last = start.pulled.map_or(took, |last| now.left(last));
        start.pulls += took.min(since_last);
        start.pulled = Some(now);
    }
}

impl Counts {
    /// The server shows a pod like this.
    fn shown(&mut self, pod: &Pod, now: Monotonic) {
        let (uid, _) = identity(pod);
        let Some(start) = self.starting.get(&uid) else { return };
        if is_lost(pod) {
            self.starting.remove(&uid);
            return;
        }
        let (Some(spec), Some(created)) = (&pod.spec, start.created) else { return };
        if !has_started(pod, spec) {
            return;
        }
        let took = now.left(created);
        self.total.observe(took.as_secs_f64());
        self.counted.0 += 1;
        if !is_stateful(spec) {
            let sli = took.saturating_sub(start.pulls).saturating_sub(init_time(pod, spec)).as_secs_f64();
            self.sli.observe(sli);
            self.counted.1 += 1;
            if !host_network(spec) {
                self.first.get_or_insert(sli);
            }
        }
        self.starting.remove(&uid);
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Whether its start is not of interest any more: it has ended, or had to wait for others to be scheduled.
fn is_lost(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| {
        let unscheduled =
            |c: &kube_model::core::PodCondition| c.type_ == "PodScheduled" && c.status == "False";
        has_ended(status) || status.conditions.iter().flatten().any(unscheduled)
    })
}

/// Whether every container runs.
fn has_started(pod: &Pod, spec: &PodSpec) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let runs = |status: &ContainerStatus| {
        status.state.as_ref().and_then(|state| state.running.as_ref()?.started_at.as_ref()).is_some()
    };
    statuses.is_some_and(|all| all.len() >= spec.containers.len() && all.iter().all(runs))
}

/// Whether it has volumes that outlive it.
fn is_stateful(spec: &PodSpec) -> bool {
    spec.volumes.iter().flatten().any(|volume| {
        volume.secret.is_none()
            && volume.config_map.is_none()
            && volume.downward_api.is_none()
            && volume.empty_dir.is_none()
            && volume.projected.is_none()
    })
}

/// How long its init containers ran, those that go on beside the others left out.
fn init_time(pod: &Pod, spec: &PodSpec) -> Duration {
    let is_init = |name: &str| {
        containers(spec).any(|(kind, container)| kind == ContainerKind::Init && container.name == name)
    };
    let statuses = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref());
    let ran = |status: &ContainerStatus| {
        let states = [status.last_state.as_ref(), status.state.as_ref()];
        let ends = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
        ends.filter_map(|end| Some(between(end.started_at.as_ref()?.0, end.finished_at.as_ref()?.0)))
            .sum::<Duration>()
    };
    statuses.into_iter().flatten().filter(|status| is_init(&status.name)).map(ran).sum()
}

impl StartupLatency {
    /// Writes what was counted.
    pub fn write(&self, out: &mut Text) {
        let counts = lock(&self.0);
        let name = "kubelet_first_network_pod_start_sli_duration_seconds";
        let help = "[ALPHA] How long the first pod with a network of its own took to start, in seconds, without \
                    image pulls and init containers";
        out.metric(name, Kind::Gauge, help);
        out.sample(name, &[], counts.first.unwrap_or_default());
        let mut histogram = |name: &str, help: &str, histogram, counted| {
            if counted > 0 {
                out.metric(name, Kind::Histogram, help);
                out.histogram(name, &[], histogram);
            }
        };
        let help = "[ALPHA] How long pods without lasting volumes took from their creation until the API server \
                    showed them running, in seconds, without image pulls and init containers";
        histogram("kubelet_pod_start_sli_duration_seconds", help, &counts.sli, counts.counted.1);
        let help = "[ALPHA] How long pods took from their creation until the API server showed them running, in \
                    seconds";
        histogram("kubelet_pod_start_total_duration_seconds", help, &counts.total, counts.counted.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn mono(second: u64) -> Monotonic {
        Monotonic::after_start(Duration::from_secs(second))
    }

    /// So many seconds after the pod's creation, on a clock that was set by `set` seconds.
    fn now(second: u64, set: i64) -> Now {
        Now { wall: at(i64::try_from(second).unwrap() + set), mono: mono(second) }
    }

    fn pod(volumes: Value, status: Value) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"uid": "u1", "name": "p", "namespace": "d", "creationTimestamp": at(0).to_string(),
                "annotations": {"kubernetes.io/config.source": "api"}},
            "spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "first"}], "volumes": volumes},
            "status": status,
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn running() -> Value {
        let container = |name, state| json!({"name": name, "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": state});
        let ended = json!({"terminated": {"exitCode": 0, "startedAt": at(3).to_string(), "finishedAt": at(5).to_string()}});
        json!({
            "phase": "Running", "startTime": at(1).to_string(),
            "initContainerStatuses": [container("first", ended)],
            "containerStatuses": [container("app", json!({"running": {"startedAt": at(8).to_string()}}))],
        })
    }

    fn page(metrics: &StartupLatency) -> String {
        let mut out = Text::default();
        metrics.write(&mut out);
        out.finish()
    }

    #[test]
    fn a_start_is_counted_when_the_server_shows_it_and_once() {
        let metrics = StartupLatency::default();
        metrics.heard(&Change::Add(pod(json!([]), json!({}))), now(1, 0));
        // Two pulls side by side, four seconds together.
        let starting = pod(json!([]), json!({"phase": "Pending", "startTime": at(1).to_string()}));
        metrics.pulled_for(&starting, Duration::from_secs(3), mono(6));
        metrics.pulled_for(&starting, Duration::from_secs(3), mono(7));
        metrics.heard(&Change::Reconcile(starting), now(7, 0));
        assert!(!page(&metrics).contains("sli_duration_seconds_count"), "{}", page(&metrics));
        for _ in 0..2 {
            metrics.heard(&Change::Reconcile(pod(json!([]), running())), now(9, 0));
        }
        for line in [
            "kubelet_first_network_pod_start_sli_duration_seconds 3\n",
            "kubelet_pod_start_sli_duration_seconds_sum 3\n",
            "kubelet_pod_start_sli_duration_seconds_count 1\n",
            "kubelet_pod_start_total_duration_seconds_sum 9\n",
        ] {
            assert!(page(&metrics).contains(line), "{line}: {}", page(&metrics));
        }
        assert!(lock(&metrics.0).starting.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_during_a_start_changes_no_duration() {
        for set in [-86_400, -600, 600, 86_400] {
            let metrics = StartupLatency::default();
            metrics.heard(&Change::Add(pod(json!([]), json!({}))), now(1, 0));
            let starting = pod(json!([]), json!({"phase": "Pending", "startTime": at(1).to_string()}));
            metrics.pulled_for(&starting, Duration::from_secs(3), mono(6));
            metrics.heard(&Change::Reconcile(pod(json!([]), running())), now(9, set));
            let page = page(&metrics);
            for line in ["start_sli_duration_seconds_sum 4\n", "start_total_duration_seconds_sum 9\n"] {
                assert!(page.contains(line), "{set}: {line}: {page}");
            }
        }
    }

    #[test]
    fn what_is_no_start_of_this_agents_is_not_counted() {
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False"}]});
        let begun = json!({"phase": "Pending", "startTime": at(1).to_string()});
        for (status, why) in [
            (begun, "begun before"),
            (unscheduled, "waited for a node"),
            (json!({"phase": "Failed"}), "ended"),
        ] {
            let metrics = StartupLatency::default();
            metrics.heard(&Change::Add(pod(json!([]), status)), now(1, 0));
            metrics.heard(&Change::Reconcile(pod(json!([]), running())), now(9, 0));
            assert!(!page(&metrics).contains("_count"), "{why}");
        }
        let metrics = StartupLatency::default();
        let volumes = json!([{"name": "v", "hostPath": {"path": "/"}}]);
        metrics.heard(&Change::Add(pod(volumes.clone(), json!({}))), now(1, 0));
        metrics.heard(&Change::Reconcile(pod(volumes, running())), now(9, 0));
        let page = page(&metrics);
        assert!(
            page.contains("total_duration_seconds_count 1\n") && !page.contains("sli_duration_seconds_count")
        );
    }

    #[test]
    fn a_pod_that_goes_is_forgotten() {
        let metrics = StartupLatency::default();
        metrics.heard(&Change::Add(pod(json!([]), json!({}))), now(1, 0));
        metrics.heard(&Change::Remove("u1".into()), now(2, 0));
        assert!(lock(&metrics.0).starting.is_empty());
    }
}
