use node_proto::cri::v1;
use serde_json::json;

use super::*;
use crate::test_pods::{pod as pod_of, spec};

const UID: &str = "00000000000000000000000000000001";
const SPEC: &str = r#"{"hostNetwork":true,"terminationGracePeriodSeconds":7,
    "initContainers":[{"name":"first","image":"i:1"}],
    "containers":[{"name":"app","image":"a:1","terminationMessagePath":"/dev/termination-log",
        "terminationMessagePolicy":"File","command":["sh","-c","a"],"args":["$(A)","b"],
        "env":[{"name":"A","value":"1"},{"name":"B","value":"$(A)2"}],
        "lifecycle":{"preStop":{"exec":{"command":["true"]}}},
        "ports":[{"name":"web","containerPort":80,"protocol":"TCP"}]}]}"#;

fn pod(spec: &str) -> Pod {
    let mut pod = pod_of(spec);
    pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    let annotations = [("note", "x"), (labels::CONFIG_HASH, "own"), (labels::CONFIG_SOURCE, "file")];
    pod.metadata.annotations = Some(annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    pod
}

/// What another kubelet made of the same manifest.
fn left_by_another() -> (v1::PodSandbox, Vec<v1::Container>) {
    let mut pod = pod(SPEC);
    pod.metadata.uid = Some(UID.to_owned());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_HASH.to_owned(), UID.to_owned());
    annotations.insert(labels::CONFIG_SEEN.to_owned(), "2026-01-01T00:00:00.000000001Z".to_owned());
    let annotations = annotations.clone();
    let sandbox =
        v1::PodSandbox { id: "s".to_owned(), labels: pod_labels(&pod), annotations, ..Default::default() };
    let container = |container: &core::Container| {
        let mut labels: BTreeMap<_, _> = crate::sandbox::identity_labels(&pod).into();
        labels.insert(labels::CONTAINER_NAME.to_owned(), container.name.clone());
        v1::Container {
            id: container.name.clone(),
            pod_sandbox_id: "s".to_owned(),
            labels,
            annotations: container::annotations(&pod, spec(&pod), container, 4).unwrap(),
            ..Default::default()
        }
    };
    let containers = pod::containers(spec(&pod)).map(|(_, c)| container(c)).collect();
    (sandbox, containers)
}

fn found(pod: &Pod, sandbox: v1::PodSandbox, containers: &[v1::Container]) -> Option<String> {
    let sandboxes = [sandbox];
    let running = running(&sandboxes, containers);
    as_listed(pod, &running[&pod::identity(pod).1])
        .map(|d| format!("{}: {:?} {:?}", d.field, d.running, d.wanted))
}

#[test]
fn the_field_that_differs_is_named() {
    for (from, to, want) in [
        ("a:1", "a:1", None),
        ("a:1", "a:2", Some(r#"spec.containers[app].image: "" "a:2""#)),
        ("i:1", "i:2", Some(r#"spec.containers[first].image: "" "i:2""#)),
        ("\"name\":\"app\"", "\"name\":\"new\"", Some(r#"spec.containers: "app" """#)),
        ("Seconds\":7", "Seconds\":8", Some(r#"spec.terminationGracePeriodSeconds: "7" "8""#)),
        (
            r#""File""#,
            r#""FallbackToLogsOnError""#,
            Some(r#"spec.containers[app].terminationMessagePolicy: "File" "FallbackToLogsOnError""#),
        ),
        (
            "/dev/t",
            "/t",
            Some(r#"spec.containers[app].terminationMessagePath: "/dev/termination-log" "/termination-log""#),
        ),
        (
            r#"["true"]"#,
            r#"["false"]"#,
            Some(
                r#"spec.containers[app].lifecycle.preStop: "{\"exec\":{\"command\":[\"true\"]}}" "{\"exec\":{\"command\":[\"false\"]}}""#,
            ),
        ),
        (
            "80",
            "81",
            Some(
                r#"spec.containers[app].ports: "[{\"containerPort\":80,\"name\":\"web\",\"protocol\":\"TCP\"}]" "[{\"containerPort\":81,\"name\":\"web\",\"protocol\":\"TCP\"}]""#,
            ),
        ),
    ] {
        let (sandbox, containers) = left_by_another();
        // The grace period stands in the annotations of init containers, too.
        let got = found(&pod(&SPEC.replace(from, to)), sandbox, &containers);
        assert_eq!(got.as_deref(), want, "{from} {to}");
    }
}

#[test]
fn labels_and_annotations_count_but_not_those_of_kubelets() {
    let (sandbox, containers) = left_by_another();
    let mut wanted = pod(SPEC);
    wanted.metadata.labels = Some([("app".to_owned(), "other".to_owned())].into());
    let got = found(&wanted, sandbox.clone(), &containers);
    assert_eq!(got.as_deref(), Some(r#"metadata.labels[app]: "web" "other""#));
    let mut wanted = pod(SPEC);
    wanted.metadata.annotations.get_or_insert_default().remove("note");
    let got = found(&wanted, sandbox, &containers);
    assert_eq!(got.as_deref(), Some(r#"metadata.annotations[note]: "x" """#));
}

#[test]
fn the_order_of_json_is_nothing_and_neither_are_containers_that_are_not_there() {
    let (sandbox, mut containers) = left_by_another();
    let app = containers.iter_mut().find(|c| c.id == "app").unwrap();
    let ports = r#"[{"name":"web","protocol":"TCP","containerPort":80}]"#;
    app.annotations.insert(labels::CONTAINER_PORTS.to_owned(), ports.to_owned());
    assert_eq!(found(&pod(SPEC), sandbox.clone(), &containers), None);
    assert_eq!(found(&pod(SPEC), sandbox, &[]), None);
}

#[test]
fn of_several_the_ready_sandbox_counts_and_only_of_static_pods() {
    let (old, containers) = left_by_another();
    let mut dead = old.clone();
    (dead.id, dead.created_at) = ("dead".to_owned(), 9);
    dead.set_state(v1::PodSandboxState::SandboxNotready);
    for order in [[old.clone(), dead.clone()], [dead.clone(), old.clone()]] {
        let running = running(&order, &containers);
        let [pod] = running.values().collect::<Vec<_>>()[..] else { panic!("{running:?}") };
        assert_eq!((pod.sandbox.id.as_str(), pod.uid.as_str(), pod.containers.len()), ("s", UID, 2));
    }
    let mut of_api = old;
    of_api.annotations.insert(labels::CONFIG_SOURCE.to_owned(), "api".to_owned());
    assert!(running(&[of_api], &containers).is_empty());
}

#[test]
fn namespaces_of_the_node_are_told_by_the_sandboxes_status() {
    let status = |network: v1::NamespaceMode| v1::PodSandboxStatus {
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(v1::NamespaceOption {
                    network: network.into(),
                    pid: v1::NamespaceMode::Container.into(),
                    ..Default::default()
                }),
            }),
        }),
        ..Default::default()
    };
    assert_eq!(in_namespaces(&pod(SPEC), &status(v1::NamespaceMode::Node)), None);
    assert_eq!(in_namespaces(&pod(SPEC), &v1::PodSandboxStatus::default()), None, "it does not tell");
    let got = in_namespaces(&pod(SPEC), &status(v1::NamespaceMode::Pod));
    assert_eq!(got.unwrap().field, "spec.hostNetwork");
}

#[test]
fn how_a_container_was_made_is_compared_where_the_runtime_tells() {
    let pod = pod(SPEC);
    let app = &spec(&pod).containers[0];
    let info = |command: &[&str], args: &[&str], a: &str| {
        let envs =
            json!([{"key":"KUBERNETES_PORT","value":"tcp"},{"key":"A","value":a},{"key":"B","value":"12"}]);
        json!({"config": {"command": command, "args": args, "envs": envs}}).to_string()
    };
    let command = ["sh", "-c", "a"];
    for (info, want) in [
        (info(&command, &["1", "b"], "1"), None),
        (info(&["sh", "-c", "b"], &["1", "b"], "1"), Some("spec.containers[app].command")),
        (info(&command, &["1", "c"], "1"), Some("spec.containers[app].args")),
        (info(&command, &["1"], "1"), Some("spec.containers[app].args")),
        (info(&command, &["1", "b"], "2"), Some("spec.containers[app].env[A]")),
        ("{}".to_owned(), None),
        ("not JSON".to_owned(), None),
    ] {
        assert_eq!(as_made(app, &info).map(|d| d.field).as_deref(), want, "{info}");
    }
}
