//! ConfigMaps and Secrets as Go clients with types send them, `kubectl create configmap` among them: protobuf, whose numbers are
//! upstream's (`k8s.io/api/core/v1/generated.proto`, `k8s.io/apimachinery/pkg/runtime/serializer/protobuf`). They
//! become what the same object is in JSON, so that one set of rules is for both.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_model::objects::Kind;
use prost::Message;
use serde_json::{Map, Value, json};

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// The envelope, `runtime.Unknown`.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
    #[prost(string, tag = "3")]
    content_encoding: String,
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigMap {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(btree_map = "string, string", tag = "2")]
    data: BTreeMap<String, String>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    binary_data: BTreeMap<String, Vec<u8>>,
    #[prost(bool, optional, tag = "4")]
    immutable: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    data: BTreeMap<String, Vec<u8>>,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(btree_map = "string, string", tag = "4")]
    string_data: BTreeMap<String, String>,
    #[prost(bool, optional, tag = "5")]
    immutable: Option<bool>,
}

/// `ObjectMeta` without what the server alone says.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    generate_name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "5")]
    uid: String,
    #[prost(string, tag = "6")]
    resource_version: String,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "13")]
    owner_references: Vec<OwnerReference>,
    #[prost(string, repeated, tag = "14")]
    finalizers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct OwnerReference {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    uid: String,
    #[prost(string, tag = "5")]
    api_version: String,
    #[prost(bool, optional, tag = "6")]
    controller: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    block_owner_deletion: Option<bool>,
}

/// The object in a body that is to be of this kind, as it is in JSON.
///
/// # Errors
/// Why it is not one, without anything of what is in it.
pub(super) fn document(body: &[u8], kind: Kind) -> Result<Value, String> {
    let wrong = |what: &str| format!("the body is no {} in protobuf: {what}", kind.name());
    let envelope = body.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not begin with \"k8s\\0\""))?;
    let envelope = Envelope::decode(envelope).map_err(|error| wrong(&error.to_string()))?;
    if !envelope.content_encoding.is_empty() {
        return Err(wrong(&format!("contentEncoding {:?} is not known", envelope.content_encoding)));
    }
    let TypeMeta { api_version, kind: sent } = envelope.type_meta.unwrap_or_default();
    let raw = envelope.raw.as_slice();
    let mut value = if sent == kind.name() {
        match kind {
            Kind::ConfigMap => ConfigMap::decode(raw).map(ConfigMap::into_json),
            Kind::Secret => Secret::decode(raw).map(Secret::into_json),
        }
        .map_err(|error| wrong(&error.to_string()))?
    } else {
        // Refused for its kind by who reads it, as in JSON.
        Map::new()
    };
    value.insert("apiVersion".to_owned(), api_version.into());
    value.insert("kind".to_owned(), sent.into());
    Ok(Value::Object(value))
}

impl ConfigMap {
    fn into_json(self) -> Map<String, Value> {
        let mut fields = Fields::new(self.metadata, self.immutable);
        fields.some("data", self.data.is_empty(), self.data);
        fields.bytes("binaryData", self.binary_data);
        fields.0
    }
}

impl Secret {
    fn into_json(self) -> Map<String, Value> {
        let mut fields = Fields::new(self.metadata, self.immutable);
        fields.bytes("data", self.data);
        fields.some("stringData", self.string_data.is_empty(), self.string_data);
        fields.some("type", self.kind.is_empty(), self.kind);
        fields.0
    }
}

impl Metadata {
    fn into_json(self) -> Map<String, Value> {
        let mut fields = Fields(Map::new());
        fields.some("name", self.name.is_empty(), self.name);
        fields.some("generateName", self.generate_name.is_empty(), self.generate_name);
        fields.some("namespace", self.namespace.is_empty(), self.namespace);
        fields.some("uid", self.uid.is_empty(), self.uid);
        fields.some("resourceVersion", self.resource_version.is_empty(), self.resource_version);
        fields.some("labels", self.labels.is_empty(), self.labels);
        fields.some("annotations", self.annotations.is_empty(), self.annotations);
        fields.some("finalizers", self.finalizers.is_empty(), self.finalizers);
        let owners: Vec<Value> = self.owner_references.into_iter().map(OwnerReference::into_json).collect();
        fields.some("ownerReferences", owners.is_empty(), owners);
        fields.0
    }
}

impl OwnerReference {
    fn into_json(self) -> Value {
        json!({
            "apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid,
            "controller": self.controller, "blockOwnerDeletion": self.block_owner_deletion,
        })
    }
}

/// The fields of an object; one that is empty is not there.
struct Fields(Map<String, Value>);

impl Fields {
    fn new(metadata: Option<Metadata>, immutable: Option<bool>) -> Self {
        let mut fields = Self(Map::new());
        fields.0.insert("metadata".to_owned(), metadata.unwrap_or_default().into_json().into());
        fields.some("immutable", immutable.is_none(), immutable.unwrap_or_default());
        fields
    }

    fn some(&mut self, name: &str, is_empty: bool, value: impl serde::Serialize) {
        if !is_empty {
            self.0.insert(name.to_owned(), json!(value));
        }
    }

    fn bytes(&mut self, name: &str, value: BTreeMap<String, Vec<u8>>) {
        let encoded: BTreeMap<_, _> =
            value.into_iter().map(|(key, bytes)| (key, STANDARD.encode(bytes))).collect();
        self.some(name, encoded.is_empty(), encoded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: &str, object: &impl Message) -> Vec<u8> {
        let type_meta = Some(TypeMeta { api_version: "v1".to_owned(), kind: kind.to_owned() });
        let envelope = Envelope { type_meta, raw: object.encode_to_vec(), content_encoding: String::new() };
        [MAGIC, &envelope.encode_to_vec()].concat()
    }

    fn metadata() -> Option<Metadata> {
        let owner = OwnerReference { kind: "Node".to_owned(), name: "n".to_owned(), ..Default::default() };
        Some(Metadata {
            name: "a".to_owned(),
            labels: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            finalizers: vec!["f".to_owned()],
            owner_references: vec![owner],
            ..Default::default()
        })
    }

    #[test]
    fn an_object_in_protobuf_is_the_one_in_json() {
        // As `kubectl create configmap a --from-literal=k=v` of 1.33 sent it.
        let sent = b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x1b\n\x11\n\x01a\x12\0\x1a\0\"\0*\x002\08\0B\0\x12\x06\n\x01k\x12\x01v\x1a\0\"\0";
        let plain = document(sent, Kind::ConfigMap).unwrap();
        assert_eq!(
            plain,
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } })
        );

        let secret = Secret {
            metadata: metadata(),
            data: BTreeMap::from([("b".to_owned(), vec![0, 255])]),
            kind: "Opaque".to_owned(),
            string_data: BTreeMap::from([("s".to_owned(), "t".to_owned())]),
            immutable: Some(true),
        };
        let owner = json!({
            "apiVersion": "", "kind": "Node", "name": "n", "uid": "", "controller": null, "blockOwnerDeletion": null,
        });
        let expected = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
            "metadata": { "name": "a", "labels": { "k": "v" }, "finalizers": ["f"], "ownerReferences": [owner] },
            "data": { "b": "AP8=" }, "stringData": { "s": "t" },
        });
        assert_eq!(document(&body("Secret", &secret), Kind::Secret), Ok(expected));
    }

    #[test]
    fn what_is_no_such_object_is_said_without_its_content() {
        let secret =
            Secret { data: BTreeMap::from([("b".to_owned(), b"hidden".to_vec())]), ..Default::default() };
        let whole = body("Secret", &secret);
        for (sent, why) in [
            (&b"{}"[..], "it does not begin with"),
            (b"k8s\0\xff", "failed to decode"),
            (&whole[..whole.len() - 3], "failed to decode"),
        ] {
            let error = document(sent, Kind::Secret).unwrap_err();
            assert!(error.contains(why) && !error.contains("hidden"), "{error}");
        }
        let other = document(&body("ConfigMap", &ConfigMap::default()), Kind::Secret).unwrap();
        assert_eq!(other, json!({ "apiVersion": "v1", "kind": "ConfigMap" }));
    }
}
