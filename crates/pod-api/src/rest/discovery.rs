//! What the API has: versions, resources, verbs, and as much of an OpenAPI document as kubectl asks for.
//!
//! kubectl looks into the document whether the server validates fields itself; without one it would want all schemas,
//! to do so on its own. Rule: upstream `k8s.io/cli-runtime/pkg/resource/query_param_verifier_v3.go`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::Shared;
use super::negotiate::json as answer;

/// The version of Kubernetes whose rules hold here.
const MAJOR: &str = "1";
const MINOR: &str = "36";

pub(super) async fn version() -> Response {
    let version = json!({
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": format!("v{MAJOR}.{MINOR}.0+podsource.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    });
    answer(StatusCode::OK, &version)
}

pub(super) async fn versions() -> Response {
    // No addresses: a client stays with the one that it has.
    let versions = json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] });
    answer(StatusCode::OK, &versions)
}

pub(super) async fn groups() -> Response {
    answer(StatusCode::OK, &json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] }))
}

pub(super) async fn resources(State(api): Shared) -> Response {
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let mut list = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "v1",
        "resources": [
            resource("configmaps", "configmap", "ConfigMap", &["cm"], true, &all),
            resource("events", "event", "Event", &["ev"], true, &["get", "list"]),
            resource("namespaces", "namespace", "Namespace", &["ns"], false, &["get", "list"]),
            {
                "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": all,
                "shortNames": ["po"], "categories": ["all"],
            },
            resource("pods/status", "", "Pod", &[], true, &["get"]),
            resource("secrets", "secret", "Secret", &[], true, &all),
        ],
    });
    if let (Some(_), Some(resources)) = (api.logs.get(), list["resources"].as_array_mut()) {
        resources.push(resource("pods/log", "", "Pod", &[], true, &["get"]));
    }
    answer(StatusCode::OK, &list)
}

fn resource(
    name: &str,
    singular: &str,
    kind: &str,
    short: &[&str],
    namespaced: bool,
    verbs: &[&str],
) -> Value {
    json!({
        "name": name, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": verbs, "shortNames": short,
    })
}

pub(super) async fn openapi() -> Response {
    let address = "/openapi/v3/api/v1?hash=1";
    answer(StatusCode::OK, &json!({ "paths": { "api/v1": { "serverRelativeURL": address } } }))
}

pub(super) async fn openapi_v1() -> Response {
    let parameter = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    let operation = |kind: &str, action: &str, parameters: &[&str]| {
        json!({
            "parameters": parameters.iter().map(|name| parameter(name)).collect::<Vec<_>>(),
            "responses": { "200": { "description": "OK" } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": { "group": "", "version": "v1", "kind": kind },
        })
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let mut paths = serde_json::Map::new();
    for (kind, plural) in [("Pod", "pods"), ("ConfigMap", "configmaps"), ("Secret", "secrets")] {
        let collection = json!({
            "get": operation(kind, "list", &[]),
            "post": operation(kind, "post", &write),
            "delete": operation(kind, "deletecollection", &["dryRun"]),
        });
        let item = json!({
            "get": operation(kind, "get", &[]),
            "put": operation(kind, "put", &write),
            "patch": operation(kind, "patch", &write),
            "delete": operation(kind, "delete", &["dryRun"]),
        });
        let path = format!("/api/v1/namespaces/{{namespace}}/{plural}");
        paths.insert(format!("{path}/{{name}}"), item);
        paths.insert(path, collection);
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": format!("v{MAJOR}.{MINOR}.0") },
        "paths": paths,
        "components": { "schemas": {} },
    });
    answer(StatusCode::OK, &document)
}
