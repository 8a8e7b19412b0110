//! A pod as it comes from the server. It always decodes, as far as kube is concerned: an error there would be
//! one of the whole list.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use kube_model::core::{Pod, PodSpec, PodStatus};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use manifest::typed;

/// Most unknown fields that are told of one pod.
const MAX_UNKNOWN: usize = 20;

/// A pod, or what is known of one that can not be decoded. Without `managedFields`, which nobody here needs and
/// which are the greater part of many pods.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) metadata: ObjectMeta,
    pub(super) rest: Result<Rest, Undecodable>,
}

/// All but the metadata.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) spec: PodSpec,
    pub(super) status: Option<PodStatus>,
    /// Fields of the spec that this version of the agent does not have.
    pub(super) unknown: Vec<String>,
}

/// Why it can not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undecodable {
    pub(super) field: String,
    pub(super) message: String,
}

impl<'de> Deserialize<'de> for Received {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pod = Value::deserialize(deserializer)?;
        let mut take = |name: &str| pod.get_mut(name).map(Value::take).unwrap_or_default();
        let mut metadata = take("metadata");
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("managedFields");
        }
        let (spec, status) = (take("spec"), take("status"));
        let identity = identity(&metadata);
        Ok(match part("metadata", metadata, &mut |_| {}) {
            Ok(metadata) => Self { metadata, rest: rest(spec, status) },
            Err(why) => Self { metadata: identity, rest: Err(why) },
        })
    }
}

fn rest(spec: Value, status: Value) -> Result<Rest, Undecodable> {
    let mut unknown = Vec::new();
    let spec = part("spec", spec, &mut |path| {
        if unknown.len() < MAX_UNKNOWN {
            unknown.push(format!("spec{}", field(&path)));
        }
    })?;
    let status = part("status", status, &mut |_| {})?;
    Ok(Rest { spec, status, unknown })
}

/// Decodes the part of a pod called `name`.
fn part<T: DeserializeOwned>(
    name: &str,
    value: Value,
    unknown: &mut dyn FnMut(serde_ignored::Path<'_>),
) -> Result<T, Undecodable> {
    typed(value, unknown).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { name.to_owned() } else { format!("{name}.{path}") };
        Undecodable { field, message: error.into_inner().to_string() }
    })
}

/// What names the pod, whatever else its metadata holds.
fn identity(metadata: &Value) -> ObjectMeta {
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

/// A path as Kubernetes writes it, from its first dot on.
fn field(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field(parent)),
        Path::Map { parent, key } => format!("{}.{key}", field(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            field(parent)
        }
    }
}

impl Resource for Received {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind(dynamic: &()) -> Cow<'_, str> {
        Pod::kind(dynamic)
    }

    fn group(dynamic: &()) -> Cow<'_, str> {
        Pod::group(dynamic)
    }

    fn version(dynamic: &()) -> Cow<'_, str> {
        Pod::version(dynamic)
    }

    fn plural(dynamic: &()) -> Cow<'_, str> {
        Pod::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn received(pod: &Value) -> Received {
        Received::deserialize(pod).unwrap()
    }

    #[test]
    fn a_pod_comes_without_managed_fields_and_otherwise_whole() {
        let Received { metadata, rest } = received(&json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7",
                         "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            "status": {"phase": "Running"},
        }));
        let rest = rest.unwrap();
        assert_eq!((metadata.managed_fields, metadata.name.as_deref()), (None, Some("web")));
        assert_eq!(rest.spec.containers[0].name, "app");
        assert_eq!(rest.status.unwrap().phase.as_deref(), Some("Running"));
        assert!(rest.unknown.is_empty());
    }

    #[test]
    fn fields_of_the_future_are_named_and_do_not_keep_the_pod_from_running() {
        let pod = received(&json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "app", "warp": {"factor": 9}}], "hyper": true},
        }));
        assert_eq!(pod.rest.unwrap().unknown, ["spec.containers[0].warp", "spec.hyper"]);
    }

    #[test]
    fn what_can_not_be_decoded_names_the_field_and_keeps_the_pods_identity() {
        let meta = json!({"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"});
        let mut odd_meta = meta.clone();
        odd_meta["labels"] = json!("none");
        let spec = json!({"containers": [{"name": "app"}]});
        let cases = [
            (meta.clone(), json!({"containers": [{"name": 7}]}), json!({}), "spec.containers[0].name"),
            (meta.clone(), Value::Null, json!({}), "spec"),
            (meta, spec.clone(), json!({"phase": ["Running"]}), "status.phase"),
            (odd_meta, spec, json!({}), "metadata.labels"),
        ];
        for (metadata, spec, status, field) in cases {
            let Received { metadata, rest } =
                received(&json!({"metadata": metadata, "spec": spec, "status": status}));
            let why = rest.unwrap_err();
            assert_eq!(why.field, field, "{why:?}");
            assert_eq!(metadata.uid.as_deref(), Some("u1"), "{field}");
            assert_eq!(metadata.resource_version.as_deref(), Some("7"), "{field}");
        }
    }
}
