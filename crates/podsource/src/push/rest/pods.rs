//! The verbs of pods.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, StatusCode};
use kube_model::core::Pod;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use kube_model::{PodKey, Timestamp, yaml};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::negotiate::{self, Wanted};
use super::query::{self, ListOptions, Query, WriteOptions};
use super::table::{self, Include};
use super::{Answer, Api, At, Shared, body, key, watch};
use crate::manifest::submitted::{self, Submitted};
use crate::push::connections::Busy;
use crate::push::error::ApiError;
use crate::push::patch::{self, PatchType};
use crate::push::store::{Object, Preconditions};

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

/// Most characters of the name of a field manager.
const LONGEST_MANAGER: usize = 128;

/// Which pods a list or watch is about.
pub(super) struct Selection {
    namespace: Option<String>,
    name: Option<String>,
    options: ListOptions,
}

impl Selection {
    pub(super) fn matches(&self, object: &Object) -> bool {
        let meta = &object.pod.metadata;
        let is = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
        is(&self.namespace, &meta.namespace)
            && is(&self.name, &meta.name)
            && self.options.labels.matches(meta.labels.as_ref())
            && self.options.fields.matches(|name| field(object, name))
    }

    pub(super) fn options(&self) -> &ListOptions {
        &self.options
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

pub(super) async fn list_all(
    State(api): Shared,
    wanted: Wanted,
    query: Query,
    Extension(busy): Extension<Arc<Busy>>,
) -> Answer {
    show(&api, None, wanted, &query, busy)
}

pub(super) async fn list(
    State(api): Shared,
    At(namespace): At<String>,
    wanted: Wanted,
    query: Query,
    Extension(busy): Extension<Arc<Busy>>,
) -> Answer {
    show(&api, Some((namespace, None)), wanted, &query, busy)
}

/// One pod; with `watch` its changes.
pub(super) async fn get(
    State(api): Shared,
    At(at): At<(String, String)>,
    wanted: Wanted,
    query: Query,
    Extension(busy): Extension<Arc<Busy>>,
) -> Answer {
    if query.flag("watch") {
        return show(&api, Some((at.0, Some(at.1))), wanted, &query, busy);
    }
    let object = api.store.get(&key(at))?;
    if wanted.table {
        let version = Some(object.resource_version.to_string());
        return table_of(&[object], version, wanted, &query);
    }
    Ok(wanted.answer(StatusCode::OK, &object))
}

fn show(
    api: &Arc<Api>,
    at: Option<(String, Option<String>)>,
    wanted: Wanted,
    query: &Query,
    busy: Arc<Busy>,
) -> Answer {
    let (namespace, name) = at.map_or((None, None), |(namespace, name)| (Some(namespace), name));
    let selection = Selection { namespace, name, options: ListOptions::read(query, FIELDS)? };
    if selection.options.watch {
        return watch::answer(api, selection, wanted, Include::read(query)?, busy);
    }
    let (mut objects, version) = api.store.list();
    objects.retain(|object| selection.matches(object));
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
    let table = table::table(objects, version, true, Include::read(query)?, Timestamp::now());
    Ok(wanted.answer(StatusCode::OK, &table.map_err(ApiError::internal)?))
}

pub(super) async fn create(
    State(api): Shared,
    At(namespace): At<String>,
    wanted: Wanted,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let options = WriteOptions::read(&query)?;
    body::must_be_manifest(&headers)?;
    let text = body::read(&api, &headers, body).await?;
    let Submitted { mut pod, odd } = submitted::decode(&text.bytes).map_err(ApiError::bad_request)?;
    let warnings = options.judge(odd)?;
    must_be_in(&mut pod, &namespace)?;
    name(&mut pod);
    complete(&mut pod)?;
    let object = api.store.create(pod, options.dry_run).await?;
    Ok(negotiate::warn(wanted.no_table().answer(StatusCode::CREATED, &object), &warnings))
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
/// Rule: upstream `k8s.io/apiserver/pkg/storage/names/generate.go`.
fn name(pod: &mut Pod) {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LENGTH: usize = 5;
    const LONGEST: usize = 63;
    let meta = &mut pod.metadata;
    let Some(base) = meta.generate_name.as_deref().filter(|base| !base.is_empty()) else { return };
    if meta.name.as_deref().is_some_and(|name| !name.is_empty()) {
        return;
    }
    let base = &base[..base.floor_char_boundary(LONGEST - LENGTH)];
    let letter = || char::from(LETTERS[fastrand::usize(..LETTERS.len())]);
    meta.name = Some(base.chars().chain(std::iter::repeat_with(letter).take(LENGTH)).collect());
}

/// Gives a pod its defaults and checks it.
fn complete(pod: &mut Pod) -> Result<(), ApiError> {
    submitted::complete(pod).map_err(|causes| {
        let name = pod.metadata.name.as_deref().or(pod.metadata.generate_name.as_deref());
        ApiError::invalid(name.unwrap_or_default(), causes)
    })
}

pub(super) async fn replace(
    State(api): Shared,
    At(at): At<(String, String)>,
    wanted: Wanted,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let options = WriteOptions::read(&query)?;
    body::must_be_manifest(&headers)?;
    let text = body::read(&api, &headers, body).await?;
    let Submitted { mut pod, odd } = submitted::decode(&text.bytes).map_err(ApiError::bad_request)?;
    let warnings = options.judge(odd)?;
    let key = key(at);
    must_be_in(&mut pod, &key.namespace)?;
    must_be_named(&pod, &key)?;
    complete(&mut pod)?;
    let manager = manager(&options, &headers);
    let change = move |old: &Pod| {
        // Who owns fields matters from the first server-side apply on.
        if old.metadata.managed_fields.is_none() {
            return Ok(pod);
        }
        let value = |pod| serde_json::to_value(pod).map_err(ApiError::internal);
        let mut new = value(&pod)?;
        patch::track(&value(old)?, &mut new, &manager, Timestamp::now());
        serde_json::from_value(new).map_err(ApiError::internal)
    };
    let object = api.store.update(key, options.dry_run, change).await?;
    Ok(negotiate::warn(wanted.no_table().answer(StatusCode::OK, &object), &warnings))
}

/// Who changes something: the client by its own word, or else by the name of its program.
/// Rule: upstream `k8s.io/apiserver/pkg/endpoints/handlers/create.go`, `managerOrUserAgent`.
fn manager(options: &WriteOptions, headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let program = agent.and_then(|agent| agent.split('/').next()).filter(|program| !program.is_empty());
    let name = options.field_manager.as_deref().or(program).unwrap_or("unknown");
    name.chars().take(LONGEST_MANAGER).collect()
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

pub(super) async fn patch(
    State(api): Shared,
    At(at): At<(String, String)>,
    wanted: Wanted,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let options = WriteOptions::read(&query)?;
    let kind = patch_type(&headers, &options)?;
    let text = body::read(&api, &headers, body).await?;
    let (key, dry_run) = (key(at), options.dry_run);
    let manager = manager(&options, &headers);
    let patch = Arc::new(Patch::read(key.clone(), kind, manager, &text.bytes, options)?);
    let (warn, warned) = oneshot::channel();
    let of_old = Arc::clone(&patch);
    let change = move |old: &Pod| {
        let (pod, warnings) = of_old.apply(&serde_json::to_value(old).map_err(ApiError::internal)?)?;
        // Whoever asked may have gone.
        let _ = warn.send(warnings);
        Ok(pod)
    };
    let (code, object, warnings) = match api.store.update(key, dry_run, change).await {
        Ok(object) => (StatusCode::OK, object, warned.await.unwrap_or_default()),
        // Server-side apply makes what is not there.
        Err(error) if error.code == 404 && matches!(patch.kind, PatchType::Apply { .. }) => {
            let (pod, warnings) = patch.apply(&Value::Null)?;
            (StatusCode::CREATED, api.store.create(pod, dry_run).await?, warnings)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(negotiate::warn(wanted.no_table().answer(code, &object), &warnings))
}

/// A patch that was sent.
struct Patch {
    key: PodKey,
    kind: PatchType,
    manager: String,
    value: Value,
    /// What is odd about its text.
    odd: Vec<String>,
    options: WriteOptions,
}

impl Patch {
    fn read(
        key: PodKey,
        kind: PatchType,
        manager: String,
        text: &[u8],
        options: WriteOptions,
    ) -> Result<Self, ApiError> {
        let (value, odd) = if let PatchType::Apply { .. } = kind {
            submitted::document(text).map(|(_, value, odd)| (value, odd)).map_err(ApiError::bad_request)?
        } else {
            let bad = |error| ApiError::bad_request(format!("error decoding patch: {error}"));
            (serde_json::from_slice(text).map_err(bad)?, Vec::new())
        };
        Ok(Self { key, kind, manager, value, odd, options })
    }

    /// The patched pod, and what to warn of.
    fn apply(&self, current: &Value) -> Result<(Pod, Vec<String>), ApiError> {
        let patched = patch::apply(&self.kind, current, &self.value);
        let mut patched = patched.map_err(|error| error.into_api(&self.key.name))?;
        if !matches!(self.kind, PatchType::Apply { .. }) {
            patch::track(current, &mut patched, &self.manager, Timestamp::now());
        }
        let Submitted { mut pod, odd } = submitted::from_value(patched).map_err(ApiError::bad_request)?;
        let warnings = self.options.judge(self.odd.iter().cloned().chain(odd).collect())?;
        must_be_in(&mut pod, &self.key.namespace)?;
        must_be_named(&pod, &self.key)?;
        complete(&mut pod)?;
        Ok((pod, warnings))
    }
}

fn patch_type(headers: &HeaderMap, options: &WriteOptions) -> Result<PatchType, ApiError> {
    const JSON: &str = "application/json-patch+json";
    const MERGE: &str = "application/merge-patch+json";
    const STRATEGIC: &str = "application/strategic-merge-patch+json";
    const APPLY: &str = "application/apply-patch+yaml";
    let kind = match body::media_type(headers)? {
        JSON => PatchType::Json,
        MERGE => PatchType::Merge,
        STRATEGIC => PatchType::Strategic,
        APPLY => {
            let missing = "fieldManager: Required value: is required for apply patch";
            let manager =
                options.field_manager.clone().ok_or_else(|| ApiError::new(422, "Invalid", missing))?;
            return Ok(PatchType::Apply { manager, force: options.force, now: Timestamp::now() });
        }
        other => return Err(body::unsupported(other, &[JSON, MERGE, STRATEGIC, APPLY])),
    };
    if options.force {
        return Err(ApiError::new(
            422,
            "Invalid",
            "force: Forbidden: may not be specified for non-apply patch",
        ));
    }
    Ok(kind)
}

/// How to delete.
struct Deletion {
    preconditions: Preconditions,
    grace: Option<i64>,
    dry_run: bool,
}

impl Deletion {
    /// From the body if there is one, else from the query.
    fn read(query: &Query, text: &[u8]) -> Result<Self, ApiError> {
        if text.trim_ascii().is_empty() {
            return Ok(Self {
                preconditions: Preconditions::default(),
                grace: query.number("gracePeriodSeconds")?,
                dry_run: query.dry_run()?,
            });
        }
        let bad = |error: String| ApiError::bad_request(format!("bad DeleteOptions: {error}"));
        let value = yaml::parse(text).map_err(|error| bad(error.to_string()))?.value;
        let options = DeleteOptions::deserialize(value).map_err(|error| bad(error.to_string()))?;
        let preconditions = options.preconditions.unwrap_or_default();
        let mut dry_run = options.dry_run.iter().flatten().map(String::as_str);
        Ok(Self {
            preconditions: Preconditions {
                uid: preconditions.uid,
                resource_version: preconditions.resource_version,
            },
            grace: options.grace_period_seconds,
            dry_run: query::dry_run(&mut dry_run)?,
        })
    }
}

pub(super) async fn delete(
    State(api): Shared,
    At(at): At<(String, String)>,
    wanted: Wanted,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let text = body::read(&api, &headers, body).await?;
    let Deletion { preconditions, grace, dry_run } = Deletion::read(&query, &text.bytes)?;
    let object = api.store.delete(key(at), preconditions, grace, dry_run).await?;
    Ok(wanted.no_table().answer(StatusCode::OK, &object))
}

/// Deletes the pushed pods that are selected. Those of other sources stay, with a warning.
pub(super) async fn delete_all(
    State(api): Shared,
    At(namespace): At<String>,
    wanted: Wanted,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let selection =
        Selection { namespace: Some(namespace), name: None, options: ListOptions::read(&query, FIELDS)? };
    let text = body::read(&api, &headers, body).await?;
    let Deletion { preconditions, grace, dry_run } = Deletion::read(&query, &text.bytes)?;
    let (mut deleted, mut warnings) = (Vec::new(), Vec::new());
    let (objects, _) = api.store.list();
    for object in objects.iter().filter(|object| selection.matches(object)) {
        match api.store.delete(object.key(), preconditions.clone(), grace, dry_run).await {
            Ok(object) => deleted.push(object),
            // It went by itself.
            Err(error) if error.code == 404 => {}
            Err(error) if error.code == 403 => warnings.push(error.message),
            Err(error) => return Err(error.into()),
        }
    }
    let list = json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": deleted });
    Ok(negotiate::warn(wanted.no_table().answer(StatusCode::OK, &list), &warnings))
}
