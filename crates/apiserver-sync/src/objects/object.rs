//! A ConfigMap or Secret as it is sent, without what nobody asks for.

use std::collections::BTreeMap;

use kube_model::k8s_openapi::ByteString;
use kube_model::objects::{Kind, Object};
use serde::Deserialize;

/// The object on the wire. No `Debug`: values are secret.
#[derive(Clone, Deserialize)]
pub(super) struct Received {
    #[serde(default)]
    metadata: Metadata,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
    #[serde(rename = "binaryData", default)]
    binary_data: Option<BTreeMap<String, ByteString>>,
    #[serde(default)]
    immutable: Option<bool>,
}

#[derive(Clone, Default, Deserialize)]
struct Metadata {
    #[serde(rename = "resourceVersion", default)]
    resource_version: String,
}

impl Received {
    pub(super) fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// # Errors
    /// The key whose value is not base64.
    pub(super) fn into_object(self, kind: Kind) -> Result<Object, String> {
        use base64::Engine as _;
        let value = |(key, text): (String, String)| match kind {
            Kind::ConfigMap => Ok((key, text.into_bytes())),
            Kind::Secret => match base64::prelude::BASE64_STANDARD.decode(text) {
                Ok(bytes) => Ok((key, bytes)),
                Err(_) => Err(format!("data[{key}] is not base64")),
            },
        };
        Ok(Object {
            kind: self.kind.unwrap_or_default(),
            data: self.data.into_iter().flatten().map(value).collect::<Result<_, _>>()?,
            binary_data: self.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect(),
            immutable: self.immutable.unwrap_or(false),
        })
    }
}
