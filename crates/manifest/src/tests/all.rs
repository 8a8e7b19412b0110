//! Documents of several pods.

use super::*;
use crate::{MAX_PROBLEMS, Pods};

/// What is refused as a manifest is refused for the same reasons where there may be several pods: alone, and as the
/// second of a list.
pub(super) fn refused_as_well(text: &[u8], problems: &[Problem]) {
    let of_kind = |p: &Problem| matches!(p.field.as_deref(), Some("kind" | "apiVersion"));
    if problems.iter().any(of_kind) {
        return;
    }
    assert_eq!(read_all(text, origin()).unwrap_err(), problems);
    let Ok(pod) = kube_model::yaml::parse(text) else { return };
    // Of too many it depends on their order which are told.
    if !pod.value.is_object() || problems.len() > MAX_PROBLEMS {
        return;
    }
    let first = kube_model::yaml::parse(WEB.as_bytes()).unwrap().value;
    let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [first, pod.value]}).to_string();
    let fields = |problems: &[Problem], at: &str| {
        let field = |p: &Problem| p.field.as_ref().map(|field| format!("{at}{field}"));
        problems.iter().map(field).collect::<BTreeSet<_>>()
    };
    let in_list = read_all(list.as_bytes(), origin()).unwrap_err();
    assert_eq!(fields(&in_list, ""), fields(problems, "items[1]."), "{list}");
}

const LIST: &str = "\
apiVersion: v1
kind: PodList
items:
- metadata: {name: b}
  spec:
    containers: [{name: c, image: b}]
- apiVersion: v1
  kind: Pod
  metadata: {name: a, namespace: z}
  spec:
    containers:
    - name: c
      image: a
";

fn all(text: &str) -> Pods {
    read_all(text.as_bytes(), Origin::url("http://h/pods", "Node1"))
        .unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
}

fn refusal(text: &str) -> Vec<String> {
    shown(&read_all(text.as_bytes(), Origin::url("http://h/pods", "node1")).unwrap_err())
}

fn keys(pods: &Pods) -> Vec<String> {
    pods.pods.iter().map(|placed| pod::identity(&placed.pod).1.to_string()).collect()
}

#[test]
fn a_list_gives_its_pods_by_name_and_says_where_each_stands() {
    let pods = all(LIST);
    assert_eq!(keys(&pods), ["default/b-node1", "z/a-node1"]);
    let lines: Vec<_> = pods.pods.iter().map(|placed| placed.name_at.unwrap().line).collect();
    assert_eq!((lines, pods.problems), (vec![4, 9], vec![]));
    let as_list =
        LIST.replace("PodList", "List").replace("- metadata", "- kind: Pod\n  apiVersion: v1\n  metadata");
    assert_eq!(keys(&all(&as_list)), keys(&all(LIST)));
    for empty in ["items: []", "items:", "metadata: {resourceVersion: \"1\"}"] {
        assert_eq!(all(&format!("kind: PodList\napiVersion: v1\n{empty}\n")).pods, []);
    }
}

#[test]
fn pods_of_a_url_are_marked_so_and_tolerate_only_what_they_say() {
    let pods = all(LIST);
    for placed in &pods.pods {
        assert_eq!(pod::annotation(&placed.pod, labels::CONFIG_SOURCE), Some("http"));
        assert!(pod::is_static(&placed.pod));
        assert_eq!(placed.pod.spec.as_ref().unwrap().tolerations, None);
        assert_eq!(placed.pod.spec.as_ref().unwrap().node_name.as_deref(), Some("Node1"));
    }
}

#[test]
fn the_uid_of_a_pod_of_a_url_depends_on_the_url_and_not_on_the_node() {
    let uid = |url, node| {
        let pods = read_all(WEB.as_bytes(), Origin::url(url, node)).unwrap();
        pods.pods[0].pod.metadata.uid.clone().unwrap()
    };
    let first = uid("http://h/pods", "node1");
    // Written down: a change of this value restarts every pod of every URL.
    assert_eq!(first, "dd5b3083a09e901d90948f84ac1f2ec2");
    assert_eq!(uid("http://h/pods", "node2"), first);
    assert_ne!(uid("http://h/other", "node1"), first);
    let as_file = good(WEB).pod.metadata.uid.unwrap();
    assert_ne!(uid("/m/a.yaml", "node1"), as_file);
    let in_list = LIST.replace("{name: b}", "{name: web, labels: {app: web, tier: front}}");
    let in_list = in_list.replace(
        "[{name: c, image: b}]",
        "[{name: app, image: example.org/app:1, resources: {limits: {cpu: 1, memory: 64Mi}}}]",
    );
    let uids: Vec<_> =
        all(&in_list).pods.into_iter().map(|placed| placed.pod.metadata.uid.unwrap()).collect();
    assert!(uids.contains(&first), "nor on what else is in the document: {uids:?}");
}

#[test]
fn items_that_are_wrong_refuse_the_document_and_each_is_told() {
    let text =
        LIST.replace("      image: a\n", "").replace("{name: b}", "{name: ../b}") + "- 3\n- kind: Service\n";
    let problems = refusal(&text);
    let starts = [
        "http://h/pods:4:14: items[0].metadata.name: Invalid value: \"../b-node1\"",
        "http://h/pods:12:7: items[1].spec.containers[0].image: Required value",
        "http://h/pods:13:3: items[2]: expected a Pod",
        "http://h/pods:14:3: items[3].kind: \"Service\" can not be run: expected \"Pod\"",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
    let wrong_type = refusal(&LIST.replace("image: b", "image: 7"));
    assert!(
        wrong_type[0].starts_with("http://h/pods:6:28: items[0].spec.containers[0].image: "),
        "{wrong_type:?}"
    );
    assert!(wrong_type[0].ends_with("write \"7\" in quotes"), "{wrong_type:?}");
}

#[test]
fn what_is_no_list_of_pods_is_told_with_its_place() {
    for (text, start) in [
        (
            "kind: Service\napiVersion: v1\n",
            ":1:1: kind: \"Service\" can not be run: expected \"Pod\" or \"ConfigMap\" or \"Secret\" or \"PodList\" or \"List\"",
        ),
        ("kind: PodList\n", ":1:1: apiVersion: Required value"),
        ("kind: PodList\napiVersion: apps/v1\n", ":2:1: apiVersion: \"apps/v1\" is not the version"),
        ("kind: PodList\napiVersion: v1\nitems: {}\n", ":3:1: items: expected a list of Pods"),
        (
            "kind: List\napiVersion: v1\nitems: [{metadata: {name: a}}]\n",
            ":3:9: items[0].kind: Required value",
        ),
        ("# nothing\n", ": the manifest is empty"),
    ] {
        let problems = refusal(text);
        assert!(
            problems.len() == 1 && problems[0].starts_with(&format!("http://h/pods{start}")),
            "{problems:?}"
        );
    }
}

#[test]
fn of_two_items_with_one_name_or_uid_the_first_is_taken() {
    let pods = all(&LIST.replace("{name: a, namespace: z}", "{name: b}"));
    assert_eq!(keys(&pods), ["default/b-node1"]);
    assert_eq!(pods.pods[0].pod.spec.as_ref().unwrap().containers[0].image.as_deref(), Some("b"));
    let expected = "http://h/pods:9:14: items[1].metadata.name: the pod default/b-node1 is already in items[0]; that one runs";
    assert_eq!(shown(&pods.problems), [expected]);
    let pods = all(&LIST.replace("{name: ", "{uid: same, name: "));
    assert_eq!(keys(&pods), ["default/b-node1"]);
    assert!(
        shown(&pods.problems)[0].contains(":9:14: items[1].metadata.uid: a pod with UID same is already")
    );
}

#[test]
fn what_is_odd_in_a_list_is_a_warning_with_its_item() {
    let text = LIST
        .replace("kind: PodList\n", "kind: PodList\nitem: []\n")
        .replace("      image: a", "      imige: x\n      image: a");
    assert_eq!(
        shown(&all(&text).problems),
        [
            "http://h/pods:3:1: warning: item: unknown field, ignored",
            "http://h/pods:14:7: warning: items[1].spec.containers[0].imige: unknown field, ignored",
        ]
    );
}
