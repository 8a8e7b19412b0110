//! With a paused clock: exec probes against a script, so that no real I/O stands between the timers.

mod changes;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube_model::core::{ContainerPort, ExecAction, PodSpec, Probe, TCPSocketAction};
use kube_model::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::probe::ContainerProbes;
use kube_model::probe::ProbeOutcome::{Failure, Success};
use tokio::time::{sleep, timeout};

use super::*;
use crate::exec::{ExecError, ExecOutput};

/// What each command (its first word) answers; what was run, as `container ID/command`.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<BTreeMap<&'static str, Result<ExecOutput, ExecError>>>,
    runs: Mutex<Vec<String>>,
    under_way: AtomicUsize,
    takes: Mutex<Duration>,
}

#[derive(Debug, Default)]
struct Heard {
    changes: Mutex<Vec<String>>,
    events: Mutex<Vec<String>>,
}

#[derive(Debug, Default, Clone)]
struct Fake {
    script: Arc<Script>,
    heard: Arc<Heard>,
}

struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Exec for Fake {
    async fn exec(&self, id: &str, command: Vec<String>, _: Duration) -> Result<ExecOutput, ExecError> {
        self.script.under_way.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(&self.script.under_way);
        self.script.runs.lock().unwrap().push(format!("{id}/{}", command[0]));
        let takes = *self.script.takes.lock().unwrap();
        sleep(takes).await;
        self.script.answers.lock().unwrap().get(&*command[0]).cloned().unwrap_or(Ok(ExecOutput::default()))
    }
}

impl Sink for Fake {
    fn changed(&self, pod: &PodUid) {
        self.heard.changes.lock().unwrap().push(pod.to_string());
    }

    fn event(&self, pod: &PodUid, container: &str, kind: EventType, reason: &'static str, message: String) {
        let line = format!("{pod}/{container} {kind:?} {reason}: {message}");
        self.heard.events.lock().unwrap().push(line);
    }
}

impl Fake {
    fn answer(&self, command: &'static str, exit_code: i32) {
        let output = ExecOutput { exit_code, output: b"out".to_vec() };
        self.script.answers.lock().unwrap().insert(command, Ok(output));
    }

    fn cannot_run(&self, command: &'static str) {
        let broken = ExecError::Other("no such container".into());
        self.script.answers.lock().unwrap().insert(command, Err(broken));
    }

    /// What ran since the last call.
    fn ran(&self) -> Vec<String> {
        std::mem::take(&mut self.script.runs.lock().unwrap())
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.events.lock().unwrap())
    }

    fn changes(&self) -> usize {
        std::mem::take(&mut *self.heard.changes.lock().unwrap()).len()
    }
}

thread_local!(static SET: std::cell::Cell<i64> = const { std::cell::Cell::new(0) });

/// Sets the wall clock forward or back by this many seconds.
fn set_clock(seconds: i64) {
    SET.set(SET.get() + seconds);
}

/// A wall clock that goes with tokio's, and how far it was set.
fn wall() -> Timestamp {
    thread_local!(static START: Instant = Instant::now());
    Timestamp::from_second(1_700_000_000 + SET.get()).unwrap() + START.with(Instant::elapsed)
}

struct Bed {
    prober: Prober<Fake, Fake>,
    fake: Fake,
    started: Timestamp,
}

const HOUR: Duration = Duration::from_secs(3600);
const UID: &str = "uid-1";

impl Bed {
    /// An agent that has been up for an hour.
    fn new() -> Self {
        let fake = Fake::default();
        let started = wall();
        let agent_started = Monotonic::default() - SignedDuration::from_hours(1);
        Self { prober: Prober::of_agent(fake.clone(), fake.clone(), wall, agent_started), fake, started }
    }

    fn sync(&self, pod: &Arc<Pod>, id: &str) {
        let running = Running { name: "app".into(), container_id: id.into(), started_at: self.started };
        self.prober.sync(pod, None, &[running]);
    }

    fn of(&self, id: &str) -> ContainerProbes {
        self.prober.results(&UID.into()).of(id)
    }
}

fn exec(command: &str, failure_threshold: i32) -> Option<Probe> {
    Some(Probe {
        exec: Some(ExecAction { command: Some(vec![command.into()]) }),
        failure_threshold: Some(failure_threshold),
        ..Default::default()
    })
}

fn app() -> Container {
    Container { name: "app".into(), ..Default::default() }
}

fn pod_of(containers: Vec<Container>, init_containers: Vec<Container>) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(UID.into());
    pod.spec = Some(PodSpec { containers, init_containers: Some(init_containers), ..Default::default() });
    Arc::new(pod)
}

fn pod(container: Container) -> Arc<Pod> {
    pod_of(vec![container], Vec::new())
}

/// Lets `seconds` pass, and a little more for what falls due at their end.
async fn pass(seconds: u64) {
    sleep(Duration::from_millis(seconds * 1000 + 10)).await;
}

/// Lets what is due at this moment happen.
async fn settle() {
    sleep(Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_runs_at_once_and_then_each_period() {
    let bed = Bed::new();
    let pod = pod(Container { readiness_probe: exec("ready", 3), ..app() });
    bed.sync(&pod, "c1");
    assert_eq!(bed.of("c1"), ContainerProbes::default());
    settle().await;
    assert_eq!(bed.fake.ran(), ["c1/ready"]);
    assert_eq!(bed.of("c1").readiness, Some(Success));
    assert_eq!(bed.fake.changes(), 1);
    for _ in 0..100 {
        bed.sync(&pod, "c1");
    }
    pass(30).await;
    assert_eq!(bed.fake.ran(), ["c1/ready"; 3]);
    assert_eq!(bed.fake.changes(), 0);
    assert_eq!(bed.fake.events(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_moves_neither_the_initial_delay_nor_the_period() {
    for steps in [[-600, 0], [-3600, 0], [-31_536_000, 0], [600, 0], [3600, -3600], [31_536_000, -32_000_000]]
    {
        let bed = Bed::new();
        let delayed =
            |threshold| Probe { initial_delay_seconds: Some(20), ..exec("ready", threshold).unwrap() };
        bed.sync(&pod(Container { readiness_probe: Some(delayed(3)), ..app() }), "c1");
        for step in steps {
            pass(5).await;
            set_clock(step);
            // A changed probe counts its delay anew from the container's start.
            let threshold = if step == steps[0] { 4 } else { 5 };
            bed.sync(&pod(Container { readiness_probe: Some(delayed(threshold)), ..app() }), "c1");
        }
        pass(9).await;
        assert_eq!(bed.fake.ran(), [""; 0], "{steps:?}");
        pass(1).await;
        assert_eq!(bed.fake.ran(), ["c1/ready"], "{steps:?}");
        for step in steps {
            set_clock(step);
            pass(9).await;
            assert_eq!(bed.fake.ran(), [""; 0], "{steps:?}");
            pass(1).await;
            assert_eq!(bed.fake.ran(), ["c1/ready"], "{steps:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_falls_after_three_failures_and_comes_back() {
    let bed = Bed::new();
    bed.sync(&pod(Container { readiness_probe: exec("ready", 3), ..app() }), "c1");
    settle().await;
    bed.fake.answer("ready", 1);
    pass(20).await;
    assert_eq!(bed.of("c1").readiness, Some(Success));
    pass(10).await;
    assert_eq!(bed.of("c1").readiness, Some(Failure));
    assert_eq!(bed.fake.events(), ["uid-1/app Warning Unhealthy: Readiness probe failed: out"; 3]);
    assert_eq!(bed.fake.changes(), 2);
    bed.fake.answer("ready", 0);
    pass(10).await;
    assert_eq!(bed.of("c1").readiness, Some(Success));
}

#[tokio::test(start_paused = true)]
async fn a_failed_liveness_probe_holds_until_there_is_a_new_container() {
    let bed = Bed::new();
    bed.fake.answer("live", 1);
    let pod = pod(Container { liveness_probe: exec("live", 2), ..app() });
    bed.sync(&pod, "c1");
    pass(10).await;
    assert_eq!(bed.of("c1").liveness, Some(Failure));
    assert_eq!(bed.fake.ran().len(), 2);
    bed.sync(&pod, "c1");
    pass(100).await;
    assert_eq!(bed.fake.ran(), [""; 0]);

    bed.sync(&pod, "c2");
    assert_eq!(bed.of("c1"), ContainerProbes::default());
    assert_eq!(bed.of("c2"), ContainerProbes::default());
    settle().await;
    assert_eq!(bed.fake.ran(), ["c2/live"]);
    assert_eq!(bed.of("c2").liveness, None, "the old container's failures do not count");
    assert_eq!(bed.prober.results(&UID.into()).0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn startup_holds_the_others_back_and_stops_after_success() {
    let bed = Bed::new();
    bed.fake.answer("start", 1);
    let pod = pod(Container {
        startup_probe: exec("start", 30),
        readiness_probe: exec("ready", 3),
        liveness_probe: exec("live", 3),
        ..app()
    });
    bed.sync(&pod, "c1");
    pass(20).await;
    assert_eq!(bed.fake.ran(), ["c1/start"; 3]);
    bed.fake.answer("start", 0);
    pass(10).await;
    let mut ran = bed.fake.ran();
    ran.sort();
    assert_eq!(ran, ["c1/live", "c1/ready", "c1/start"], "the others follow at once");
    pass(10).await;
    let mut ran = bed.fake.ran();
    ran.sort();
    assert_eq!(ran, ["c1/live", "c1/ready"]);
    let all = ContainerProbes { liveness: Some(Success), readiness: Some(Success), startup: Some(Success) };
    assert_eq!(bed.of("c1"), all);
}

#[tokio::test(start_paused = true)]
async fn a_failed_startup_probe_settles_and_keeps_the_others_back() {
    let bed = Bed::new();
    bed.fake.answer("start", 1);
    let pod = pod(Container { startup_probe: exec("start", 2), readiness_probe: exec("ready", 3), ..app() });
    bed.sync(&pod, "c1");
    pass(60).await;
    assert_eq!(bed.fake.ran(), ["c1/start"; 2]);
    assert_eq!(bed.of("c1"), ContainerProbes { startup: Some(Failure), ..Default::default() });
}

#[tokio::test(start_paused = true)]
async fn the_initial_delay_is_kept() {
    let bed = Bed::new();
    let probe = exec("live", 3).map(|p| Probe { initial_delay_seconds: Some(15), ..p });
    bed.sync(&pod(Container { liveness_probe: probe, ..app() }), "c1");
    pass(14).await;
    assert_eq!(bed.fake.ran(), [""; 0]);
    pass(1).await;
    assert_eq!(bed.fake.ran(), ["c1/live"]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_cannot_run_is_tried_three_times_and_changes_nothing() {
    let bed = Bed::new();
    bed.sync(&pod(Container { readiness_probe: exec("ready", 1), ..app() }), "c1");
    settle().await;
    bed.fake.ran();
    bed.fake.cannot_run("ready");
    pass(10).await;
    assert_eq!(bed.fake.ran(), ["c1/ready"; 3]);
    assert_eq!(bed.of("c1").readiness, Some(Success));
    let text = "Readiness probe errored and resulted in unknown state: no such container";
    assert_eq!(bed.fake.events(), [format!("uid-1/app Warning Unhealthy: {text}")]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_agent_keeps_readiness_until_it_fails_anew() {
    let bed = Bed::new();
    bed.fake.answer("ready", 1);
    bed.fake.answer("start", 1);
    let known = ContainerProbes { readiness: Some(Success), startup: Some(Success), liveness: None };
    bed.prober.restore(&UID.into(), PodProbes(BTreeMap::from([("c1".into(), known)])));
    assert_eq!(bed.of("c1"), known, "before the first sync");
    let pod = pod(Container { startup_probe: exec("start", 1), readiness_probe: exec("ready", 3), ..app() });
    bed.sync(&pod, "c1");
    pass(10).await;
    assert_eq!(bed.of("c1"), known);
    assert_eq!(bed.fake.ran(), ["c1/ready"; 2], "the container has started already");
    assert_eq!(bed.fake.changes(), 0);
    pass(10).await;
    assert_eq!(bed.of("c1").readiness, Some(Failure));
    bed.sync(&pod, "c2");
    assert_eq!(bed.of("c2"), ContainerProbes::default(), "only the container that was named");
}

#[tokio::test(start_paused = true)]
async fn restoring_does_not_overwrite_what_is_known_better() {
    let bed = Bed::new();
    bed.fake.answer("ready", 1);
    bed.sync(&pod(Container { readiness_probe: exec("ready", 1), ..app() }), "c1");
    settle().await;
    let stale = ContainerProbes { readiness: Some(Success), ..Default::default() };
    bed.prober.restore(&UID.into(), PodProbes(BTreeMap::from([("c1".into(), stale)])));
    assert_eq!(bed.of("c1").readiness, Some(Failure));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_just_started_spreads_the_probes_of_old_containers() {
    let fake = Fake::default();
    let now = wall();
    let prober = Prober::new(fake.clone(), fake.clone(), wall);
    for n in 0..50 {
        let mut pod = Pod::clone(&pod(Container { liveness_probe: exec("live", 3), ..app() }));
        pod.metadata.uid = Some(format!("uid-{n}"));
        let started_at = now - HOUR;
        let running = Running { name: "app".into(), container_id: format!("c{n}"), started_at };
        prober.sync(&Arc::new(pod), None, &[running]);
    }
    settle().await;
    assert!(fake.ran().len() < 5);
    pass(4).await;
    assert!((10..40).contains(&fake.ran().len()));
    pass(6).await;
    fake.ran();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fake.ran().len(), 50, "each once a period");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_waits_for_its_first_outcome_is_probed_at_once_after_a_restart_of_the_agent() {
    let fake = Fake::default();
    let now = wall();
    let prober = Prober::new(fake.clone(), fake.clone(), wall);
    let pod = pod(Container { readiness_probe: exec("ready", 3600), ..app() });
    let running = Running { name: "app".into(), container_id: "c1".into(), started_at: now - HOUR };
    prober.sync(&pod, None, &[running]);
    settle().await;
    assert_eq!(fake.ran(), ["c1/ready"]);
    assert_eq!(prober.results(&UID.into()).of("c1").readiness, Some(Success));
}

#[tokio::test(start_paused = true)]
async fn terminating_stops_liveness_and_startup_only() {
    let bed = Bed::new();
    let pod = pod(Container { readiness_probe: exec("ready", 1), liveness_probe: exec("live", 1), ..app() });
    bed.sync(&pod, "c1");
    settle().await;
    assert_eq!(bed.fake.ran().len(), 2);
    bed.prober.terminating(&UID.into());
    bed.fake.answer("ready", 1);
    bed.fake.answer("live", 1);
    bed.sync(&pod, "c1");
    pass(10).await;
    assert_eq!(bed.fake.ran(), ["c1/ready"]);
    assert_eq!(bed.of("c1").readiness, Some(Failure));
    assert_eq!(bed.of("c1").liveness, Some(Success));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_terminates_before_its_first_sync_gets_readiness_only() {
    let bed = Bed::new();
    bed.prober.terminating(&UID.into());
    let all = Container { readiness_probe: exec("ready", 1), liveness_probe: exec("live", 1), ..app() };
    bed.sync(&pod(all), "c1");
    pass(10).await;
    assert_eq!(bed.fake.ran(), ["c1/ready"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_pod_leaves_nothing_behind() {
    let bed = Bed::new();
    *bed.fake.script.takes.lock().unwrap() = Duration::from_secs(5);
    let pod = pod(Container {
        startup_probe: exec("start", 1),
        readiness_probe: exec("ready", 1),
        liveness_probe: exec("live", 1),
        ..app()
    });
    bed.sync(&pod, "c1");
    settle().await;
    assert_eq!(bed.fake.script.under_way.load(Ordering::SeqCst), 1);
    let tasks = tokio::runtime::Handle::current().metrics();
    assert_eq!(tasks.num_alive_tasks(), 3);
    bed.prober.remove(&UID.into());
    settle().await;
    assert_eq!(bed.fake.script.under_way.load(Ordering::SeqCst), 0, "the command is given up");
    assert_eq!(tasks.num_alive_tasks(), 0);
    assert_eq!(*bed.prober.results(&UID.into()), PodProbes::default());
    pass(100).await;
    assert_eq!(bed.fake.ran(), ["c1/start"]);
    assert_eq!(bed.fake.changes(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_prober_ends_all_probes() {
    let bed = Bed::new();
    bed.sync(&pod(Container { readiness_probe: exec("ready", 1), ..app() }), "c1");
    settle().await;
    drop(bed.prober);
    settle().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
