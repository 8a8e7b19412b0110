use serde_json::json;

use super::*;
use crate::testing::{TestApi, TestMachine, clock, settings};
use kube_model::eviction::{Signal, SignalObservation, Threshold, ThresholdValue};

struct Fixture {
    api: Arc<TestApi>,
    machine: Arc<TestMachine>,
    node: watch::Receiver<Option<Arc<Node>>>,
    other: watch::Sender<Option<bool>>,
    seen: watch::Sender<Option<Arc<Node>>>,
}

impl Fixture {
    fn start(settings: Settings, existing: Option<Node>) -> Self {
        let api = Arc::<TestApi>::default();
        api.state.lock().unwrap().node = existing;
        let machine = Arc::new(TestMachine::new());
        let (node, other) = (watch::Sender::new(None), watch::Sender::new(Some(false)));
        let seen = watch::Sender::new(None);
        let receiver = node.subscribe();
        let reporter = Reporter {
            settings,
            api: Arc::clone(&api),
            machine: Arc::clone(&machine),
            node,
            seen: seen.subscribe(),
            other: other.subscribe(),
            clock,
        };
        tokio::spawn(reporter.run());
        Self { api, machine, node: receiver, other, seen }
    }

    async fn registered(&mut self) {
        self.node.wait_for(Option::is_some).await.unwrap();
    }

    /// Somebody else writes into the Node, and the watch tells of it.
    fn written_by_others(&self, change: impl FnOnce(&mut Node)) {
        let mut state = self.api.state.lock().unwrap();
        let node = state.node.as_mut().unwrap();
        change(node);
        let version = node.metadata.resource_version.take().map_or(0, |version| version.parse().unwrap());
        node.metadata.resource_version = Some((version + 1).to_string());
        self.seen.send_replace(Some(Arc::new(node.clone())));
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.machine.facts.lock().unwrap());
        self.machine.changes.send_modify(|n| *n += 1);
    }

    fn ready(&self) -> Option<String> {
        let state = self.api.state.lock().unwrap();
        let conditions = state.node.as_ref()?.status.as_ref()?.conditions.as_ref()?;
        Some(conditions.iter().find(|c| c.type_ == "Ready")?.status.clone())
    }
}

fn runtime_up(facts: &mut Facts) {
    facts.runtime.problems.clear();
}

#[tokio::test(start_paused = true)]
async fn a_node_is_created_and_becomes_ready_when_the_runtime_is() {
    let mut settings = settings();
    settings.at_start = vec![(EventType::Warning, "CgroupV1", "old".to_owned())];
    let mut node = Fixture::start(settings, None);
    node.registered().await;
    assert_eq!(node.api.verbs(), ["get", "create"]);
    assert_eq!(node.ready().as_deref(), Some("False"));
    node.change(runtime_up);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.ready().as_deref(), Some("True"));
    assert_eq!(
        node.api.events(),
        [
            "Starting",
            "CgroupV1",
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID",
            "NodeReady"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_node_is_reported_every_five_minutes_only() {
    let mut node = Fixture::start(settings(), None);
    node.registered().await;
    node.change(runtime_up);
    sleep(Duration::from_secs(1)).await;
    let before = node.api.verbs().len();
    sleep(Duration::from_secs(3000)).await;
    let reports = node.api.verbs().len() - before;
    assert!((9..=10).contains(&reports), "{reports} in 50 minutes");
    let state = node.api.state.lock().unwrap();
    let (verb, body) = state.log.last().unwrap();
    assert_eq!(*verb, "patch status");
    let heartbeat = body["status"]["conditions"].as_array().unwrap();
    assert_eq!(heartbeat.len(), 4);
    assert!(heartbeat.iter().all(|c| c.as_object().unwrap().len() == 2), "only the time: {heartbeat:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_drops_is_not_sent_each_time() {
    let mut node = Fixture::start(settings(), None);
    node.registered().await;
    node.api.state.lock().unwrap().old = true;
    let policy = |facts: &mut Facts, known| facts.runtime.supplemental_groups_policy = Some(known);
    node.change(|facts| {
        runtime_up(facts);
        policy(facts, true);
    });
    sleep(Duration::from_secs(1)).await;
    let patches = node.api.verbs().len();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(node.api.verbs().len(), patches);
    node.change(|facts| policy(facts, false));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.api.verbs().len(), patches + 1, "a change is told of all the same");
}

#[tokio::test(start_paused = true)]
async fn what_others_write_is_answered_at_once() {
    let mut node = Fixture::start(settings(), None);
    node.registered().await;
    node.change(runtime_up);
    sleep(Duration::from_secs(1)).await;
    let before = node.api.verbs().len();
    // The node was away for too long, and is back.
    node.written_by_others(|node| {
        let conditions = node.status.as_mut().unwrap().conditions.as_mut().unwrap();
        conditions.iter_mut().find(|c| c.type_ == "Ready").unwrap().status = "Unknown".to_owned();
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.ready().as_deref(), Some("True"));
    assert_eq!(node.api.verbs()[before..], ["patch status"]);
    node.written_by_others(|node| node.spec.get_or_insert_default().unschedulable = Some(true));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.api.verbs().len(), before + 1, "nothing to say");
    assert_eq!(node.api.events().last().map(String::as_str), Some("NodeNotSchedulable"));
    let shown = node.node.borrow().clone().unwrap();
    assert_eq!(shown.spec.as_ref().unwrap().unschedulable, Some(true));
    // Old news.
    node.seen.send_replace(Some(Arc::default()));
    sleep(Duration::from_secs(1)).await;
    assert!(node.node.borrow().as_ref().unwrap().spec.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_existing_node_is_put_right_not_replaced() {
    let existing: Node = serde_json::from_value(json!({
        "metadata": {"name": "node1", "uid": "u", "labels": {"mine": "1", "kubernetes.io/os": "plan9"}},
        "status": {"conditions": [{"type": "Other", "status": "True"}]},
    }))
    .unwrap();
    let mut node = Fixture::start(settings(), Some(existing));
    node.registered().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.api.verbs(), ["get", "patch", "patch status"]);
    let state = node.api.state.lock().unwrap();
    let node = state.node.as_ref().unwrap();
    let labels = node.metadata.labels.as_ref().unwrap();
    assert_eq!((labels["mine"].as_str(), labels["kubernetes.io/os"].as_str()), ("1", "linux"));
    let conditions = node.status.as_ref().unwrap().conditions.as_ref().unwrap();
    assert_eq!(conditions.len(), 5);
    assert_eq!(conditions[0].type_, "Other");
}

#[tokio::test(start_paused = true)]
async fn a_ready_node_stays_so_until_the_runtime_of_a_new_agent_has_answered() {
    let existing: Node = serde_json::from_value(json!({
        "metadata": {"name": "node1", "uid": "u"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap();
    let mut node = Fixture::start(settings(), Some(existing));
    node.machine.answered.send_replace(false);
    node.change(|facts| facts.runtime.problems = vec!["nobody knows".to_owned()]);
    node.registered().await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(node.api.verbs(), ["get", "patch"], "labels only");
    node.machine.answered.send_replace(true);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.ready().as_deref(), Some("False"));
}

#[tokio::test(start_paused = true)]
async fn errors_do_not_end_it_and_a_failed_patch_reads_the_node_again() {
    let mut node = Fixture::start(settings(), None);
    node.api.state.lock().unwrap().errors =
        vec![ApiError::Other("refused".to_owned()), ApiError::Forbidden("no".to_owned())];
    node.registered().await;
    node.api.state.lock().unwrap().errors = vec![ApiError::Conflict];
    node.change(runtime_up);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.ready().as_deref(), Some("True"));
    let verbs = node.api.verbs();
    assert_eq!(verbs[verbs.len() - 3..], ["patch status", "get", "patch status"]);
}

#[tokio::test(start_paused = true)]
async fn without_registration_the_node_is_waited_for() {
    let mut settings = settings();
    settings.register = false;
    let mut node = Fixture::start(settings, None);
    sleep(Duration::from_secs(60)).await;
    assert!(node.node.borrow().is_none());
    assert!(node.api.verbs().iter().all(|verb| *verb == "get"));
    node.api.state.lock().unwrap().node = Some(Node::default());
    node.registered().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_another_agent_has_the_node() {
    let mut node = Fixture::start(settings(), None);
    node.registered().await;
    node.other.send_replace(Some(true));
    node.change(runtime_up);
    // The round that was under way may end.
    sleep(Duration::from_secs(20)).await;
    let before = node.api.verbs().len();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(node.api.verbs().len(), before);
    node.other.send_replace(Some(false));
    sleep(Duration::from_secs(20)).await;
    assert!(node.api.verbs().len() > before);
}

#[tokio::test(start_paused = true)]
async fn a_pressure_is_told_of_for_a_while_after_it_has_gone() {
    let mut settings = settings();
    settings.limits.thresholds =
        vec![Threshold { signal: Signal::PidAvailable, value: ThresholdValue::Quantity(10) }];
    let mut node = Fixture::start(settings, None);
    node.registered().await;
    let left = |available| {
        move |facts: &mut Facts| {
            facts.observations.insert(Signal::PidAvailable, SignalObservation { capacity: 100, available });
        }
    };
    let events = |node: &Fixture| node.api.events().split_off(4);
    node.change(left(9));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(events(&node), ["NodeHasInsufficientPID"]);
    node.change(left(50));
    sleep(Duration::from_secs(280)).await;
    assert_eq!(events(&node), ["NodeHasInsufficientPID"]);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(events(&node), ["NodeHasInsufficientPID", "NodeHasSufficientPID"]);
}

#[tokio::test(start_paused = true)]
async fn volumes_may_be_mounted_when_the_server_has_answered_that_they_are_in_use() {
    let mut node = Fixture::start(settings(), None);
    node.registered().await;
    node.change(runtime_up);
    sleep(Duration::from_secs(1)).await;
    let in_use = |revision, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        move |facts: &mut Facts| facts.volumes_in_use = crate::VolumesInUse { names, all: true, revision }
    };
    // All attempts of one round, and more.
    node.api.state.lock().unwrap().errors = vec![ApiError::Other("away".to_owned()); 30];
    node.change(in_use(7, &["v"]));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*node.machine.told.borrow(), 0);
    node.api.state.lock().unwrap().errors.clear();
    sleep(Duration::from_secs(11)).await;
    assert_eq!(*node.machine.told.borrow(), 7);
    let has = || node.api.state.lock().unwrap().node.clone().unwrap().status.unwrap().volumes_in_use;
    assert_eq!(has(), Some(vec!["v".to_owned()]));
    // What the server has already it need not be told of.
    node.change(in_use(8, &["v"]));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*node.machine.told.borrow(), 8);
}
