use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn build(value: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(uid: &str, name: &str) -> Arc<Pod> {
    build(json!({"metadata": {"uid": uid, "namespace": "default", "name": name}}))
}

fn key(name: &str) -> PodKey {
    PodKey::new("default", name)
}

/// `-u` removed, `+u` added, `~u` updated, `xu` deleted, `=u` reconciled.
fn show(changes: &[Change]) -> Vec<String> {
    let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap();
    let one = |change: &Change| match change {
        Change::Remove(uid) => format!("-{uid}"),
        Change::Add(pod) => format!("+{}", uid(pod)),
        Change::Update(pod) => format!("~{}", uid(pod)),
        Change::Delete(pod) => format!("x{}", uid(pod)),
        Change::Reconcile(pod) => format!("={}", uid(pod)),
    };
    changes.iter().map(one).collect()
}

#[test]
fn a_set_replaces_the_previous_one_of_its_source_only() {
    let mut pods = PodManager::new(["file", "http"]);
    assert_eq!(show(&pods.apply("http", vec![pod("h", "h")])), ["+h"]);
    assert_eq!(show(&pods.apply("file", vec![pod("b", "b"), pod("a", "a")])), ["+a", "+b"]);
    assert_eq!(show(&pods.apply("file", vec![pod("b", "b"), pod("c", "c")])), ["-a", "+c"]);
    assert_eq!(show(&pods.apply("file", vec![])), ["-b", "-c"]);
    assert_eq!(pods.pods().map(|(uid, _)| uid.to_string()).collect::<Vec<_>>(), ["h"]);
}

#[test]
fn of_pods_that_come_together_the_oldest_comes_first() {
    let old = |uid: &str, created: &str, version: &str| {
        build(json!({"metadata": {"uid": uid, "namespace": "default", "name": uid,
                     "creationTimestamp": created, "resourceVersion": version}}))
    };
    let (noon, later) = ("2026-01-01T12:00:00Z", "2026-01-01T12:00:01Z");
    let set = vec![old("a", later, "9"), old("b", noon, "100"), old("c", noon, "20"), pod("d", "d")];
    let mut pods = PodManager::new(["api"]);
    assert_eq!(show(&pods.apply("api", set)), ["+d", "+c", "+b", "+a"]);
}

/// Its manifest was gone in between, and whoever follows the source has only the last of its sets.
#[test]
fn a_static_pod_that_was_seen_anew_goes_and_comes() {
    let seen = |at: &str| {
        let annotations = json!({"kubernetes.io/config.seen": at});
        build(
            json!({"metadata": {"uid": "1", "namespace": "default", "name": "web", "annotations": annotations}}),
        )
    };
    for (sources, want) in [(["file", "file"], "-1+1"), (["api", "api"], ""), (["file", "http"], "")] {
        let mut pods = PodManager::new(["file", "http", "api"]);
        pods.apply(sources[0], vec![seen("then")]);
        let mut changes = pods.apply(sources[1], vec![seen("now")]);
        if sources[0] != sources[1] {
            changes.extend(pods.apply(sources[0], vec![]));
        }
        assert_eq!(show(&changes).concat(), want, "{sources:?}");
    }
}

#[test]
fn a_new_uid_under_an_old_name_is_another_pod() {
    let mut pods = PodManager::new(["file"]);
    pods.apply("file", vec![pod("1", "web")]);
    assert_eq!(show(&pods.apply("file", vec![pod("2", "web")])), ["-1", "+2"]);
    assert_eq!(pods.by_key(&key("web")).unwrap().metadata.uid.as_deref(), Some("2"));
    assert_eq!(pods.get(&PodUid::from("1")), None);
}

#[test]
fn a_uid_under_a_new_name_goes_and_comes() {
    let mut pods = PodManager::new(["file"]);
    pods.apply("file", vec![pod("1", "old")]);
    assert_eq!(show(&pods.apply("file", vec![pod("1", "new")])), ["-1", "+1"]);
    assert!(pods.by_key(&key("old")).is_none() && pods.by_key(&key("new")).is_some());
}

#[test]
fn sources_are_ready_when_each_has_delivered() {
    let mut pods = PodManager::new(["file", "http"]);
    assert!(!pods.sources_ready());
    pods.apply("file", vec![]);
    assert_eq!(pods.awaited().collect::<Vec<_>>(), ["http"]);
    pods.apply("http", vec![]);
    assert!(pods.sources_ready());
    assert!(PodManager::new([]).sources_ready());
}

#[test]
fn what_changed_in_a_pod_decides_what_it_means() {
    let base = json!({
        "metadata": {
            "uid": "u", "namespace": "default", "name": "n", "labels": {"a": "1"},
            "annotations": {"x": "1", "kubernetes.io/config.seen": "then"}
        },
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let mut deleting = base.clone();
    deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    deleting["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    for (base, pointer, value, want) in [
        (&base, "/spec/containers/0/image", json!("other"), "~u"),
        (&base, "/metadata/labels/a", json!("2"), "~u"),
        (&base, "/metadata/labels/b", json!("1"), "~u"),
        (&base, "/metadata/labels", json!(null), "~u"),
        (&base, "/metadata/annotations/x", json!("2"), "~u"),
        (&base, "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), "xu"),
        (&base, "/metadata/deletionGracePeriodSeconds", json!(1), "~u"),
        (&base, "/metadata/annotations/kubernetes.io~1config.seen", json!("now"), "-u+u"),
        (&base, "/metadata/annotations/kubernetes.io~1config.source", json!("file"), ""),
        (&base, "/metadata/annotations/kubernetes.io~1config.mirror", json!("hash"), ""),
        (&base, "/metadata/resourceVersion", json!("7"), ""),
        (&base, "/status", json!({"phase": "Running"}), "=u"),
        (&deleting, "/metadata/deletionGracePeriodSeconds", json!(1), "xu"),
        (&deleting, "/metadata/labels/a", json!("2"), "xu"),
        (&deleting, "/status", json!({"phase": "Succeeded"}), "=u"),
    ] {
        let mut changed = base.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { &mut changed } else { changed.pointer_mut(parent).unwrap() };
        parent[name.replace("~1", "/")] = value;
        let mut pods = PodManager::new(["file"]);
        let first = build(base.clone());
        pods.apply("file", vec![first.clone()]);
        let changes = pods.apply("file", vec![build(changed)]);
        assert_eq!(show(&changes).concat(), want, "{pointer}");
        let kept = Arc::ptr_eq(pods.get(&PodUid::from("u")).unwrap(), &first);
        assert_eq!(kept, want.is_empty(), "{pointer}: an unchanged pod keeps its Arc");
    }
}

#[test]
fn changes_come_in_the_kubelets_order() {
    let with = |uid: &str, field: &str| {
        let mut value = json!({"metadata": {"uid": uid, "namespace": "default", "name": uid}});
        match field {
            "labels" => value["metadata"]["labels"] = json!({"a": "b"}),
            "deleted" => value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            _ => value["status"] = json!({"phase": field}),
        }
        build(value)
    };
    let mut pods = PodManager::new(["api"]);
    pods.apply("api", ["a", "b", "c", "d"].map(|uid| pod(uid, uid)).to_vec());
    let next = vec![with("a", "Running"), with("b", "deleted"), with("c", "labels"), with("e", "deleted")];
    assert_eq!(show(&pods.apply("api", next)), ["-d", "+e", "~c", "xb", "=a"]);
}

#[test]
fn a_static_pod_comes_before_one_of_the_api_server_unless_that_was_first() {
    let mut pods = PodManager::new(["api", "push"]);
    pods.apply("file", vec![pod("f", "web")]);
    assert_eq!(show(&pods.apply("api", vec![pod("a", "web"), pod("b", "db")])), ["+b"]);
    assert_eq!(show(&pods.apply("push", vec![pod("p", "web"), pod("q", "db")])), [""; 0]);
    let left_out: Vec<_> = pods.conflicts().iter().map(|c| (c.source, c.holder_source)).collect();
    assert_eq!(left_out, [("push", "file"), ("push", "api"), ("api", "file")]);
    assert_eq!(show(&pods.apply("file", vec![])), ["-f", "+p"], "of the two newcomers the static one");
    assert_eq!(show(&pods.apply("api", vec![pod("a", "web")])), ["-b", "+q"]);
}

#[test]
fn a_uid_that_two_sources_have_is_one_pod_of_the_first() {
    let mut pods = PodManager::new(["file", "http"]);
    pods.apply("http", vec![pod("1", "web")]);
    assert_eq!(show(&pods.apply("file", vec![pod("1", "other")])), [""; 0]);
    assert_eq!(pods.conflicts()[0].holder, PodUid::from("1"));
    assert_eq!(show(&pods.apply("http", vec![])), ["-1", "+1"], "it goes, and comes under its other name");
}

#[test]
fn mirror_pods_stand_apart() {
    let mirror = build(json!({"metadata": {
        "uid": "m", "namespace": "default", "name": "web",
        "annotations": {"kubernetes.io/config.mirror": "hash"}
    }}));
    let mut pods = PodManager::new(["api", "file"]);
    assert_eq!(pods.apply("api", vec![mirror.clone(), pod("a", "a")]).len(), 1);
    assert!(pods.by_key(&key("web")).is_none() && Arc::ptr_eq(&pods.mirrors()[&key("web")], &mirror));
    assert_eq!(show(&pods.apply("file", vec![pod("f", "web")])), ["+f"], "its name is not taken");
    assert_eq!(pods.conflicts(), []);
    assert_eq!(pods.apply("api", vec![pod("a", "a")]), []);
    assert!(pods.mirrors().is_empty());
    // Anybody can write the annotation into a manifest; there it means nothing.
    assert_eq!(show(&pods.apply("file", vec![mirror])), ["-f", "+m"]);
}

#[test]
fn no_labels_and_empty_labels_are_the_same() {
    let mut pods = PodManager::new(["file"]);
    pods.apply("file", vec![pod("u", "n")]);
    let empty = build(json!({"metadata": {"uid": "u", "namespace": "default", "name": "n", "labels": {}}}));
    assert_eq!(pods.apply("file", vec![empty]), []);
}

#[test]
fn the_first_with_a_name_keeps_it_and_the_next_comes_in_when_it_goes() {
    let mut pods = PodManager::new(["file", "http"]);
    pods.apply("http", vec![pod("h", "web")]);
    // The name of its source comes first in the alphabet; that must not help it.
    assert_eq!(show(&pods.apply("file", vec![pod("f", "web")])), [""; 0]);
    let conflict = Conflict {
        source: "file",
        uid: PodUid::from("f"),
        key: key("web"),
        holder: PodUid::from("h"),
        holder_source: "http",
    };
    assert_eq!(pods.conflicts(), [conflict]);
    assert_eq!(show(&pods.apply("http", vec![])), ["-h", "+f"]);
    assert_eq!(pods.conflicts(), []);
}

#[test]
fn within_one_set_the_earlier_one_has_the_name_and_the_uid() {
    let mut pods = PodManager::new(["file"]);
    let set = vec![pod("1", "web"), pod("2", "web"), pod("1", "other")];
    assert_eq!(show(&pods.apply("file", set)), ["+1"]);
    let left_out: Vec<_> = pods.conflicts().iter().map(|c| (c.uid.as_str(), &*c.key.name)).collect();
    assert_eq!(left_out, [("2", "web"), ("1", "other")]);
    // A pod that has the name keeps it against one that now stands before it.
    assert_eq!(show(&pods.apply("file", vec![pod("0", "web"), pod("1", "web")])), [""; 0]);
}

proptest! {
    /// Replaying the changes gives the same pods, names are unique, and nothing is lost: each pod of each last
    /// set is desired or reported.
    #[test]
    fn changes_add_up_to_the_desired_pods(
        steps in prop::collection::vec(
            (0..2usize, prop::collection::vec((0..5u8, 0..4u8, 0..4u8), 0..5)),
            0..12
        )
    ) {
        const SOURCES: [&str; 2] = ["api", "file"];
        let mut pods = PodManager::new(SOURCES);
        let mut replayed = BTreeMap::new();
        let mut last = BTreeMap::new();
        for (source, set) in steps {
            let source = SOURCES[source];
            last.insert(source, set.len());
            let one = |(uid, name, version): &(u8, u8, u8)| {
                let mut value = json!({"metadata": {
                    "uid": uid.to_string(), "namespace": "default", "name": name.to_string()
                }});
                match version {
                    1 => value["metadata"]["labels"] = json!({"a": "b"}),
                    2 => value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
                    3 => value["status"] = json!({"phase": "Running"}),
                    _ => {}
                }
                build(value)
            };
            let mut latest = 0;
            for change in pods.apply(source, set.iter().map(one).collect()) {
                let order = match change {
                    Change::Remove(uid) => {
                        prop_assert!(replayed.remove(&uid).is_some());
                        0
                    }
                    Change::Add(pod) => {
                        prop_assert!(replayed.insert(identity(&pod).0, pod).is_none());
                        1
                    }
                    Change::Update(pod) => {
                        prop_assert!(replayed.insert(identity(&pod).0, pod).is_some());
                        2
                    }
                    Change::Delete(pod) => {
                        prop_assert!(pod.metadata.deletion_timestamp.is_some());
                        prop_assert!(replayed.insert(identity(&pod).0, pod).is_some());
                        3
                    }
                    Change::Reconcile(pod) => {
                        prop_assert!(replayed.insert(identity(&pod).0, pod).is_some());
                        4
                    }
                };
                prop_assert!(latest <= order);
                latest = order;
            }
            let now: BTreeMap<_, _> = pods.pods().map(|(uid, pod)| (uid.clone(), pod.clone())).collect();
            prop_assert_eq!(&now, &replayed);
            let names: BTreeSet<_> = now.values().map(|p| identity(p).1).collect();
            prop_assert_eq!(names.len(), now.len());
            prop_assert!(names.iter().all(|k| pods.by_key(k).is_some()));
            prop_assert_eq!(now.len() + pods.conflicts().len(), last.values().sum::<usize>());
        }
    }
}
