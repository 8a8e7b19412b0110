//! The recordings of the real kubelet at a real API server as an oracle: what the agent writes there for the same
//! pods, and for the node, is what the kubelet wrote, field by field.
//!
//! Not part of the comparison: how many patches it takes (ours are fewer, with no GET before them), when things
//! happen, how often something that is tried again has happened, and the API server's own share
//! (`status.qosClass`, and `observedGeneration`, which it counts for pods only since 1.33).
//!
//! Better on purpose: a crash back-off shows as such at once, the kubelet shows the ended instance until its next
//! sync.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kube_model::strategic::pod_status_key;
use serde_json::{Map, Value, json};
use testkit::env::{AuditedRequest, BUSYBOX, Line, pod, until};

use super::{ClusterNode, PODS, SOON, make_patient, pod_path};

/// The image of the recordings.
const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";

/// Pods that do not come to the same here yet, and why.
const LATER: &[(&str, &str)] =
    &[("cm-volume", "volumes"), ("projected-token", "volumes"), ("secret-volume-missing", "volumes")];

/// Here these are static pods, and what is written is the status of the mirror.
const STATIC: &[&str] = &["restart-rules", "sidecar", "static-node1"];

/// Of those, the ones with fields that the API server of the tests (1.20) does not know, so that it refuses the
/// mirror or its status: their status is taken from the agent itself.
const TOO_NEW: &[(&str, &str)] = &[
    ("restart-rules", "nothing restarts with restartPolicy Never"),
    ("sidecar", "an init container has no startupProbe"),
];

/// What the kubelet reads from an unlimited cgroup of version 1, and then takes for the limit of the whole pod.
const NO_LIMIT: &str = "9007199254740988Ki";

/// The reason of the event that tells of such a refusal.
const REFUSED: &str = "FailedSync";

pub(super) struct Recording {
    name: String,
    pub(super) content: Value,
}

impl Recording {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/api");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> =
            files.map(|path| Self::load(path.file_stem().unwrap().to_str().unwrap())).collect();
        all.retain(|recording| recording.name != "node1");
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(super) fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/api/{name}.json"));
        let content = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        Self { name: name.to_owned(), content }
    }

    fn is_static(&self) -> bool {
        STATIC.contains(&self.name.as_str())
    }

    /// What the pod is called in the manifest, without the node's name that mirrors have.
    fn manifest_name(&self) -> &str {
        self.name.strip_suffix("-node1").unwrap_or(&self.name)
    }

    /// What it is called at the API server.
    fn pod_name(&self) -> String {
        if self.is_static() { format!("{}-node1", self.manifest_name()) } else { self.name.clone() }
    }

    fn requests(&self) -> impl Iterator<Item = &Value> {
        self.content["requests"].as_array().unwrap().iter()
    }

    /// Whether it was deleted while it was recorded.
    fn is_deleted(&self) -> bool {
        !self.is_static() && self.requests().any(|r| r["verb"] == "delete" && r["code"] == 200)
    }

    /// The status before anything was deleted.
    fn status(&self) -> Value {
        comparable(&self.content["pod_before_deletes"]["status"], &format!("$UID_{}", self.name), "$UID")
    }

    /// The status at the end.
    fn last_status(&self) -> Value {
        let patches = self.requests().filter(|r| r["verb"] == "patch").map(|r| &r["body"]);
        let last = history(patches).pop().unwrap();
        comparable(&last, &format!("$UID_{}", self.name), "$UID")
    }

    fn events(&self) -> BTreeSet<String> {
        let events = self.content["events_at_the_end"].as_array().unwrap().iter();
        events.map(|e| event(e, &e["fieldPath"], &self.name, &format!("$UID_{}", self.name))).collect()
    }
}

/// What the server has of a status after each of these patches.
fn history<'a>(patches: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let mut status = json!({"phase": "Pending"});
    let next = |patch: &Value| {
        apply(status.as_object_mut().unwrap(), patch["status"].as_object().unwrap());
        status.clone()
    };
    patches.map(next).collect()
}

/// Applies a strategic merge patch.
fn apply(object: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        match (object.get_mut(name), value, pod_status_key(name)) {
            (_, Value::Null, _) => drop(object.remove(name)),
            (Some(Value::Object(old)), Value::Object(new), _) => apply(old, new),
            (Some(Value::Array(old)), Value::Array(new), Some(key)) => {
                for entry in new {
                    let at = old.iter().position(|known| known[key] == entry[key]);
                    match at {
                        Some(at) if entry["$patch"] == "delete" => drop(old.remove(at)),
                        Some(at) => apply(old[at].as_object_mut().unwrap(), entry.as_object().unwrap()),
                        None => old.push(entry.clone()),
                    }
                }
            }
            _ => drop(object.insert(name.clone(), value.clone())),
        }
    }
}

/// Without what differs from run to run and from node to node.
fn comparable(status: &Value, uid: &str, stand_in: &str) -> Value {
    let mut status: Value = serde_json::from_str(&status.to_string().replace(uid, stand_in)).unwrap();
    if status["resources"] == json!({"limits": {"memory": NO_LIMIT}}) {
        status["resources"] = json!({});
    }
    strip(&mut status);
    status
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| match name.as_str() {
                "qosClass" | "observedGeneration" | "imageID" => false,
                _ => !value.is_null() && value != "",
            });
            let crashed = fields.get("lastState").is_some_and(|last| last["terminated"].is_object());
            for (name, value) in fields {
                match name.as_str() {
                    "lastTransitionTime" | "startTime" | "startedAt" | "finishedAt" => {
                        *value = json!("$TIME");
                    }
                    "containerID" => *value = json!("$ID"),
                    "podIP" | "ip" | "hostIP" => *value = json!("$IP"),
                    "restartCount" if *value != 0 => *value = json!("$N"),
                    "state" if crashed && value["running"].is_null() => *value = json!("$CRASHED"),
                    "message" => *value = json!(message(value.as_str().unwrap())),
                    _ => strip(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Without the words of the runtime, and without how large this node is.
fn message(text: &str) -> String {
    let text = text.split("rpc error:").next().unwrap();
    let text = text.split("failed to pull and unpack image").next().unwrap();
    let text = text.split(", capacity:").next().unwrap();
    text.to_owned()
}

fn event(event: &Value, field_path: &Value, name: &str, uid: &str) -> String {
    let text = message(&event["message"].as_str().unwrap().replace(uid, "$UID").replace(name, "$NAME"));
    let field_path = field_path.as_str().unwrap_or_default();
    format!("{} {} {field_path} {text}", event["type"], event["reason"])
}

/// Notes where two values differ.
pub(super) fn differ(path: &str, found: &Value, expected: &Value, differences: &mut Vec<String>) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                differ(&format!("{path}.{name}"), &found[name], &expected[name], differences);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{path}[{i}]"), a, b, differences);
            }
        }
        _ if found == expected => {}
        _ => differences.push(format!("{path}: written {found}, recorded {expected}")),
    }
}

/// What the agent has written up to now.
struct Written {
    audit: Vec<AuditedRequest>,
    /// By the object's name.
    events: BTreeMap<String, Vec<Value>>,
    /// What the agent itself shows.
    view: Value,
}

impl Written {
    fn by(node: &ClusterNode) -> Result<Self, testkit::env::Error> {
        let (_, list) = node.cluster.request("GET", "/api/v1/namespaces/default/events", None)?;
        let mut events = BTreeMap::<String, Vec<Value>>::new();
        for event in list["items"].as_array().unwrap() {
            let name = event["involvedObject"]["name"].as_str().unwrap().to_owned();
            events.entry(name).or_default().push(event.clone());
        }
        Ok(Self { audit: node.cluster.audit()?, events, view: node.agent.pods()? })
    }

    /// All but reads, of one pod.
    fn of(&self, recording: &Recording) -> impl Iterator<Item = &AuditedRequest> {
        let path = pod_path(&recording.pod_name());
        self.audit.iter().filter(move |r| {
            let rest = r.uri.split('?').next().unwrap().strip_prefix(&path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn patches(&self, recording: &Recording) -> Vec<&Value> {
        self.of(recording).filter(|r| r.verb == "patch" && r.code == 200).map(|r| &r.body).collect()
    }

    /// Where the status that was written differs from this one; of several, the one that is nearest.
    fn differences(&self, recording: &Recording, expected: &Value) -> Vec<String> {
        let patches = self.patches(recording);
        let uid = patches.last().map_or("none", |patch| patch["metadata"]["uid"].as_str().unwrap());
        let statuses = match pod(&self.view, &recording.pod_name()) {
            Some(pod) if TOO_NEW.iter().any(|(name, _)| *name == recording.name) => {
                vec![pod["status"].clone()]
            }
            _ => history(patches.into_iter()),
        };
        let differences = statuses.into_iter().map(|status| {
            let mut differences = Vec::new();
            differ(&recording.name, &comparable(&status, uid, "$UID"), expected, &mut differences);
            differences
        });
        let nothing = vec![format!("{}: nothing is written", recording.name)];
        differences.min_by_key(Vec::len).unwrap_or(nothing)
    }

    /// The same of its events.
    fn differing_events(&self, recording: &Recording) -> Vec<String> {
        let is_too_new = TOO_NEW.iter().any(|(name, _)| *name == recording.name);
        let events = self.events.get(&recording.pod_name()).into_iter().flatten();
        let events = events.filter(|e| !(is_too_new && e["reason"] == REFUSED));
        let found: BTreeSet<_> = events
            .map(|e| {
                assert_eq!(e["source"], json!({"component": "kubelet", "host": "node1"}), "{e}");
                assert_eq!(
                    (&e["involvedObject"]["kind"], &e["involvedObject"]["apiVersion"]),
                    (&json!("Pod"), &json!("v1")),
                    "{e}"
                );
                let object = &e["involvedObject"];
                event(e, &object["fieldPath"], &recording.pod_name(), object["uid"].as_str().unwrap())
            })
            .collect();
        let expected = recording.events();
        let missing = expected.difference(&found).map(|e| format!("{}: no event {e}", recording.name));
        missing.chain(found.difference(&expected).map(|e| format!("{}: event {e}", recording.name))).collect()
    }
}

#[test]
fn what_is_written_of_the_recorded_pods_is_what_the_kubelet_wrote() {
    let node = ClusterNode::start(Line::V2_1);
    // Of an image with two names the runtime may show either.
    node.containerd.ctr(&["images", "tag", BUSYBOX, IMAGE]).unwrap();
    node.containerd.ctr(&["images", "rm", BUSYBOX]).unwrap();
    for (kind, name, data) in
        [("ConfigMap", "cm", json!({"a": "1"})), ("Secret", "sec", json!({"p": "cHc="}))]
    {
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
                            "data": data});
        node.cluster.apply(&object).unwrap();
    }
    let recordings = Recording::all();
    assert_eq!(recordings.len(), 22);
    for recording in &recordings {
        let mut pod = recording.content["created"].clone();
        // A probe that times out is an event that the recording does not have.
        make_patient(&mut pod["spec"]);
        if recording.is_static() {
            pod["metadata"]["name"] = json!(recording.manifest_name());
            pod["spec"].as_object_mut().unwrap().remove("nodeName");
            let file = format!("{}.json", recording.manifest_name());
            node.agent.write_manifest(&file, &pod.to_string()).unwrap();
        } else {
            let (code, answer) = node.cluster.request("POST", PODS, Some(&pod)).unwrap();
            assert_eq!(code, 201, "{answer}");
        }
    }
    let is_later = |recording: &&Recording| LATER.iter().any(|(name, _)| *name == recording.name);
    let (later, now): (Vec<_>, Vec<_>) = recordings.iter().partition(is_later);
    assert_eq!(later.len(), LATER.len());
    let until_agreed = |what: &str, look: &dyn Fn(&Written) -> Vec<String>| {
        let agreed = until(what, 2 * SOON, || {
            let differences = look(&Written::by(&node).map_err(|e| e.to_string())?);
            if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
        });
        agreed.unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
    };
    until_agreed("all pods have come to the recorded status", &|written| {
        now.iter().flat_map(|recording| written.differences(recording, &recording.status())).collect()
    });
    let deleted: Vec<_> = now.iter().filter(|recording| recording.is_deleted()).collect();
    assert_eq!(deleted.len(), 2);
    for recording in &deleted {
        node.delete(&recording.pod_name());
    }
    std::fs::remove_file(node.agent.manifests().join("sidecar.json")).unwrap();
    for recording in &deleted {
        node.until_gone(&recording.pod_name());
    }
    until_agreed("all events have come", &|written| {
        now.iter().flat_map(|recording| written.differing_events(recording)).collect()
    });

    let written = Written::by(&node).unwrap();
    for recording in &deleted {
        let differences = written.differences(recording, &recording.last_status());
        assert!(differences.is_empty(), "{differences:#?}");
        let last = written.of(recording).last().unwrap();
        let uid = &written.patches(recording)[0]["metadata"]["uid"];
        let options = [&last.body["gracePeriodSeconds"], &last.body["preconditions"]];
        assert_eq!((last.verb.as_str(), last.code), ("delete", 200), "{last:?}");
        assert_eq!(options, [&json!(0), &json!({"uid": uid})], "{last:?}");
    }
    for recording in &now {
        let ours = written.of(recording).filter(|r| r.verb != "create");
        let verbs: BTreeSet<_> = ours.map(|r| r.verb.as_str()).collect();
        let theirs: BTreeSet<_> = recording.requests().filter_map(|r| r["verb"].as_str()).collect();
        assert!(recording.is_static() || verbs.is_subset(&theirs), "{}: {verbs:?}", recording.name);
        assert!(!verbs.contains("get"), "{}", recording.name);
    }
    for (name, _) in TOO_NEW {
        let mut events = written.events[&format!("{name}-node1")].iter();
        assert!(events.any(|e| e["reason"] == REFUSED), "the API server takes {name} by now");
    }
    for recording in &later {
        let mut differences = written.differences(recording, &recording.status());
        differences.extend(written.differing_events(recording));
        assert!(!differences.is_empty(), "{} is as recorded by now", recording.name);
    }
}
