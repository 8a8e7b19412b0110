//! The verbs of pods: this file has what lists, shows, creates and replaces them.

mod delete;
mod patch;

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kube_model::core::Pod;
use kube_model::{PodKey, Timestamp};
use serde_json::{Value, json};

use super::negotiate::Wanted;
use super::query::{ListOptions, Query, WriteOptions};
use super::table::{self, Include};
use super::watch::{self, Selects};
use super::write::Write;
use super::{Answer, Api, At, Shared, body, key};
use crate::error::ApiError;
use crate::patch as patches;
use crate::store::{Object, Watch};
use manifest::submitted::{self, Submitted};
use manifest::typed;

/// What field selectors of pods may name.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
];

pub(super) use delete::{Deletion, delete, delete_all};
pub(super) use patch::{patch, patch_type};

/// Which pods a list or watch is about.
pub(super) struct Selection {
    namespace: Option<String>,
    name: Option<String>,
    options: ListOptions,
}

impl Selects for Selection {
    type Item = Object;

    fn matches(&self, object: &Object) -> bool {
        let meta = &object.pod.metadata;
        let is = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
        is(&self.namespace, &meta.namespace)
            && is(&self.name, &meta.name)
            && self.options.labels.matches(meta.labels.as_ref())
            && self.options.fields.matches(|name| field(object, name))
    }

    fn options(&self) -> &ListOptions {
        &self.options
    }

    fn columns(&self) -> &'static [table::Column] {
        table::POD_COLUMNS
    }

    fn list(&self, api: &Api) -> (Vec<Object>, u64) {
        let (mut objects, version) = api.store.list();
        objects.retain(|object| self.matches(object));
        (objects, version)
    }

    fn watch(&self, api: &Api, since: u64) -> Result<Watch<Object>, ApiError> {
        api.store.watch(since)
    }

    fn bookmark(&self, metadata: Value) -> Value {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": { "containers": Value::Null } })
    }
}

fn field<'a>(object: &'a Object, name: &str) -> Cow<'a, str> {
    let text = |value: &'a Option<String>| Cow::from(value.as_deref().unwrap_or_default());
    let (meta, status) = (&object.pod.metadata, &object.status);
    let spec = object.pod.spec.as_ref();
    let in_spec =
        |value: fn(&kube_model::core::PodSpec) -> &Option<String>| spec.map_or("".into(), |s| text(value(s)));
    match name {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "spec.hostNetwork" => spec.is_some_and(kube_model::pod::host_network).to_string().into(),
        "spec.nodeName" => in_spec(|spec| &spec.node_name),
        "spec.restartPolicy" => in_spec(|spec| &spec.restart_policy),
        "spec.schedulerName" => in_spec(|spec| &spec.scheduler_name),
        "spec.serviceAccountName" => in_spec(|spec| &spec.service_account_name),
        "status.nominatedNodeName" => text(&status.nominated_node_name),
        "status.phase" => text(&status.phase),
        "status.podIP" => text(&status.pod_ip),
        // Selectors know no others.
        _ => "".into(),
    }
}

pub(super) async fn list_all(State(api): Shared, wanted: Wanted, query: Query) -> Answer {
    show(&api, None, wanted, &query)
}

pub(super) async fn list(
    State(api): Shared,
    At(namespace): At<String>,
    wanted: Wanted,
    query: Query,
) -> Answer {
    show(&api, Some((namespace, None)), wanted, &query)
}

/// One pod; with `watch` its changes.
pub(super) async fn get(
    State(api): Shared,
    At(at): At<(String, String)>,
    wanted: Wanted,
    query: Query,
) -> Answer {
    if query.flag("watch") {
        return show(&api, Some((at.0, Some(at.1))), wanted, &query);
    }
    let object = api.store.get(&key(at))?;
    if wanted.table {
        let version = Some(object.resource_version.to_string());
        return table_of(&[object], version, wanted, &query);
    }
    Ok(wanted.answer(StatusCode::OK, &object))
}

fn show(api: &Arc<Api>, at: Option<(String, Option<String>)>, wanted: Wanted, query: &Query) -> Answer {
    let (namespace, name) = at.map_or((None, None), |(namespace, name)| (Some(namespace), name));
    let selection = Selection { namespace, name, options: ListOptions::read(query, FIELDS)? };
    if selection.options.watch {
        return watch::answer(api, selection, wanted, Include::read(query)?);
    }
    let (objects, version) = selection.list(api);
    let version = version.to_string();
    if wanted.table {
        return table_of(&objects, Some(version), wanted, query);
    }
    let list = json!({
        "apiVersion": "v1", "kind": "PodList", "metadata": { "resourceVersion": version }, "items": objects
    });
    Ok(wanted.answer(StatusCode::OK, &list))
}

fn table_of(objects: &[Object], version: Option<String>, wanted: Wanted, query: &Query) -> Answer {
    let table =
        table::table(objects, table::POD_COLUMNS, version, true, Include::read(query)?, Timestamp::now());
    Ok(wanted.answer(StatusCode::OK, &table.map_err(ApiError::internal)?))
}

/// A pod as it was sent.
struct Sent {
    pod: Pod,
    options: WriteOptions,
    warnings: Vec<String>,
    /// Takes its share of what all bodies may have.
    _text: body::Text,
}

impl Sent {
    async fn read(write: &mut Write) -> Result<Self, ApiError> {
        let options = WriteOptions::read(&write.query)?;
        body::must_be_manifest(&write.headers)?;
        let text = write.text().await?;
        let Submitted { pod, odd } = submitted::decode(&text.bytes).map_err(ApiError::bad_request)?;
        let warnings = options.judge(odd)?;
        Ok(Self { pod, options, warnings, _text: text })
    }
}

pub(super) async fn create(At(namespace): At<String>, mut write: Write) -> Answer {
    let Sent { mut pod, options, warnings, _text } = Sent::read(&mut write).await?;
    must_be_in(&mut pod, &namespace)?;
    name(&mut pod);
    complete(&mut pod)?;
    let object = write.api.store.create(pod, options.dry_run).await?;
    write.answer("create", StatusCode::CREATED, &object, options.dry_run, &warnings)
}

/// The namespace of the address is that of the pod.
fn must_be_in(pod: &mut Pod, namespace: &str) -> Result<(), ApiError> {
    let own = pod.metadata.namespace.get_or_insert_default();
    if own.is_empty() {
        namespace.clone_into(own);
    }
    if own == namespace {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the namespace of the provided object does not match the namespace sent on the request: {own:?} is not \
         {namespace:?}"
    )))
}

/// Makes the name of a pod that has only the beginning of one.
fn name(pod: &mut Pod) {
    let meta = &mut pod.metadata;
    let Some(base) = meta.generate_name.as_deref().filter(|base| !base.is_empty()) else { return };
    if meta.name.as_deref().is_some_and(|name| !name.is_empty()) {
        return;
    }
    meta.name = Some(generated_name(base));
}

/// A name that begins with `base`. Rule: upstream `k8s.io/apiserver/pkg/storage/names/generate.go`.
pub(super) fn generated_name(base: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LENGTH: usize = 5;
    const LONGEST: usize = 63;
    let base = &base[..base.floor_char_boundary(LONGEST - LENGTH)];
    let letter = || char::from(LETTERS[fastrand::usize(..LETTERS.len())]);
    base.chars().chain(std::iter::repeat_with(letter).take(LENGTH)).collect()
}

/// Gives a pod its defaults and checks it.
fn complete(pod: &mut Pod) -> Result<(), ApiError> {
    submitted::complete(pod).map_err(|causes| {
        let name = pod.metadata.name.as_deref().or(pod.metadata.generate_name.as_deref());
        ApiError::invalid(name.unwrap_or_default(), causes)
    })
}

pub(super) async fn replace(At(at): At<(String, String)>, mut write: Write) -> Answer {
    let Sent { mut pod, options, warnings, _text } = Sent::read(&mut write).await?;
    let key = key(at);
    must_be_in(&mut pod, &key.namespace)?;
    must_be_named(&pod, &key)?;
    complete(&mut pod)?;
    let manager = write.client.manager.clone();
    let change = move |old: &Pod| {
        // Who owns fields matters from the first server-side apply on.
        if old.metadata.managed_fields.is_none() {
            return Ok(pod);
        }
        let value = |pod| serde_json::to_value(pod).map_err(ApiError::internal);
        let mut new = value(&pod)?;
        patches::track(&value(old)?, &mut new, &manager, Timestamp::now());
        typed(new, &mut |_| {}).map_err(ApiError::internal)
    };
    let object = write.api.store.update(key, options.dry_run, change).await?;
    write.answer("update", StatusCode::OK, &object, options.dry_run, &warnings)
}

fn must_be_named(pod: &Pod, key: &PodKey) -> Result<(), ApiError> {
    match pod.metadata.name.as_deref() {
        Some(name) if name == &*key.name => Ok(()),
        name => Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            name.unwrap_or_default(),
            key.name
        ))),
    }
}
