//! What clients can do.

use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::view::PodView;
use serde_json::{Value, json};

use crate::node::{Node, PODS, Reply, ask, manifest};

const WEB: &str = "/api/v1/namespaces/default/pods/web";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn cells(reply: &Reply) -> Vec<Value> {
    reply.expect(200)["rows"].as_array().unwrap().iter().map(|row| row["cells"].clone()).collect()
}

#[tokio::test]
async fn a_manifest_becomes_a_pod_of_this_node_in_json_or_yaml() {
    let node = Node::new().await;
    let json = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "json" },
        "spec": { "containers": [{ "name": "app", "image": "busybox:1" }] },
    });
    let indented = serde_json::to_string_pretty(&json).unwrap().replace("  ", "\t");
    for (name, kind, body) in [
        ("text", "text/yaml", manifest("text")),
        ("yaml", "application/yaml; charset=utf-8", manifest("yaml")),
        ("json", "application/json", json.to_string()),
        ("tabs", "application/json", indented.replace("\"json\"", "\"tabs\"")),
    ] {
        let pod = node.send(ask("POST", PODS).kind(kind).body(body)).await.expect(201);
        let meta = &pod["metadata"];
        assert_eq!((&meta["name"], &meta["namespace"]), (&json!(name), &json!("default")));
        assert_eq!(meta["annotations"]["kubernetes.io/config.source"], "push");
        assert!(meta["uid"].is_string() && meta["creationTimestamp"].is_string());
        assert_eq!(pod["spec"]["nodeName"], "node1");
        assert_eq!(pod["spec"]["restartPolicy"], "Always", "it has its defaults");
        assert_eq!(pod["status"]["phase"], "Pending");
    }
    let state = node.push.state.borrow().clone();
    let desired: Vec<_> = state.pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(desired, ["json", "tabs", "text", "yaml"]);
    let list = node.send(ask("GET", "/api/v1/pods")).await.expect(200);
    assert_eq!(names(&list), desired);
}

#[tokio::test]
async fn a_name_is_made_of_its_beginning() {
    let node = Node::new().await;
    let body = manifest("x").replace("name: x", "generateName: job-");
    let first = node.send(ask("POST", PODS).body(body.clone())).await.expect(201);
    let second = node.send(ask("POST", PODS).body(body)).await.expect(201);
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&first).starts_with("job-") && name(&first).len() == 9, "{first}");
    assert_ne!(name(&first), name(&second));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let node = Node::new().await;
    let dry = |method: &str, path: &str| ask(method, &format!("{path}?dryRun=All"));
    node.send(dry("POST", PODS).body(manifest("web"))).await.expect(201);
    assert_eq!(node.send(ask("GET", WEB)).await.code, 404);
    let before = node.create("web").await;
    let newer = manifest("web").replace("busybox:1", "busybox:2");
    let replaced = node.send(dry("PUT", WEB).body(newer)).await.expect(200);
    assert_eq!(replaced["spec"]["containers"][0]["image"], "busybox:2");
    node.send(dry("DELETE", WEB)).await.expect(200);
    let body = json!({ "dryRun": ["All"] }).to_string();
    node.send(ask("DELETE", WEB).body(body)).await.expect(200);
    assert_eq!(node.send(ask("GET", WEB)).await.expect(200), before);
}

#[tokio::test]
async fn a_pod_is_replaced_and_patched_in_every_way() {
    let node = Node::new().await;
    node.create("web").await;
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    let newer = manifest("web").replace("busybox:1", "busybox:2");
    assert_eq!(image(&node.send(ask("PUT", WEB).body(newer)).await.expect(200)), "busybox:2");
    for (kind, version, body) in [
        (
            "merge-patch+json",
            "3",
            json!({ "spec": { "containers": [{ "name": "app", "image": "busybox:3" }] } }),
        ),
        (
            "strategic-merge-patch+json",
            "4",
            json!({ "spec": { "containers": [{ "name": "app", "image": "busybox:4" }] } }),
        ),
        (
            "json-patch+json",
            "5",
            json!([{ "op": "replace", "path": "/spec/containers/0/image", "value": "busybox:5" }]),
        ),
    ] {
        let ask = ask("PATCH", WEB).kind(&format!("application/{kind}")).body(body.to_string());
        let pod = node.send(ask).await.expect(200);
        assert_eq!(image(&pod), format!("busybox:{version}"), "{kind}");
    }
    let generation = node.send(ask("GET", WEB)).await.expect(200)["metadata"]["generation"].clone();
    assert_eq!(generation, 5, "one for each change of the spec");
}

#[tokio::test]
async fn server_side_apply_makes_changes_and_owns() {
    let node = Node::new().await;
    let apply = |manager: &str, body: &str| {
        ask("PATCH", &format!("{WEB}?fieldManager={manager}")).kind("application/apply-patch+yaml").body(body)
    };
    let made = node.send(apply("a", &manifest("web"))).await.expect(201);
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "a");
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
    let same = node.send(apply("a", &manifest("web"))).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let newer = manifest("web").replace("busybox:1", "busybox:2");
    let (code, reason, message) = node.send(apply("b", &newer)).await.error();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("conflict with \"a\""), "{message}");
    let forced = node.send(apply("b&force=true", &newer)).await.expect(200);
    assert_eq!(forced["spec"]["containers"][0]["image"], "busybox:2");
    // Other changes are owned from now on, too.
    let label = json!({ "metadata": { "labels": { "tier": "x" } } }).to_string();
    let patch = ask("PATCH", &format!("{WEB}?fieldManager=kubectl-label"));
    let labeled = node.send(patch.kind("application/merge-patch+json").body(label)).await.expect(200);
    let managers = labeled["metadata"]["managedFields"].to_string();
    assert!(managers.contains("\"kubectl-label\""), "{managers}");
    let mut replaced = labeled.clone();
    replaced["metadata"]["labels"]["tier"] = "y".into();
    let put = ask("PUT", WEB).header("user-agent", "my-tool/1.0 (linux)").body(replaced.to_string());
    let replaced = node.send(put).await.expect(200);
    let managers = replaced["metadata"]["managedFields"].to_string();
    assert!(managers.contains("\"my-tool\""), "{managers}");
}

#[tokio::test]
async fn a_deleted_pod_ends_gracefully_and_goes_when_nothing_is_left_of_it() {
    let node = Node::new().await;
    node.create("web").await;
    node.observe();
    let body = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "gracePeriodSeconds": 7 });
    let deleted =
        node.send(ask("DELETE", WEB).kind("application/json").body(body.to_string())).await.expect(200);
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 7);
    assert!(deleted["metadata"]["deletionTimestamp"].is_string());
    let longer = node.send(ask("DELETE", &format!("{WEB}?gracePeriodSeconds=9"))).await.expect(200);
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 7, "it only gets shorter");
    let table = node.send(ask("GET", WEB).header("accept", TABLE)).await;
    assert_eq!(cells(&table)[0][2], "Terminating");
    node.observe();
    let mut state = node.push.state.clone();
    state.wait_for(|state| state.pods.is_empty()).await.unwrap();
    assert_eq!(node.send(ask("GET", WEB)).await.code, 404);

    node.create("web").await;
    node.send(ask("DELETE", &format!("{WEB}?gracePeriodSeconds=0"))).await.expect(200);
    assert_eq!(node.send(ask("GET", WEB)).await.code, 404, "without grace it goes at once");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let node = Node::new().await;
    for name in ["a", "b", "c"] {
        node.create(name).await;
    }
    let some = format!("{PODS}?labelSelector=app+in+(a,b)&gracePeriodSeconds=0");
    let deleted = node.send(ask("DELETE", &some)).await.expect(200);
    assert_eq!((&deleted["kind"], names(&deleted)), (&json!("PodList"), vec!["a", "b"]));
    assert_eq!(names(&node.send(ask("GET", PODS)).await.expect(200)), ["c"]);
}

/// A pod that the node has from a file.
fn static_pod() -> Arc<PodView> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": "etcd-node1", "namespace": "kube-system", "uid": "etcd",
            "annotations": { "kubernetes.io/config.source": "file" },
        },
        "spec": { "nodeName": "node1", "containers": [{ "name": "etcd", "image": "etcd:1" }] },
    }))
    .unwrap();
    Arc::new(PodView {
        pod: Arc::new(pod),
        status: Arc::new(serde_json::from_value(json!({ "phase": "Running" })).unwrap()),
        removing: false,
        finished: false,
        waits: Vec::new(),
        doing: None,
        events: Vec::new(),
    })
}

#[tokio::test]
async fn pods_of_other_sources_are_shown_and_left_alone() {
    let node = Node::new().await;
    node.push.handle.observe(&[static_pod()]);
    let pods = "/api/v1/namespaces/kube-system/pods";
    let path = format!("{pods}/etcd-node1");
    assert_eq!(node.send(ask("GET", &path)).await.expect(200)["status"]["phase"], "Running");
    assert_eq!(
        names(&node.send(ask("GET", "/api/v1/namespaces")).await.expect(200)),
        ["default", "kube-system"]
    );
    let body = manifest("etcd-node1").replace("metadata:", "metadata:\n  namespace: kube-system");
    for ask in [
        ask("PUT", &path).body(body.clone()),
        ask("PATCH", &path).kind("application/merge-patch+json").body("{}"),
        ask("DELETE", &path),
    ] {
        let shown = ask.shown();
        let (code, reason, message) = node.send(ask).await.error();
        assert_eq!((code, reason.as_str()), (403, "Forbidden"), "{shown}");
        assert!(message.contains("source \"file\""), "{message}");
    }
    assert_eq!(node.send(ask("POST", pods).body(body)).await.error().1, "AlreadyExists");
    let all = node.send(ask("DELETE", pods)).await;
    assert_eq!(names(&all.expect(200)), Vec::<&str>::new());
    assert!(all.warnings()[0].contains("etcd-node1"), "{all:?}");
    assert_eq!(node.send(ask("GET", &path)).await.code, 200);
}

#[tokio::test]
async fn lists_are_narrowed_by_namespace_labels_and_fields() {
    let node = Node::new().await;
    node.create("a").await;
    node.create("b").await;
    let elsewhere = ask("POST", "/api/v1/namespaces/other/pods").body(manifest("a"));
    assert_eq!(node.send(elsewhere).await.expect(201)["metadata"]["namespace"], "other");
    for (path, expected) in [
        ("/api/v1/pods", vec!["a", "b", "a"]),
        (PODS, vec!["a", "b"]),
        ("/api/v1/namespaces/other/pods", vec!["a"]),
        ("/api/v1/namespaces/none/pods", vec![]),
        ("/api/v1/pods?labelSelector=app%3Da", vec!["a", "a"]),
        ("/api/v1/pods?labelSelector=app%21%3Da", vec!["b"]),
        ("/api/v1/pods?fieldSelector=metadata.namespace%3Dother,spec.nodeName%3Dnode1", vec!["a"]),
        ("/api/v1/pods?fieldSelector=status.phase%21%3DPending", vec![]),
        (
            "/api/v1/pods?fieldSelector=spec.restartPolicy%3DAlways,spec.hostNetwork%3Dfalse&limit=1",
            vec!["a", "b", "a"],
        ),
    ] {
        let list = node.send(ask("GET", path)).await.expect(200);
        assert_eq!(names(&list), expected, "{path}");
        assert!(list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().is_ok());
    }
}

#[tokio::test]
async fn tables_have_the_columns_of_kubectl() {
    let node = Node::new().await;
    node.create("web").await;
    node.observe();
    let table = |path: &str| ask("GET", path).header("accept", TABLE);
    let reply = node.send(table(PODS)).await;
    let pods = reply.expect(200);
    let columns: Vec<_> = pods["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["priority"] == 0))
        .collect();
    let narrow = ["Name", "Ready", "Status", "Restarts", "Age"].map(|name| (name, true));
    let wide = ["IP", "Node", "Nominated Node", "Readiness Gates"].map(|name| (name, false));
    assert_eq!(columns, [&narrow[..], &wide].concat());
    let cells = &cells(&reply)[0];
    assert_eq!(cells[0], "web");
    assert_eq!((&cells[1], &cells[2], &cells[3]), (&json!("1/1"), &json!("Running"), &json!("0")));
    assert_eq!((&cells[5], &cells[6], &cells[8]), (&json!("10.88.0.5"), &json!("node1"), &json!("<none>")));
    assert_eq!(pods["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(pods["rows"][0]["object"]["metadata"]["labels"]["app"], "web");
    let whole = node.send(table(&format!("{PODS}?includeObject=Object"))).await.expect(200);
    assert_eq!(whole["rows"][0]["object"]["spec"]["nodeName"], "node1");
    let none = node.send(table(&format!("{PODS}?includeObject=None"))).await.expect(200);
    assert_eq!(none["rows"][0]["object"], Value::Null);
    let namespaces = node.send(table("/api/v1/namespaces/default")).await.expect(200);
    assert_eq!(namespaces["rows"][0]["cells"][0], "default");
    let events = node.send(table("/api/v1/events")).await.expect(200);
    assert_eq!(
        (&events["rows"][0]["cells"][2], &events["rows"][0]["cells"][3]),
        (&json!("Started"), &json!("pod/web"))
    );
}

#[tokio::test]
async fn events_are_those_of_the_agent() {
    let node = Node::new().await;
    let uid = node.create("web").await["metadata"]["uid"].as_str().unwrap().to_owned();
    node.create("other").await;
    node.observe();
    let of = |selector: &str| {
        format!("/api/v1/namespaces/default/events?fieldSelector={}", selector.replace('=', "%3D"))
    };
    let of_pod =
        of(&format!("involvedObject.name=web,involvedObject.namespace=default,involvedObject.uid={uid}"));
    let list = node.send(ask("GET", &of_pod)).await.expect(200);
    let events = list["items"].as_array().unwrap();
    let reasons: Vec<_> = events.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["Started", "Unhealthy"]);
    assert_eq!(events[0]["involvedObject"]["fieldPath"], "spec.containers{app}");
    assert_eq!((&events[1]["type"], &events[1]["count"]), (&json!("Warning"), &json!(2)));
    let warnings = node.send(ask("GET", &of("type=Warning"))).await.expect(200);
    assert_eq!(warnings["items"].as_array().unwrap().len(), 2);
    let path =
        format!("/api/v1/namespaces/default/events/{}", events[0]["metadata"]["name"].as_str().unwrap());
    assert_eq!(node.send(ask("GET", &path)).await.expect(200)["message"], "Started it");
    let elsewhere = node.send(ask("GET", "/api/v1/namespaces/other/events")).await.expect(200);
    assert_eq!(elsewhere["items"], json!([]));
}

#[tokio::test]
async fn answers_are_yaml_on_request_and_indented_for_people() {
    let node = Node::new().await;
    node.create("web").await;
    let yaml = node.send(ask("GET", WEB).header("accept", "application/yaml")).await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert!(yaml.text.starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n"), "{}", yaml.text);
    let curl = node.send(ask("GET", WEB).header("user-agent", "curl/8.0")).await;
    assert!(curl.text.starts_with("{\n  \"apiVersion\""), "{}", curl.text);
    for ask in [ask("GET", WEB), ask("GET", &format!("{WEB}?pretty=false")).header("user-agent", "curl/8.0")]
    {
        assert!(node.send(ask).await.text.starts_with("{\"apiVersion\""));
    }
    assert!(
        node.send(ask("GET", &format!("{WEB}?pretty"))).await.text.starts_with("{\""),
        "no value, no wish"
    );
    let head = node.send(ask("HEAD", WEB)).await;
    assert_eq!((head.code, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn discovery_says_what_there_is() {
    let node = Node::new().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(node.send(ask("GET", path)).await.text, "ok");
    }
    assert_eq!(node.send(ask("GET", "/api")).await.expect(200)["versions"], json!(["v1"]));
    assert_eq!(node.send(ask("GET", "/apis")).await.expect(200)["groups"], json!([]));
    assert_eq!(node.send(ask("GET", "/version")).await.expect(200)["minor"], "36");
    let resources = node.send(ask("GET", "/api/v1")).await.expect(200);
    let names: Vec<_> =
        resources["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["configmaps", "events", "namespaces", "pods", "pods/status", "secrets"]);
    let document = node.send(ask("GET", "/openapi/v3")).await.expect(200);
    let path = document["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = node.send(ask("GET", &path)).await.expect(200);
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert!(patch["parameters"].to_string().contains("fieldValidation"));
}

#[tokio::test]
async fn each_change_has_a_line_in_the_log_that_says_who_made_it() {
    #[derive(Clone, Default)]
    struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let writer = written.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _log = tracing::subscriber::set_default(log);
    let node = Node::new().await;
    node.send(ask("POST", &format!("{PODS}?dryRun=All")).body(manifest("tried"))).await.expect(201);
    node.send(ask("POST", PODS).header("user-agent", "curl/8").body(manifest("web"))).await.expect(201);
    let labels = json!({ "metadata": { "labels": { "a": "b" } } }).to_string();
    let patch = ask("PATCH", &format!("{PODS}/web?fieldManager=me%0Ame"));
    node.send(patch.kind("application/merge-patch+json").body(labels)).await.expect(200);
    node.send(ask("DELETE", &format!("{PODS}/web?gracePeriodSeconds=0"))).await.expect(200);
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("was changed")).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, verb, manager) in
        [(lines[0], "create", "curl"), (lines[1], "patch", "me\\nme"), (lines[2], "delete", "unknown")]
    {
        for part in [
            format!("verb=\"{verb}\" object=pod default/web"),
            format!("manager={manager} "),
            "127.0.0.1:".to_owned(),
        ] {
            assert!(line.contains(&part), "{part}: {line}");
        }
    }
}
