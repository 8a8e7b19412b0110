//! A pod as the API shows it, and what happens to it.

use std::sync::Arc;

use kube_model::core::{Pod, PodStatus};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::{PodKey, pod};
use serde::{Serialize, Serializer};

use super::history::Versioned;

/// A pod at one resource version. Pod and status are shared with the agent, so that a change of the status does not
/// cost another pod. Serialized it is the whole pod of the API, with `apiVersion` and `kind`.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// Metadata and spec; its own status and resource version are not used.
    pub(crate) pod: Arc<Pod>,
    /// The status.
    pub(crate) status: Arc<PodStatus>,
    /// `metadata.resourceVersion`; 0 of what was never stored, in the answer to a dry run.
    pub(crate) resource_version: u64,
}

impl Object {
    /// Namespace and name.
    pub(crate) fn key(&self) -> PodKey {
        pod::identity(&self.pod).1
    }

    /// The whole pod of the API, for a reader that wants to change it.
    pub(crate) fn to_pod(&self) -> Pod {
        Pod {
            metadata: self.metadata(),
            spec: self.pod.spec.clone(),
            status: Some(PodStatus::clone(&self.status)),
        }
    }

    /// `metadata` with the resource version.
    pub(crate) fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            resource_version: Some(self.resource_version).filter(|v| *v > 0).map(|v| v.to_string()),
            ..self.pod.metadata.clone()
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Whole<'a> {
            api_version: &'a str,
            kind: &'a str,
            metadata: ObjectMeta,
            spec: &'a Option<kube_model::core::PodSpec>,
            status: &'a PodStatus,
        }
        let whole = Whole {
            api_version: "v1",
            kind: "Pod",
            metadata: self.metadata(),
            spec: &self.pod.spec,
            status: &self.status,
        };
        whole.serialize(serializer)
    }
}

impl Versioned for Object {
    fn resource_version(&self) -> u64 {
        self.resource_version
    }
}

/// What happened to an object.
#[derive(Debug, Clone)]
pub(crate) enum Change<T> {
    /// It is new.
    Added,
    /// It is another than before, which was this. A watch with a selector needs it: one that no longer matches is
    /// deleted for that watch.
    Modified(T),
    /// It is gone.
    Deleted,
}

/// One entry of the history.
#[derive(Debug, Clone)]
pub(crate) struct Event<T> {
    /// What happened.
    pub(crate) change: Change<T>,
    /// The object after it; of a deleted one the last state, with the resource version of the deletion.
    pub(crate) object: T,
}
