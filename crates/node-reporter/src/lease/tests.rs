use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::testing::{TestApi, clock, set_clock};

struct Fixture {
    api: Arc<TestApi>,
    node: watch::Sender<Option<Arc<Node>>>,
    other: watch::Receiver<Option<bool>>,
    _task: tokio::task::JoinHandle<()>,
}

fn start(api: &Arc<TestApi>, instance: &str) -> Fixture {
    let node = watch::Sender::new(None);
    let other = watch::Sender::new(None);
    let fixture = (node.subscribe(), other.subscribe());
    let lease = Lease {
        api: Arc::clone(api),
        name: "node1".to_owned(),
        instance: instance.to_owned(),
        duration: Duration::from_secs(40),
        node: fixture.0,
        other,
        clock,
    };
    let task = tokio::spawn(lease.run());
    Fixture { api: Arc::clone(api), node, other: fixture.1, _task: task }
}

impl Fixture {
    fn register(&self) {
        let mut node = Node::default();
        node.metadata.uid = Some("uid".to_owned());
        self.node.send_replace(Some(Arc::new(node)));
    }

    async fn until(&self, what: impl Fn(&TestApi) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(3600);
        while !what(&self.api) {
            assert!(Instant::now() < deadline, "{:?}", self.api.verbs());
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn count(&self, verb: &str) -> usize {
        self.api.verbs().iter().filter(|v| **v == verb).count()
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_made_when_the_node_is_there_and_renewed_every_ten_seconds() {
    let lease = start(&Arc::default(), "a");
    lease.until(|api| !api.verbs().is_empty()).await;
    assert_eq!(lease.api.verbs(), ["get lease"]);
    lease.register();
    lease.until(|api| api.verbs().contains(&"create lease")).await;
    let made = lease.api.state.lock().unwrap().log[1].1.clone();
    assert_eq!(
        made["metadata"]["ownerReferences"],
        json!([
            {"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "uid"}
        ])
    );
    assert_eq!(made["spec"]["holderIdentity"], "node1");
    assert_eq!(made["spec"]["leaseDurationSeconds"], 40);
    sleep(Duration::from_secs(60)).await;
    assert!((5..=6).contains(&lease.count("update lease")), "{:?}", lease.api.verbs());
    assert_eq!(lease.count("get lease"), 1);
    assert_eq!(*lease.other.borrow(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn errors_are_tried_again_at_once_and_then_slower() {
    let lease = start(&Arc::default(), "a");
    lease.register();
    lease.until(|api| api.state.lock().unwrap().lease.is_some()).await;
    let fail = || ApiError::Other("timeout".to_owned());
    lease.api.state.lock().unwrap().errors = vec![fail(); 7];
    let before = lease.count("update lease");
    lease.until(|api| api.state.lock().unwrap().errors.is_empty()).await;
    lease.until(|_| lease.count("update lease") == before + 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_agent_of_the_name_waits_until_the_first_is_silent() {
    let first = start(&Arc::default(), "a");
    first.register();
    first.until(|api| api.state.lock().unwrap().lease.is_some()).await;
    let second = start(&first.api, "b");
    second.register();
    let mut other = second.other.clone();
    other.wait_for(|other| *other == Some(true)).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    assert_eq!((*first.other.borrow(), *second.other.borrow()), (Some(false), Some(true)));
    first._task.abort();
    other.wait_for(|other| *other == Some(false)).await.unwrap();
    let holder = || {
        let state = second.api.state.lock().unwrap();
        state.lease.as_ref().unwrap().metadata.annotations.as_ref().unwrap()[INSTANCE].clone()
    };
    second.until(|_| holder() == "b").await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_kubelet_and_ones_own_are_taken_at_once() {
    for annotations in [None, Some(BTreeMap::from([(INSTANCE.to_owned(), "a".to_owned())]))] {
        let api = Arc::<TestApi>::default();
        let spec = LeaseSpec { renew_time: Some(MicroTime(clock())), ..LeaseSpec::default() };
        let metadata =
            ObjectMeta { annotations, resource_version: Some("5".to_owned()), ..ObjectMeta::default() };
        api.state.lock().unwrap().lease = Some(Object { metadata, spec: Some(spec) });
        let lease = start(&api, "a");
        lease.until(|api| api.verbs().len() == 2).await;
        assert_eq!(api.verbs(), ["get lease", "update lease"]);
        assert_eq!(*lease.other.borrow(), Some(false));
    }
}

#[tokio::test(start_paused = true)]
async fn another_agent_has_the_node_for_as_long_as_it_says_itself() {
    for (duration, held) in [(Some(100), true), (Some(10), false), (None, false)] {
        let api = Arc::<TestApi>::default();
        let spec = LeaseSpec {
            renew_time: Some(MicroTime(clock() - Duration::from_secs(50))),
            lease_duration_seconds: duration,
            ..LeaseSpec::default()
        };
        let annotations = Some(BTreeMap::from([(INSTANCE.to_owned(), "b".to_owned())]));
        let metadata =
            ObjectMeta { annotations, resource_version: Some("5".to_owned()), ..ObjectMeta::default() };
        api.state.lock().unwrap().lease = Some(Object { metadata, spec: Some(spec) });
        let lease = start(&api, "a");
        let mut other = lease.other.clone();
        assert_eq!(*other.wait_for(Option::is_some).await.unwrap(), Some(held), "{duration:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_leases_may_not_be_seen_the_node_is_taken_for_ours() {
    let api = Arc::<TestApi>::default();
    api.state.lock().unwrap().errors = vec![ApiError::Other("timeout".to_owned()); 2];
    let lease = start(&api, "a");
    lease.until(|api| api.state.lock().unwrap().errors.is_empty()).await;
    assert_eq!(*lease.other.borrow(), None, "the server may come back and show one");
    drop(lease);
    api.state.lock().unwrap().errors = vec![ApiError::Forbidden("leases are not for you".to_owned())];
    let lease = start(&api, "a");
    lease.other.clone().wait_for(|other| *other == Some(false)).await.unwrap();
}

const STEPS: [[i64; 2]; 6] =
    [[-600, 0], [-3600, 0], [-31_536_000, 0], [600, 0], [3600, -3600], [31_536_000, -32_000_000]];

fn renewed(api: &TestApi) -> Timestamp {
    api.state.lock().unwrap().lease.as_ref().unwrap().spec.as_ref().unwrap().renew_time.as_ref().unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_neither_holds_up_the_renewal_nor_sets_it_back() {
    for steps in STEPS {
        let lease = start(&Arc::default(), "a");
        lease.register();
        lease.until(|api| api.state.lock().unwrap().lease.is_some()).await;
        for step in steps {
            set_clock(step);
            for _ in 0..3 {
                let (before, count) = (renewed(&lease.api), lease.count("update lease"));
                let began = Instant::now();
                lease.until(|_| lease.count("update lease") > count).await;
                assert!(began.elapsed() < Duration::from_secs(11), "{steps:?}: {:?}", began.elapsed());
                assert!(renewed(&lease.api) > before, "{steps:?}");
            }
        }
        lease._task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_the_other_agent_neither_silent_nor_immortal() {
    for steps in STEPS {
        let first = start(&Arc::default(), "a");
        first.register();
        first.until(|api| api.state.lock().unwrap().lease.is_some()).await;
        let second = start(&first.api, "b");
        second.register();
        let mut other = second.other.clone();
        other.wait_for(|other| *other == Some(true)).await.unwrap();
        for step in steps {
            set_clock(step);
            sleep(Duration::from_secs(120)).await;
            assert_eq!((*first.other.borrow(), *other.borrow()), (Some(false), Some(true)), "{steps:?}");
        }
        first._task.abort();
        let began = Instant::now();
        for step in steps {
            sleep(Duration::from_secs(5)).await;
            set_clock(step);
        }
        other.wait_for(|other| *other == Some(false)).await.unwrap();
        // Its last renewal was up to ten seconds old, and is looked for every two.
        assert!((28..=44).contains(&began.elapsed().as_secs()), "{steps:?}: {:?}", began.elapsed());
        second._task.abort();
    }
}
