#![expect(clippy::disallowed_methods, reason = "the recordings that it is compared with are files")]
use std::collections::BTreeSet;
use std::path::Path;

use kube_model::core::Pod;
use kube_model::view::Problem;
use kube_model::{Timestamp, labels, pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Manifest, Origin, read, read_all, same, stamp};

mod all;
mod defaults;
mod recorded;

fn origin() -> Origin<'static> {
    Origin::file(Path::new("/m/a.yaml"), "node1")
}

fn good(text: &str) -> Manifest {
    let manifest = read(text.as_bytes(), origin()).unwrap_or_else(|problems| panic!("{text}\n{problems:?}"));
    // Alone it is the same where there may be several.
    let all = read_all(text.as_bytes(), origin()).unwrap();
    assert_eq!((all.pods.len(), &all.pods[0].pod, all.pods[0].name_at), (1, &manifest.pod, manifest.name_at));
    assert_eq!(all.problems, manifest.warnings);
    manifest
}

fn refused(text: &[u8]) -> Vec<Problem> {
    match read(text, origin()) {
        Ok(_) => panic!("was not refused: {}", String::from_utf8_lossy(text)),
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|p| p.path == origin().path));
            all::refused_as_well(text, &problems);
            problems
        }
    }
}

fn shown(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn recordings() -> impl Iterator<Item = (String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pods");
    std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    })
}

/// The API does not print empty texts; ours keeps those that the manifest has.
fn without_empty_texts(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| value != "");
            fields.values_mut().for_each(without_empty_texts);
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty_texts),
        _ => {}
    }
}

#[test]
fn each_recorded_pod_comes_out_as_the_kubelet_had_it() {
    let mut compared = 0;
    for (name, recording) in recordings() {
        let Some(recorded) = recording.get("pod_after_100s") else { continue };
        let Manifest { mut pod, warnings, .. } = good(&recording["manifest"].to_string());
        assert_eq!(warnings, [], "{name}");
        let uid = pod.metadata.uid.clone().unwrap();
        stamp(&mut pod, Timestamp::UNIX_EPOCH);
        let text = serde_json::to_string(&pod).unwrap().replace(&uid, "$UID");
        let mut ours: Value =
            serde_json::from_str(&text.replace("1970-01-01T00:00:00.000000000Z", "$TIME")).unwrap();
        let mut theirs = recorded.clone();
        without_empty_texts(&mut ours);
        without_empty_texts(&mut theirs);
        assert_eq!(ours["spec"], theirs["spec"], "{name}");
        assert_eq!(ours["metadata"], theirs["metadata"], "{name}");
        assert_eq!(ours["status"], json!({"phase": "Pending"}), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 46);
}

#[test]
fn each_recorded_refusal_is_refused_for_its_reason() {
    let expected = [
        // The kubelet happened to read this file while it was empty; what is wrong with it is this.
        ("block-emptydir-bad-mount", "spec.containers[0].volumeMounts[0].name: Not found: \"nope\""),
        ("duplicate-container-names", "spec.containers[1].name: Duplicate value: \"a\""),
        (
            "env-fieldref",
            "metadata.annotations.x: invalid type: boolean `true`, expected a string; without quotes YAML takes y \
             for another type: write \"y\" in quotes",
        ),
    ];
    let mut names = BTreeSet::new();
    // Of ConfigMaps and Secrets the node has its own.
    let taken = ["configmap-env-refused", "secret-refused"];
    for (name, recording) in recordings().filter(|(_, recording)| recording.get("refused").is_some()) {
        if taken.contains(&name.as_str()) {
            read(recording["manifest"].to_string().as_bytes(), origin()).unwrap();
            continue;
        }
        // The recorded file was YAML without quotes, in which this annotation is a boolean.
        let text = format!("--- {}", recording["manifest"]).replace(r#""x":"y""#, r#""x": y"#);
        let problems = refused(text.as_bytes());
        let (_, message) = expected.iter().find(|(of, _)| *of == name).unwrap();
        let [problem] = &problems[..] else { panic!("{name}: {:?}", shown(&problems)) };
        assert!(problem.to_string().starts_with("/m/a.yaml:1:"), "{problem}");
        assert!(problem.to_string().ends_with(message), "{problem}");
        names.insert(name);
    }
    assert_eq!(names.len(), expected.len());
}

const WEB: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web, tier: front}
spec:
  containers:
  - name: app
    image: example.org/app:1
    resources:
      limits: {cpu: 1, memory: 64Mi}
";

#[test]
fn a_minimal_manifest_becomes_a_named_static_pod() {
    let pod = good(WEB).pod;
    let (uid, key) = pod::identity(&pod);
    assert_eq!(key.to_string(), "default/web-node1");
    assert_eq!(uid.as_str().len(), 32);
    assert_eq!(pod::annotation(&pod, labels::CONFIG_HASH), Some(uid.as_str()));
    assert_eq!(pod::annotation(&pod, labels::CONFIG_SEEN), None);
    assert!(pod::is_static(&pod));
    let limits = pod.spec.unwrap().containers[0].resources.clone().unwrap().limits.unwrap();
    assert_eq!(limits["cpu"].0, "1", "a number is a quantity, too");
}

#[test]
fn the_name_takes_the_node_in_lower_case() {
    let origin = Origin { node_name: "Node-A.Example", ..origin() };
    let pod = read(WEB.as_bytes(), origin).unwrap().pod;
    assert_eq!(pod.metadata.name.as_deref(), Some("web-node-a.example"));
    assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("Node-A.Example"));
}

fn uid(text: &str, origin: Origin<'_>) -> String {
    read(text.as_bytes(), origin).unwrap().pod.metadata.uid.unwrap()
}

#[test]
fn the_uid_depends_on_what_the_manifest_says_and_where_it_stands() {
    let first = uid(WEB, origin());
    // Written down: a change of this value restarts every static pod of every node.
    assert_eq!(first, "4fd11ccbeda64cc72426d093e68d72c6");
    let same_meaning = [
        format!("# a comment\n---\n{WEB}"),
        WEB.replace("{app: web, tier: front}", "{tier: front, \"app\": 'web'}"),
        WEB.replace("kind: Pod\n", "").replace("apiVersion: v1\n", "") + "kind: Pod\napiVersion: v1\n",
        WEB.replace("  name: web\n", "  name: web\n  creationTimestamp: null\n") + "status: {}\n",
        serde_json::to_string(&kube_model::yaml::parse(WEB.as_bytes()).unwrap().value).unwrap(),
    ];
    for text in &same_meaning {
        assert_eq!(uid(text, origin()), first, "{text}");
    }
    assert_ne!(uid(&WEB.replace("app:1", "app:2"), origin()), first);
    assert_ne!(uid(WEB, Origin { node_name: "node2", ..origin() }), first);
    assert_ne!(uid(WEB, Origin { path: Path::new("/m/b.yaml"), ..origin() }), first);
    let explicit = WEB.replace("  name: web\n", "  name: web\n  uid: 1111-22\n");
    assert_eq!(uid(&explicit, origin()), "1111-22");
}

#[test]
fn when_it_was_seen_makes_no_other_pod() {
    let pod = good(WEB).pod;
    let stamped = |seconds| {
        let mut pod = pod.clone();
        stamp(&mut pod, Timestamp::from_second(seconds).unwrap());
        pod
    };
    assert!(same(&pod, &stamped(1)) && same(&stamped(2), &stamped(1)));
    assert_eq!(pod::annotation(&stamped(1), labels::CONFIG_SEEN), Some("1970-01-01T00:00:01.000000000Z"));
    let mut other = stamped(1);
    other.metadata.labels = None;
    assert!(!same(&other, &stamped(1)));
    let other = good(&WEB.replace("app:1", "app:2")).pod;
    assert!(!same(&other, &pod));
}

#[test]
fn what_is_no_pod_is_told_with_its_place() {
    let cases: &[(&str, &str)] = &[
        ("", "/m/a.yaml: the manifest is empty"),
        ("# only a comment\n", "/m/a.yaml: the manifest is empty"),
        ("- 1\n", "/m/a.yaml: expected one Pod (apiVersion: v1, kind: Pod), found a list"),
        ("hello\n", "/m/a.yaml: expected one Pod (apiVersion: v1, kind: Pod), found plain text"),
        ("apiVersion: v1\nkind: Deployment\n", "/m/a.yaml:2:1: kind: \"Deployment\" can not be run"),
        ("apiVersion: v1\nkind: PodList\nitems: []\n", "/m/a.yaml:2:1: kind: \"PodList\" is a list"),
        ("apiVersion: v1\nkind: List\nitems: []\n", "/m/a.yaml:2:1: kind: \"List\" is a list"),
        ("apiVersion: v1\nmetadata: {}\n", "/m/a.yaml:1:1: kind: Required value"),
        ("apiVersion: v2\nkind: Pod\n", "/m/a.yaml:1:1: apiVersion: \"v2\" is not the version of a Pod"),
        ("kind: Pod\n", "/m/a.yaml:1:1: apiVersion: Required value"),
        ("apiVersion: v1\nkind: Pod\nspec: [\n", "/m/a.yaml:4:1: "),
        ("{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n \"spec\": {\n", "/m/a.yaml:3:1: "),
        (
            "{\"apiVersion\": \"v1\", \"kind\": \"Pod\"} x",
            "/m/a.yaml:1:37: the document ends before this text",
        ),
        ("apiVersion: v1\nkind: Pod\nspec:\n\tcontainers: []\n", "/m/a.yaml:4:1: a tab can not indent"),
        (
            "apiVersion: v1\nkind: Pod\nspec:\n  containers: 3\n",
            "/m/a.yaml:4:3: spec.containers: invalid type",
        ),
        ("a: &a [x]\nb: &b [*a,*a]\nc: [*d]\n", "/m/a.yaml:3:5: "),
    ];
    for (text, start) in cases {
        let problems = refused(text.as_bytes());
        let [problem] = &problems[..] else { panic!("{text:?}: {:?}", shown(&problems)) };
        assert!(problem.to_string().starts_with(start), "{text:?}: {problem}");
    }
    assert!(refused(b"\xff\xfe\0")[0].message.contains("UTF-16"));
    assert!(refused(b"a: \0")[0].message.contains("U+0000"));
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_field_and_line() {
    let cases = [
        (
            "image: example.org/app:1",
            "image: 7",
            "a.yaml:9:5: spec.containers[0].image: ",
            "write \"7\" in quotes",
        ),
        ("tier: front", "tier: 1.10", "a.yaml:5:22: metadata.labels.tier: ", "write \"1.10\" in quotes"),
        (
            "    resources:",
            "    env: [{name: A, value: yes}]\n    resources:",
            "a.yaml:10:21: spec.containers[0].env[0].value: ",
            "write \"yes\" in quotes",
        ),
        (
            "    resources:",
            "    ports: [{containerPort: \"80\"}]\n    resources:",
            "a.yaml:10:14: spec.containers[0].ports[0].containerPort: ",
            "expected i32",
        ),
    ];
    for (old, new, place, hint) in cases {
        let problems = shown(&refused(WEB.replace(old, new).as_bytes()));
        assert!(problems[0].contains(place) && problems[0].contains(hint), "{problems:?}");
    }
}

#[test]
fn what_the_kubelet_ignores_is_a_warning() {
    let text = WEB.replace("    image:", "    imagePulPolicy: Never\n    image: twice\n    image:")
        + "---\nkind: Pod\n";
    let manifest = good(&text);
    assert_eq!(
        shown(&manifest.warnings),
        [
            "/m/a.yaml:9:5: warning: spec.containers[0].imagePulPolicy: unknown field, ignored",
            "/m/a.yaml:11:5: warning: spec.containers[0].image: set twice in the same place; the last one is used",
            "/m/a.yaml:14:1: warning: only the first document is read; this one is ignored",
        ]
    );
    assert_eq!(manifest.pod.spec.unwrap().containers[0].image.as_deref(), Some("example.org/app:1"));
}

#[test]
fn null_and_a_number_are_read_as_go_reads_them() {
    let text = WEB.replace("  labels: {app: web, tier: front}", "  labels:\n    empty:\n  annotations: ~");
    assert_eq!(good(&text).pod.metadata.labels.unwrap()["empty"], "");
    let text = WEB.replace("{cpu: 1, memory: 64Mi}", "{cpu: 0.5, memory: 1e6}");
    let spec = good(&text).pod.spec.unwrap();
    let requests = spec.containers[0].resources.as_ref().unwrap().requests.as_ref().unwrap();
    assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("500m", "1M"));
}

#[test]
fn names_that_leave_their_folder_are_refused() {
    for (line, field) in [
        ("name: ../../etc", "metadata.name"),
        ("name: a/b", "metadata.name"),
        ("name: \"..\"", "metadata.name"),
        ("name: x\n  namespace: ../x", "metadata.namespace"),
        ("name: x\n  namespace: \"..\"", "metadata.namespace"),
        ("name: x\n  uid: ../../x", "metadata.uid"),
        ("name: x\n  uid: \"..\"", "metadata.uid"),
        ("name: x\n  uid: a/b", "metadata.uid"),
    ] {
        let problems = refused(WEB.replace("name: web", line).as_bytes());
        assert!(
            problems.iter().any(|p| p.field.as_deref() == Some(field) && p.line.is_some()),
            "{problems:?}"
        );
    }
    let problems = refused(WEB.replace("- name: app", "- name: ../app").as_bytes());
    assert_eq!(problems[0].field.as_deref(), Some("spec.containers[0].name"));
}

/// Puts `lines` into the container or the spec of a pod that is fine otherwise.
fn with(place: &str, lines: &str) -> String {
    match place {
        "container" => format!("{WEB}    {}\n", lines.replace('\n', "\n    ")),
        "spec" => format!("{WEB}  {}\n", lines.replace('\n', "\n  ")),
        "metadata" => WEB.replace("  name: web\n", &format!("  {}\n", lines.replace('\n', "\n  "))),
        _ => unreachable!("{place}"),
    }
}

#[test]
fn each_invalid_field_is_named_with_its_reason() {
    let app = "spec.containers[0]";
    let term =
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
    let node_affinity = |terms: &str| {
        format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: {terms}}}}}}}"
        )
    };
    #[rustfmt::skip]
    let cases: &[(&str, &str, &str, &str)] = &[
        ("metadata", "namespace: x", "metadata.name", "Required value"),
        ("metadata", "name: Web", "metadata.name", "lower case"),
        ("metadata", "name: web\nannotations: {a b: c}", "metadata.annotations[a b]", "name part"),
        ("metadata", "name: web\nannotations: {kubernetes.io/config.mirror: x}", "metadata.annotations[kubernetes.io/config.mirror]", "Forbidden"),
        ("metadata", "name: web\ndeletionTimestamp: 2026-01-01T00:00:00Z", "metadata.deletionTimestamp", "Forbidden"),
        ("metadata", "name: web\ngenerateName: Web-", "metadata.generateName", "lower case"),
        ("metadata", "name: web\ngenerateName: \"-\"", "metadata.generateName", "Invalid value"),
        ("metadata", "name: web\nfinalizers: [mine]", "metadata.finalizers[0]", "neither a standard finalizer name nor is it fully qualified"),
        ("metadata", "name: web\nfinalizers: [a b/c]", "metadata.finalizers[0]", "Invalid value"),
        ("metadata", "name: web\nfinalizers: [orphan, foregroundDeletion]", "metadata.finalizers", "finalizer orphan and foregroundDeletion cannot be both set"),
        ("metadata", "name: web\nownerReferences: [{apiVersion: a/b/c, kind: K, name: own, uid: u}]", "metadata.ownerReferences[0].apiVersion", "version must not be empty"),
        ("metadata", "name: web\nownerReferences: [{apiVersion: v1, kind: K, name: \"\", uid: u}]", "metadata.ownerReferences[0].name", "must not be empty"),
        ("metadata", "name: web\nownerReferences: [{apiVersion: v1, kind: Event, name: own, uid: u}]", "metadata.ownerReferences[0]", "disallowed from being an owner"),
        ("metadata", "name: web\nownerReferences: [{apiVersion: v1, kind: K, name: own, uid: u, controller: true}, {apiVersion: v1, kind: K, name: m, uid: v, controller: true}]", "metadata.ownerReferences", "for own and m"),
        ("spec", "schedulingGates: [{name: a.b/c}]", "spec.nodeName", "cannot be set until all schedulingGates have been cleared"),
        ("spec", &node_affinity("[]"), "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms", "at least one node selector term"),
        ("spec", &node_affinity("[{matchExpressions: [{key: a, operator: Like}]}]"), &format!("{term}.matchExpressions[0].operator"), "not a valid selector operator"),
        ("spec", &node_affinity("[{matchExpressions: [{key: a, operator: In}]}]"), &format!("{term}.matchExpressions[0].values"), "'In' or 'NotIn'"),
        ("spec", &node_affinity("[{matchExpressions: [{key: a, operator: Exists, values: [x]}]}]"), &format!("{term}.matchExpressions[0].values"), "Forbidden"),
        ("spec", &node_affinity("[{matchExpressions: [{key: a, operator: Gt, values: [\"1\", \"2\"]}]}]"), &format!("{term}.matchExpressions[0].values"), "single value"),
        ("spec", &node_affinity("[{matchExpressions: [{key: a b, operator: Exists}]}]"), &format!("{term}.matchExpressions[0].key"), "Invalid value"),
        ("spec", &node_affinity("[{matchFields: [{key: spec.x, operator: In, values: [a]}]}]"), &format!("{term}.matchFields[0].key"), "not a valid field selector key"),
        ("spec", &node_affinity("[{matchFields: [{key: metadata.name, operator: In, values: [a, b]}]}]"), &format!("{term}.matchFields[0].values"), "only one value"),
        ("spec", "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {}}]}}", "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight", "1-100"),
        ("spec", "restartPolicy: Sometimes", "spec.restartPolicy", "Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\""),
        ("spec", "dnsPolicy: none", "spec.dnsPolicy", "Unsupported value"),
        ("spec", "dnsPolicy: None", "spec.dnsConfig.nameservers", "Required value"),
        ("spec", "dnsConfig: {nameservers: [x]}", "spec.dnsConfig.nameservers[0]", "valid IP address"),
        ("spec", "activeDeadlineSeconds: 0", "spec.activeDeadlineSeconds", "between 1 and 2147483647"),
        ("spec", "hostname: A_b", "spec.hostname", "lower case"),
        ("spec", "nodeSelector: {a: \"b c\"}", "spec.nodeSelector[a]", "must be letters"),
        ("spec", "tolerations: [{operator: Equal}]", "spec.tolerations[0].operator", "must be Exists"),
        ("spec", "tolerations: [{key: a, effect: Never}]", "spec.tolerations[0].effect", "Unsupported value"),
        ("spec", "hostAliases: [{ip: x}]", "spec.hostAliases[0].ip", "valid IP address"),
        ("spec", "ephemeralContainers: [{name: e, image: x}]", "spec.ephemeralContainers", "cannot be set on create"),
        ("spec", "shareProcessNamespace: true\nhostPID: true", "spec.shareProcessNamespace", "cannot both be enabled"),
        ("spec", "hostUsers: false\nhostNetwork: true", "spec.hostNetwork", "when `hostUsers` is false"),
        ("spec", "securityContext: {runAsUser: -1}", "spec.securityContext.runAsUser", "between 0"),
        ("spec", "securityContext: {sysctls: [{name: A, value: b}]}", "spec.securityContext.sysctls[0].name", "lower case"),
        ("spec", "hostNetwork: true\nsecurityContext: {sysctls: [{name: net.a, value: b}]}", "spec.securityContext.sysctls[0].name", "'hostNetwork' is true"),
        ("spec", "securityContext: {seccompProfile: {type: Localhost}}", "spec.securityContext.seccompProfile.localhostProfile", "Required value"),
        ("spec", "serviceAccountName: x", "spec.serviceAccountName", "may not reference serviceaccounts"),
        ("spec", "resourceClaims: [{name: x}]", "spec.resourceClaims", "may not reference resourceclaims"),
        ("spec", "volumes: [{name: v, configMap: {name: x, items: [{key: k, path: ..x}]}}]", "spec.volumes[0].configMap.items[0].path", "must not start with '..'"),
        ("spec", "volumes: [{name: v, secret: {}}]", "spec.volumes[0].secret.secretName", "Required value"),
        ("container", "envFrom: [{configMapRef: {name: a/b}}]", &format!("{app}.envFrom[0].configMapRef.name"), "Invalid value"),
        ("spec", "volumes: [{name: v, persistentVolumeClaim: {claimName: x}}]", "spec.volumes[0].persistentVolumeClaim", "persistentvolumeclaims"),
        ("spec", "volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]", "spec.volumes[0].projected.sources[0].serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("spec", "volumes: [{name: v, cephfs: {monitors: [m], secretRef: {name: s}}}]", "spec.volumes[0].cephfs", "secrets"),
        ("spec", "volumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}]", "spec.volumes[0].hostPath", "more than 1 volume type"),
        ("spec", "volumes: [{name: v}, {name: v}]", "spec.volumes[1].name", "Duplicate value: \"v\""),
        ("spec", "volumes: [{name: v, hostPath: {path: /a/../b}}]", "spec.volumes[0].hostPath.path", "'..'"),
        ("spec", "volumes: [{name: v, hostPath: {path: /a, type: Dir}}]", "spec.volumes[0].hostPath.type", "Unsupported value"),
        ("spec", "volumes: [{name: v, emptyDir: {sizeLimit: lots}}]", "spec.volumes[0].emptyDir.sizeLimit", "quantities must match"),
        ("spec", "volumes: [{name: v, downwardAPI: {items: [{path: ../x, fieldRef: {fieldPath: metadata.name}}]}}]", "spec.volumes[0].downwardAPI.items[0].path", "'..'"),
        ("spec", "initContainers: [{name: app, image: x}]", "spec.initContainers[0].name", "Duplicate value: \"app\""),
        ("spec", "initContainers: [{name: i, image: x, readinessProbe: {exec: {command: [a]}}}]", "spec.initContainers[0].readinessProbe", "restartPolicy=Always"),
        ("spec", "initContainers: [{name: i, image: x, lifecycle: {}}]", "spec.initContainers[0].lifecycle", "restartPolicy=Always"),
        ("spec", "initContainers: [{name: i}]", "spec.initContainers[0].image", "Required value"),
        ("spec", "resources: {limits: {nvidia.com/gpu: 1}}", "spec.resources.limits[nvidia.com/gpu]", "for a pod as a whole"),
        ("spec", "resources: {requests: {cpu: 500m}, limits: {cpu: 2}}", "spec.resources.requests[cpu]", "aggregate container requests of 1"),
        ("container", "imagePullPolicy: always", &format!("{app}.imagePullPolicy"), "Unsupported value"),
        ("container", "terminationMessagePolicy: x", &format!("{app}.terminationMessagePolicy"), "Unsupported value"),
        ("container", "ports: [{containerPort: 0}]", &format!("{app}.ports[0].containerPort"), "Required value"),
        ("container", "ports: [{containerPort: 70000}]", &format!("{app}.ports[0].containerPort"), "between 1 and 65535"),
        ("container", "ports: [{containerPort: 1, protocol: tcp}]", &format!("{app}.ports[0].protocol"), "Unsupported value"),
        ("container", "ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]", &format!("{app}.ports[1].name"), "Duplicate value"),
        ("container", "ports: [{containerPort: 1, name: A}]", &format!("{app}.ports[0].name"), "lower case"),
        ("container", "ports: [{containerPort: 1, hostPort: 5}, {containerPort: 2, hostPort: 5}]", &format!("{app}.ports[1].hostPort"), "Duplicate value"),
        ("container", "env: [{name: A=B}]", &format!("{app}.env[0].name"), "printable ASCII"),
        ("container", "env: [{value: x}]", &format!("{app}.env[0].name"), "Required value"),
        ("container", "env: [{name: A, valueFrom: {}}]", &format!("{app}.env[0].valueFrom"), "must specify one of"),
        ("container", "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.x}}}]", &format!("{app}.env[0].valueFrom.fieldRef.fieldPath"), "Unsupported value"),
        ("container", "env: [{name: A, valueFrom: {resourceFieldRef: {resource: cpu}}}]", &format!("{app}.env[0].valueFrom.resourceFieldRef.resource"), "Unsupported value"),
        ("container", "volumeMounts: [{name: nope, mountPath: /x}]", &format!("{app}.volumeMounts[0].name"), "Not found: \"nope\""),
        ("container", "volumeDevices: [{name: v, devicePath: /x}]", &format!("{app}.volumeDevices[0].name"), "Not found"),
        ("container", "livenessProbe: {}", &format!("{app}.livenessProbe"), "must specify a handler type"),
        ("container", "livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}", &format!("{app}.livenessProbe"), "more than 1 handler"),
        ("container", "livenessProbe: {exec: {}}", &format!("{app}.livenessProbe.exec.command"), "Required value"),
        ("container", "livenessProbe: {tcpSocket: {port: 0}}", &format!("{app}.livenessProbe.tcpSocket.port"), "between 1 and 65535"),
        ("container", "livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}", &format!("{app}.livenessProbe.successThreshold"), "must be 1"),
        ("container", "livenessProbe: {tcpSocket: {port: 1}, periodSeconds: -1}", &format!("{app}.livenessProbe.periodSeconds"), "greater than or equal to 0"),
        ("container", "readinessProbe: {httpGet: {port: 1, scheme: http}}", &format!("{app}.readinessProbe.httpGet.scheme"), "Unsupported value"),
        ("container", "readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 1}", &format!("{app}.readinessProbe.terminationGracePeriodSeconds"), "must not be set"),
        ("container", "lifecycle: {preStop: {}}", &format!("{app}.lifecycle.preStop"), "must specify a handler type"),
        ("container", "lifecycle: {preStop: {sleep: {seconds: 31}}}", &format!("{app}.lifecycle.preStop.sleep.seconds"), "between 0 and"),
        ("container", "securityContext: {privileged: true, allowPrivilegeEscalation: false}", &format!("{app}.securityContext"), "allowPrivilegeEscalation"),
        ("container", "securityContext: {procMount: Unmasked}", &format!("{app}.securityContext.procMount"), "`hostUsers` must be false"),
        ("container", "securityContext: {appArmorProfile: {type: Localhost, localhostProfile: \" x\"}}", &format!("{app}.securityContext.appArmorProfile.localhostProfile"), "must not be padded"),
        ("container", "securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../x}}", &format!("{app}.securityContext.seccompProfile.localhostProfile"), "'..'"),
    ];
    for (place, lines, field, reason) in cases {
        let text = with(place, lines);
        let problems = refused(text.as_bytes());
        let [problem] = &problems[..] else { panic!("{lines}: {:?}", shown(&problems)) };
        assert_eq!(problem.field.as_deref(), Some(*field), "{lines}: {problem}");
        assert!(problem.message.contains(reason), "{lines}: {problem}");
        assert!(problem.line.is_some() && problem.column.is_some(), "{problem}");
    }
}

#[test]
fn bad_amounts_are_named_with_line_and_reason() {
    for (resources, field, reason) in [
        ("limits: {cpu: lots}", "limits[cpu]", "Invalid value: \"lots\": quantities must match"),
        ("limits: {cpu: -1}", "limits[cpu]", "must be greater than or equal to 0"),
        ("limits: {cpus: 1}", "limits[cpus]", "must be a standard resource"),
        ("limits: {memory: 64Mib}", "limits[memory]", "quantities must match"),
        (
            "limits: {cpu: 1}\n      requests: {cpu: 2}",
            "requests[cpu]",
            "less than or equal to cpu limit of 1",
        ),
        ("requests: {example.com/x: 1}", "limits", "Limit must be set"),
        ("limits: {cpu: 1, example.com/x: 500m}", "limits[example.com/x]", "must be an integer"),
        ("limits: {hugepages-2Mi: 2Mi}", "", "HugePages require cpu or memory"),
    ] {
        let text = WEB.replace("limits: {cpu: 1, memory: 64Mi}", resources);
        let problems = refused(text.as_bytes());
        let wanted = format!("spec.containers[0].resources.{field}");
        let found = problems.iter().find(|p| p.field.as_deref() == Some(wanted.trim_end_matches('.')));
        let problem = found.unwrap_or_else(|| panic!("{resources}: {:?}", shown(&problems)));
        assert!(problem.message.contains(reason) && problem.line >= Some(10), "{problem}");
    }
}

#[test]
fn a_container_that_may_use_more_than_its_pod_is_refused() {
    let text = WEB.replace("memory: 64Mi}", "memory: 64Mi}\n      requests: {memory: 1Mi}")
        + "  resources: {limits: {memory: 63Mi}}\n";
    let problems = shown(&refused(text.as_bytes()));
    let expected = "/m/a.yaml:13:24: spec.resources.limits[memory]: Invalid value: \"63Mi\": must be greater than or \
                    equal to the limit 64Mi of container \"app\"";
    assert_eq!(problems, [expected]);
}

#[test]
fn all_problems_of_a_manifest_come_at_once_in_the_order_of_the_file() {
    let text = WEB.replace("name: web", "name: WEB").replace("    image: example.org/app:1\n", "")
        + "    ports: [{containerPort: 99999}]\n  dnsPolicy: x\n";
    let problems = shown(&refused(text.as_bytes()));
    assert_eq!(problems.len(), 4, "{problems:?}");
    for (problem, start) in problems.iter().zip([
        "/m/a.yaml:4:3: metadata.name: Invalid value: \"WEB-node1\"",
        "/m/a.yaml:8:5: spec.containers[0].image: Required value",
        "/m/a.yaml:11:14: spec.containers[0].ports[0].containerPort: Invalid value: 99999",
        "/m/a.yaml:12:3: spec.dnsPolicy: Unsupported value: \"x\"",
    ]) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn nonsense_makes_few_and_short_problems() {
    let ports = "{containerPort: 0}, ".repeat(1000);
    let long = "ä".repeat(10_000);
    let text = with("container", &format!("ports: [{ports}]\nimagePullPolicy: {long}"));
    let problems = refused(text.as_bytes());
    assert_eq!(problems.len(), 51);
    assert_eq!(problems[50].message, "and 951 further problems");
    let problems = refused(with("container", &format!("imagePullPolicy: {long}")).as_bytes());
    assert!(
        problems[0].message.starts_with("Unsupported value: \"ää") && problems[0].message.ends_with("ä…")
    );
}

#[test]
fn a_name_that_gets_too_long_with_the_node_is_refused() {
    let text = WEB.replace("name: web", &format!("name: {}", "w".repeat(250)));
    assert!(refused(text.as_bytes())[0].message.contains("no more than 253 characters"));
}

#[test]
fn a_name_that_is_too_long_for_the_folder_of_its_logs_is_refused() {
    let problem = |name: usize| {
        let text = WEB
            .replace("name: web", &format!("name: {0}.{0}.{0}.{1}", "a".repeat(62), "b".repeat(name - 189)));
        read(text.as_bytes(), origin()).err().map(|problems| shown(&problems).join("\n"))
    };
    // "default", "-node1", a UID of 32 digits and two underscores.
    assert_eq!(problem(208), None);
    let refused = problem(209).unwrap();
    assert!(
        refused.starts_with("/m/a.yaml:4:3: metadata.name: ") && refused.contains("of 256 bytes"),
        "{refused}"
    );
}
