use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use kube_model::core::Pod;
use kube_model::pod::identity;
use kube_model::{PodKey, PodUid};
use proptest::prelude::*;

use super::*;

#[test]
fn since_when_a_source_fails_goes_with_a_clock_that_is_set() {
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let minute = Duration::from_secs(60);
    for (now, expected) in [(1060, 1000), (460, 400), (100_060, 100_000)] {
        assert_eq!(shown(at(1000), minute, at(now)), at(expected), "{now}");
    }
    assert_eq!(shown(at(1000), minute, at(1060) + Duration::from_millis(3)), at(1000));
    assert_eq!(shown(at(1000), Duration::MAX, at(1060)), at(1000));
}

type State = watch::Sender<Arc<SourceState>>;

fn pod(uid: &str, name: &str, label: &str) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_owned());
    pod.metadata.namespace = Some("default".to_owned());
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.labels = Some([("version".to_owned(), label.to_owned())].into());
    Arc::new(pod)
}

/// Sources that have said nothing yet.
fn sources<const N: usize>(names: [&'static str; N]) -> ([State; N], Mux) {
    let states = names.map(|source| {
        let location = Arc::from(format!("/{source}"));
        watch::Sender::new(Arc::new(SourceState { source, location, ..SourceState::default() }))
    });
    let mux = Mux::new(states.each_ref().map(watch::Sender::subscribe));
    (states, mux)
}

fn publish(state: &State, pods: Vec<Arc<Pod>>) {
    state.send_modify(|state| {
        let state = Arc::make_mut(state);
        (state.pods, state.seen) = (pods, true);
    });
}

/// All that the mux has to say at the moment. Each call of `next` that has to wait is dropped.
fn drain(mux: &mut Mux) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Some(more) = mux.next().now_or_never() {
        changes.extend(more.unwrap());
    }
    changes
}

#[tokio::test]
async fn each_source_speaks_at_the_start_and_is_ready_once_it_was_read() {
    let ([file, http], mut mux) = sources(["file", "http"]);
    assert_eq!(mux.next().await, Some(vec![]));
    assert_eq!(mux.next().await, Some(vec![]));
    assert_eq!(mux.pods().awaited().collect::<Vec<_>>(), ["file", "http"]);
    publish(&file, vec![pod("1", "web", "")]);
    assert_eq!(mux.next().await, Some(vec![Change::Add(pod("1", "web", ""))]));
    assert!(!mux.pods().sources_ready());
    publish(&http, vec![]);
    assert_eq!(mux.next().await, Some(vec![]));
    assert!(mux.pods().sources_ready());
}

#[tokio::test]
async fn only_the_latest_of_several_states_counts_and_the_pods_of_an_ended_source_stay() {
    let ([file], mut mux) = sources(["file"]);
    publish(&file, vec![pod("1", "web", "")]);
    publish(&file, vec![pod("2", "db", "")]);
    assert_eq!(drain(&mut mux), [Change::Add(pod("2", "db", ""))]);
    publish(&file, vec![pod("2", "db", "new")]);
    drop(file);
    assert_eq!(mux.next().await, Some(vec![Change::Update(pod("2", "db", "new"))]));
    assert_eq!(mux.next().await, None);
    assert_eq!(mux.pods().pods().len(), 1);
}

#[tokio::test]
async fn a_holder_that_knows_no_place_of_its_pods_is_named_by_its_location() {
    let ([api, push], mut mux) = sources(["api", "push"]);
    publish(&push, vec![pod("p", "web", "")]);
    drain(&mut mux);
    publish(&api, vec![pod("a", "web", "")]);
    drain(&mut mux);
    let problem = mux.problems().next().unwrap().to_string();
    assert!(problem.starts_with("/api: ") && problem.contains("(UID p, /push); that one runs"), "{problem}");
}

#[tokio::test]
async fn of_two_sources_that_want_a_name_the_later_one_has_the_error_with_its_place() {
    let ([file, http], mut mux) = sources(["file", "http"]);
    http.send_modify(|state| {
        let location = Location { path: "http://x/pods".into(), ..Location::default() };
        Arc::make_mut(state).locations.insert(PodUid::from("h"), location);
    });
    publish(&http, vec![pod("h", "web", "")]);
    drain(&mut mux);
    file.send_modify(|state| {
        let location = Location { path: "/file/web.yaml".into(), line: Some(4), column: Some(9) };
        Arc::make_mut(state).locations.insert(PodUid::from("f"), location);
    });
    publish(&file, vec![pod("f", "web", ""), pod("h", "other", "")]);
    drain(&mut mux);
    let problems: Vec<_> = mux.problems().map(|problem| problem.to_string()).collect();
    assert_eq!(
        problems,
        [
            "/file/web.yaml:4:9: metadata.name: the pod default/web is already wanted by the source \"http\" \
             (UID h, http://x/pods); that one runs",
            "/file: metadata.uid: a pod with UID h is already wanted by the source \"http\" (UID h, \
             http://x/pods); that one runs",
        ]
    );
    let views = mux.views();
    assert_eq!((views[0].problems.len(), views[1].problems.len()), (2, 0));
    publish(&http, vec![]);
    drain(&mut mux);
    assert_eq!(mux.problems().count(), 0, "the next in line runs, and the errors are gone");
    assert_eq!(mux.pods().pods().len(), 2);
}

#[tokio::test]
async fn a_source_waits_is_ready_fails_and_recovers() {
    let ([file], mut mux) = sources(["file"]);
    let see = |mux: &mut Mux| {
        drain(mux);
        let view = mux.views().remove(0);
        (view.condition, view.message, view.pods)
    };
    assert_eq!(see(&mut mux), (SourceCondition::Waiting, String::new(), 0));
    publish(&file, vec![pod("1", "web", "")]);
    assert_eq!(see(&mut mux), (SourceCondition::Ready, String::new(), 1));
    let problem = |path: &str, line| Problem {
        path: path.into(),
        line,
        message: "bad".to_owned(),
        ..Problem::default()
    };
    let tell = |problems: Vec<Problem>| {
        file.send_modify(|state| Arc::make_mut(state).problems = problems);
    };
    tell(vec![problem("/file/web.yaml", None), problem("/file", Some(3))]);
    assert_eq!(see(&mut mux).0, SourceCondition::Ready, "manifests are wrong, the source can be read");
    tell(vec![problem("/file/web.yaml", None), problem("/file/", None)]);
    let failing = see(&mut mux);
    assert_eq!(failing, (SourceCondition::Failing, "bad".to_owned(), 1));
    let since = mux.views()[0].since;
    tell(vec![problem("/file", None)]);
    assert_eq!(see(&mut mux), failing);
    assert_eq!(mux.views()[0].since, since, "another problem of the same kind is not another failure");
    tell(vec![]);
    assert_eq!(see(&mut mux).0, SourceCondition::Ready);
}

proptest! {
    /// Whatever the sources publish and whenever one listens: the changes replayed are the merged set, and in
    /// the end each pod that a source wants is there or is told to stand back.
    #[test]
    fn changes_replayed_are_the_merged_set(
        steps in prop::collection::vec(
            (0..3usize, prop::collection::vec((0..5u8, 0..4u8, 0..2u8), 0..5), any::<bool>()),
            0..12
        )
    ) {
        let (states, mut mux) = sources(["api", "file", "http"]);
        let mut replayed = BTreeMap::new();
        let mut wanted = [0; 3];
        for (index, set, listen) in steps {
            wanted[index] = set.len();
            let pods = set.iter().map(|(uid, name, label)| {
                pod(&uid.to_string(), &name.to_string(), &label.to_string())
            });
            publish(&states[index], pods.collect());
            if listen {
                replay(&mut replayed, drain(&mut mux));
                prop_assert_eq!(&merged(&mux), &replayed);
            }
        }
        replay(&mut replayed, drain(&mut mux));
        prop_assert_eq!(&merged(&mux), &replayed);
        let names: BTreeSet<PodKey> = replayed.values().map(|pod| identity(pod).1).collect();
        prop_assert_eq!(names.len(), replayed.len());
        prop_assert_eq!(replayed.len() + mux.problems().count(), wanted.iter().sum::<usize>());
    }
}

fn replay(pods: &mut BTreeMap<PodUid, Arc<Pod>>, changes: Vec<Change>) {
    for change in changes {
        let known = match &change {
            Change::Remove(uid) => pods.remove(uid).is_some(),
            Change::Add(pod) => pods.insert(identity(pod).0, Arc::clone(pod)).is_none(),
            Change::Update(pod) | Change::Delete(pod) | Change::Reconcile(pod) => {
                pods.insert(identity(pod).0, Arc::clone(pod)).is_some()
            }
        };
        assert!(known, "{change:?} does not follow from what came before");
    }
}

fn merged(mux: &Mux) -> BTreeMap<PodUid, Arc<Pod>> {
    mux.pods().pods().map(|(uid, pod)| (uid.clone(), Arc::clone(pod))).collect()
}

#[tokio::test]
async fn of_two_objects_with_one_name_the_first_source_has_it_and_the_other_says_so() {
    let key = Key { kind: kube_model::objects::Kind::Secret, namespace: "n".into(), name: "s".into() };
    let object =
        |value: &str| Arc::new(Object { data: [("k".to_owned(), value.into())].into(), ..Object::default() });
    let state = |source, objects: Objects| {
        Arc::new(SourceState {
            source,
            location: source.into(),
            objects,
            seen: true,
            ..SourceState::default()
        })
    };
    let file = watch::Sender::new(state("file", Objects::new()));
    let http = watch::Sender::new(state("http", [(key.clone(), object("http"))].into()));
    let mut mux = Mux::new([file.subscribe(), http.subscribe()]);
    mux.next().await.unwrap();
    mux.next().await.unwrap();
    let before = Arc::clone(mux.objects());
    assert_eq!(before[&key].data["k"], b"http");
    assert_eq!(mux.problems().count(), 0);
    file.send_replace(state("file", [(key.clone(), object("file"))].into()));
    assert_eq!(mux.next().await, Some(Vec::new()));
    assert_eq!(mux.objects()[&key].data["k"], b"file");
    let problems: Vec<_> = mux.problems().map(|problem| problem.to_string()).collect();
    assert_eq!(
        problems,
        ["http: metadata.name: the secret \"n/s\" is also in the source \"file\"; that one is used"]
    );
    let now = Arc::clone(mux.objects());
    http.send_modify(|state| Arc::make_mut(state).problems.clear());
    mux.next().await.unwrap();
    assert!(Arc::ptr_eq(&now, mux.objects()), "nothing changed");
}
