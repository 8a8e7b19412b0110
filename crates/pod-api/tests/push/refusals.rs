//! What is refused, and in which words.

use serde_json::json;

use crate::broken;
use crate::node::{Ask, Node, PODS, ask, manifest};

const YAML: &str = "application/yaml";
const WEB: &str = "/api/v1/namespaces/default/pods/web";

fn post(body: impl Into<Vec<u8>>) -> Ask {
    ask("POST", PODS).kind(YAML).body(body)
}

fn patch(kind: &str, body: &str) -> Ask {
    ask("PATCH", WEB).kind(&format!("application/{kind}")).body(body)
}

#[tokio::test]
async fn each_bad_request_has_its_code_reason_and_words() {
    let node = Node::new().await;
    node.create("web").await;
    let long = "x".repeat(300);
    let web = || manifest("web");
    let other = |from: &str, to: &str| post(manifest("other").replace(from, to));
    let double = |index| json!({"op": "copy", "from": "/metadata", "path": format!("/metadata/{index}")});
    let bomb = serde_json::Value::from_iter((0..40).map(double)).to_string();
    let mut wrong = Vec::new();
    let apply = "/api/v1/namespaces/default/pods/other";
    for (ask, code, reason, words) in [
        // Addresses and verbs
        (ask("GET", "/"), 404, "NotFound", "could not find the requested resource"),
        (ask("GET", "/api/v1/nodes"), 404, "NotFound", "could not find the requested resource"),
        (ask("GET", "/apis/apps/v1"), 404, "NotFound", "could not find the requested resource"),
        (ask("GET", &format!("{PODS}/none")), 404, "NotFound", "pods \"none\" not found"),
        (ask("GET", &format!("{PODS}/..%2f..%2fetc%2fpasswd")), 404, "NotFound", "not found"),
        (ask("GET", &format!("{PODS}/a%00b")), 404, "NotFound", "not found"),
        (ask("GET", &format!("{PODS}/{long}")), 404, "NotFound", "not found"),
        (ask("GET", &format!("{PODS}/%ff")), 400, "BadRequest", "a bad address"),
        (ask("DELETE", &format!("{PODS}/..%2fweb")), 404, "NotFound", "not found"),
        (ask("GET", "/api/v1/namespaces/none"), 404, "NotFound", "namespaces \"none\" not found"),
        (ask("GET", "/api/v1/namespaces/default/events/none"), 404, "NotFound", "events \"none\" not found"),
        (ask("POST", "/api/v1/pods").body(web()), 405, "MethodNotAllowed", "does not allow POST"),
        (ask("PUT", &format!("{WEB}/status")).body(web()), 405, "MethodNotAllowed", "does not allow PUT"),
        (ask("PATCH", &format!("{WEB}/status")), 405, "MethodNotAllowed", "does not allow PATCH"),
        (ask("OPTIONS", PODS), 405, "MethodNotAllowed", "does not allow OPTIONS"),
        (ask("POST", "/version"), 405, "MethodNotAllowed", "does not allow POST"),
        (ask("GET", "/api/v1/events?watch=true"), 405, "MethodNotAllowed", "watch is not supported"),
        // Forms
        (ask("GET", PODS).header("accept", "text/html"), 406, "NotAcceptable", "application/json"),
        (
            ask("GET", PODS).header("accept", "application/vnd.kubernetes.protobuf"),
            406,
            "NotAcceptable",
            "application/json",
        ),
        (
            ask("GET", &format!("{PODS}?watch=1")).header("accept", YAML),
            406,
            "NotAcceptable",
            "application/json only",
        ),
        (
            ask("POST", PODS).kind("application/vnd.kubernetes.protobuf").body("k8s"),
            415,
            "UnsupportedMediaType",
            "application/vnd.kubernetes.protobuf",
        ),
        (ask("POST", PODS).kind("multipart/form-data").body(web()), 415, "UnsupportedMediaType", "multipart"),
        (
            ask("POST", PODS).kind("text/plain").body(web()),
            415,
            "UnsupportedMediaType",
            "(text/plain) - accepted",
        ),
        (ask("POST", PODS).kind("").body(web()), 415, "UnsupportedMediaType", "Content-Type is missing"),
        (
            ask("PUT", WEB).kind("application/x-www-form-urlencoded").body(web()),
            415,
            "UnsupportedMediaType",
            "with curl: -H 'Content-Type: application/yaml'",
        ),
        (ask("DELETE", WEB).kind("text/plain").body("{}"), 415, "UnsupportedMediaType", "application/json"),
        (ask("DELETE", PODS).kind("text/plain").body("{}"), 415, "UnsupportedMediaType", "application/json"),
        (ask("PUT", WEB).kind("text/html").body(web()), 415, "UnsupportedMediaType", "text/html"),
        (
            ask("PATCH", WEB).kind("application/json").body("{}"),
            415,
            "UnsupportedMediaType",
            "merge-patch+json",
        ),
        (ask("PATCH", WEB).body("{}"), 415, "UnsupportedMediaType", "merge-patch+json"),
        // Options
        (
            ask("GET", &format!("{PODS}?fieldSelector=spec.image%3Dx")),
            400,
            "BadRequest",
            "not supported: spec.image",
        ),
        (
            ask("GET", &format!("{PODS}?labelSelector=a+b+c")),
            400,
            "BadRequest",
            "unable to parse label selector",
        ),
        (
            ask("GET", &format!("{PODS}?watch=1&resourceVersion=x")),
            400,
            "BadRequest",
            "invalid resource version",
        ),
        (
            ask("POST", &format!("{PODS}?dryRun=yes")).body(manifest("other")),
            422,
            "Invalid",
            "dryRun: Unsupported value: \"yes\"",
        ),
        (
            ask("POST", &format!("{PODS}?fieldValidation=always")).body(manifest("other")),
            422,
            "Invalid",
            "fieldValidation: Unsupported value",
        ),
        (
            ask("PATCH", &format!("{WEB}?force=true")).kind("application/merge-patch+json").body("{}"),
            422,
            "Invalid",
            "force: Forbidden",
        ),
        (
            ask("PATCH", WEB).kind("application/apply-patch+yaml").body(web()),
            422,
            "Invalid",
            "fieldManager: Required",
        ),
        (ask("DELETE", &format!("{WEB}?gracePeriodSeconds=x")), 400, "BadRequest", "gracePeriodSeconds"),
        (ask("DELETE", WEB).body("{\"gracePeriodSeconds\": \"x\"}"), 400, "BadRequest", "bad DeleteOptions"),
        (
            ask("DELETE", &format!("{WEB}?propagationPolicy=Later")),
            422,
            "Invalid",
            "propagationPolicy: Unsupported value: \"Later\"",
        ),
        (
            ask("DELETE", WEB).body("{\"propagationPolicy\": \"later\"}"),
            422,
            "Invalid",
            "propagationPolicy: Unsupported value: \"later\"",
        ),
        (
            ask("DELETE", WEB).body("{\"propagationPolicy\": \"Orphan\", \"orphanDependents\": true}"),
            422,
            "Invalid",
            "cannot be both set",
        ),
        (ask("DELETE", WEB).body("{\"dryRun\": [\"x\"]}"), 422, "Invalid", "dryRun: Unsupported value"),
        (
            ask("DELETE", WEB).body("{\"preconditions\": {\"uid\": \"other\"}}"),
            409,
            "Conflict",
            "UID in precondition: other",
        ),
        // Bodies
        (post(""), 400, "BadRequest", "empty"),
        (post("{"), 400, "BadRequest", "line 1, column 1"),
        (post("\u{0}"), 400, "BadRequest", ""),
        (post("- a"), 400, "BadRequest", "found a list"),
        (post("hello"), 400, "BadRequest", "found plain text"),
        (post("apiVersion: apps/v1\nkind: Deployment"), 400, "BadRequest", "\"Deployment\" can not be run"),
        (post("apiVersion: v1\nkind: PodList\nitems: []"), 400, "BadRequest", "one by one"),
        (post(manifest("a") + "---\n" + &manifest("b")), 400, "BadRequest", "line 10: only one document"),
        (
            other("image: busybox:1", "image: 1"),
            400,
            "BadRequest",
            "line 9, column 5: spec.containers[0].image",
        ),
        (other("name: other", "name: web"), 409, "AlreadyExists", "pods \"web\" already exists"),
        (
            other("metadata:", "metadata:\n  namespace: kube"),
            400,
            "BadRequest",
            "namespace of the provided object",
        ),
        (
            other("metadata:", "metadata:\n  resourceVersion: '1'"),
            400,
            "BadRequest",
            "resourceVersion should not be set",
        ),
        (other("  name: other\n", ""), 422, "Invalid", "metadata.name: Required value: name or generateName"),
        (
            other("name: other", "name: ../other"),
            422,
            "Invalid",
            "metadata.name: Invalid value: \"../other\"",
        ),
        (other("name: other", &format!("name: {long}")), 422, "Invalid", "metadata.name: Invalid value"),
        (
            other("spec:", "spec:\n  nodeName: node2"),
            422,
            "Invalid",
            "spec.nodeName: Invalid value: \"node2\"",
        ),
        (
            other("spec:", "spec:\n  volumes:\n  - name: s\n    persistentVolumeClaim: {claimName: s}"),
            422,
            "Invalid",
            "spec.volumes[0].persistentVolumeClaim: Forbidden",
        ),
        (
            ask("PUT", WEB).body(manifest("other")),
            400,
            "BadRequest",
            "the name of the object (other) does not match the name on the URL (web)",
        ),
        (
            ask("PUT", &format!("{PODS}/none")).body(manifest("none")),
            404,
            "NotFound",
            "pods \"none\" not found",
        ),
        (
            ask("PUT", WEB).body(web().replace("metadata:", "metadata:\n  resourceVersion: '1'")),
            409,
            "Conflict",
            "the object has been modified",
        ),
        (
            ask("PUT", WEB).body(web().replace("metadata:", "metadata:\n  resourceVersion: now")),
            400,
            "BadRequest",
            "metadata.resourceVersion: Invalid value: \"now\"",
        ),
        (
            ask("PUT", WEB).body(web().replace("name: app", "name: renamed")),
            422,
            "Invalid",
            "pod updates may not change fields other than",
        ),
        // Patches
        (patch("json-patch+json", "{"), 400, "BadRequest", "error decoding patch"),
        (patch("json-patch+json", "{}"), 400, "BadRequest", "JSON patch"),
        (patch("json-patch+json", "[{\"op\":\"fly\",\"path\":\"/a\"}]"), 400, "BadRequest", "JSON patch"),
        (
            patch("json-patch+json", "[{\"op\":\"remove\",\"path\":\"/spec/none\"}]"),
            422,
            "Invalid",
            "/spec/none",
        ),
        (
            patch("json-patch+json", "[{\"op\":\"test\",\"path\":\"/metadata/name\",\"value\":\"x\"}]"),
            422,
            "Invalid",
            "rejected our request",
        ),
        (
            patch("json-patch+json", "[{\"op\":\"replace\",\"path\":\"\",\"value\":1}]"),
            400,
            "BadRequest",
            "no object",
        ),
        (patch("json-patch+json", &bomb), 422, "Invalid", "exceeding the limit"),
        (patch("merge-patch+json", "[]"), 400, "BadRequest", ""),
        (
            patch("merge-patch+json", "{\"metadata\":{\"name\":\"x\"}}"),
            400,
            "BadRequest",
            "does not match the name",
        ),
        (patch("merge-patch+json", "{\"metadata\":{\"uid\":\"x\"}}"), 409, "Conflict", "UID in precondition"),
        (patch("merge-patch+json", "{\"spec\":{\"hostPID\":7}}"), 400, "BadRequest", "spec.hostPID"),
        (patch("merge-patch+json", "{\"kind\":\"Job\"}"), 400, "BadRequest", "\"Job\" can not be run"),
        (patch("strategic-merge-patch+json", "{\"spec\":{\"containers\":[{}]}}"), 400, "BadRequest", "name"),
        (
            patch("merge-patch+json", "{\"metadata\":{\"labels\":{\"a b\":\"c\"}}}"),
            422,
            "Invalid",
            "metadata.labels[a b]: Invalid value",
        ),
        (
            ask("PATCH", &format!("{apply}?fieldManager=me"))
                .kind("application/apply-patch+yaml")
                .body("apiVersion: v1\nkind: Service"),
            400,
            "BadRequest",
            "\"Service\" can not be run",
        ),
    ] {
        let shown = ask.shown();
        let reply = node.send(ask).await;
        let (found_code, found_reason, message) = reply.error();
        if (found_code, found_reason.as_str()) != (code, reason) || !message.contains(words) {
            wrong.push(format!("{shown}\n    {found_code} {found_reason}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let list = node.send(ask("GET", "/api/v1/pods")).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "nothing came of it");
    assert_eq!(list["items"][0]["spec"]["containers"][0]["image"], "busybox:1");
}

#[tokio::test]
async fn what_is_no_manifest_for_a_file_is_none_here() {
    let node = Node::new().await;
    let mut wrong = Vec::new();
    for broken in broken::all() {
        let (code, reason, message) = node.send(post(broken.text.clone())).await.error();
        // Bodies have a limit of their own, and a name may be made.
        let words = match broken.what {
            "too large" => "limit is 3145728",
            _ => broken.said,
        };
        let place = match broken.at.split_once(':') {
            Some((line, column)) if code == 400 => format!("line {line}, column {column}: "),
            _ => String::new(),
        };
        let expected = [(400, "BadRequest"), (413, "RequestEntityTooLarge"), (422, "Invalid")];
        if !expected.contains(&(code, reason.as_str()))
            || !message.contains(words)
            || !message.contains(&place)
        {
            wrong.push(format!("{}: {code} {reason}: {message}", broken.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let list = node.send(ask("GET", "/api/v1/pods")).await.expect(200);
    assert_eq!(list["items"], json!([]));
    node.send(post(broken::GOOD)).await.expect(201);
}

#[tokio::test]
async fn every_mistake_is_a_cause_with_its_field() {
    let node = Node::new().await;
    let body = manifest("web").replace("    image: busybox:1\n", "    ports: [{containerPort: 70000}]\n")
        + "  restartPolicy: Sometimes\n";
    let status = node.send(post(body)).await.expect(422);
    assert_eq!(status["details"]["kind"], "Pod");
    assert_eq!(status["details"]["name"], "web");
    let cause = |field: &str| {
        let causes = status["details"]["causes"].as_array().unwrap();
        causes
            .iter()
            .find(|cause| cause["field"] == field)
            .unwrap_or_else(|| panic!("{field}: {status}"))
            .clone()
    };
    assert_eq!(cause("spec.containers[0].image")["reason"], "FieldValueRequired");
    assert_eq!(cause("spec.restartPolicy")["reason"], "FieldValueNotSupported");
    assert_eq!(cause("spec.containers[0].ports[0].containerPort")["reason"], "FieldValueInvalid");
}

#[tokio::test]
async fn an_error_about_no_pod_has_its_causes_too() {
    let node = Node::new().await;
    let status =
        node.send(ask("POST", &format!("{PODS}?dryRun=yes")).body(manifest("web"))).await.expect(422);
    assert_eq!(
        status["details"],
        json!({"causes": [{
            "reason": "FieldValueNotSupported", "field": "dryRun",
            "message": "Unsupported value: \"yes\": supported values: \"All\"",
        }]})
    );
    // kubectl debug asks for this one, and falls over an error without details.
    let status = node.send(ask("PATCH", &format!("{WEB}/ephemeralcontainers"))).await.expect(404);
    assert_eq!(status["details"], json!({}));
}

#[tokio::test]
async fn odd_fields_are_refused_warned_of_or_ignored_as_the_client_wants() {
    let node = Node::new().await;
    let body = manifest("web") + "    imagee: x\n    image: busybox:2\n";
    let unknown = "unknown field \"spec.containers[0].imagee\"";
    let duplicate = "duplicate field \"spec.containers[0].image\"";
    let dry = |validation: &str| {
        ask("POST", &format!("{PODS}?dryRun=All&fieldValidation={validation}")).body(body.clone())
    };
    let (code, reason, message) = node.send(dry("Strict")).await.error();
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert!(message.starts_with("strict decoding error: "), "{message}");
    assert!(message.contains(unknown) && message.contains(duplicate), "{message}");
    for validation in ["Warn", ""] {
        let reply = node.send(dry(validation)).await;
        let pod = reply.expect(201);
        assert_eq!(pod["spec"]["containers"][0]["image"], "busybox:2");
        let warned = reply.warnings().join("\n").replace("\\\"", "\"");
        assert!(warned.contains(unknown) && warned.contains(duplicate), "{warned}");
    }
    let reply = node.send(dry("Ignore")).await;
    reply.expect(201);
    assert!(reply.warnings().is_empty());
    node.create("web").await;
    let patch = |validation: &str| {
        ask("PATCH", &format!("{WEB}?fieldValidation={validation}"))
            .kind("application/merge-patch+json")
            .body(json!({ "metadata": { "labels": { "a": "b" } }, "speck": {} }).to_string())
    };
    let (code, _, message) = node.send(patch("Strict")).await.error();
    assert_eq!((code, message.as_str()), (400, "strict decoding error: unknown field \"speck\""));
    let reply = node.send(patch("Warn")).await;
    assert_eq!(reply.expect(200)["metadata"]["labels"]["a"], "b");
    assert_eq!(reply.warnings(), ["299 - \"unknown field \\\"speck\\\"\""]);
}

#[tokio::test]
async fn too_many_pods_are_refused() {
    let node = Node::with(|settings| settings.limits.pods = 2).await;
    node.create("a").await;
    node.create("b").await;
    let (code, reason, message) = node.send(post(manifest("c"))).await.error();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(message.contains("2 pods are the most"), "{message}");
}
