//! The verbs of ConfigMaps and Secrets: one set for both kinds. An object of another source of the node is not shown:
//! it is where its manifest is.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get};
use kube_model::Timestamp;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_model::objects::{Key, Kind};
use manifest::object::{self, Described};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::negotiate::Wanted;
use super::pods::{Deletion, generated_name, patch_type};
use super::query::{ListOptions, Query, WriteOptions};
use super::table::{self, Column, Include, Row};
use super::watch::{self, Selects};
use super::write::{Shown, Write};
use super::{Answer, Api, At, Shared, body, protobuf};
use crate::error::{ApiError, Resource};
use crate::patch::{self, PatchType};
use crate::store::{Stored, Watch};

const CONFIG_MAP_COLUMNS: &[Column] = &[
    Column::new("Name", "Unique within its namespace"),
    Column::new("Data", "How many keys it has"),
    Column::new("Age", "Since when it is there"),
];

const SECRET_COLUMNS: &[Column] = &[
    Column::new("Name", "Unique within its namespace"),
    Column::new("Type", "What its keys are for"),
    Column::new("Data", "How many keys it has"),
    Column::new("Age", "Since when it is there"),
];

impl Row for Stored {
    fn cells(&self, now: Timestamp) -> Vec<String> {
        let Described { kind, metadata, object } = &*self.described;
        let name = metadata.name.clone().unwrap_or_default();
        let keys = (object.data.len() + object.binary_data.len()).to_string();
        let age = table::ago(metadata.creation_timestamp.as_ref().map(|time| time.0), now);
        match kind {
            Kind::ConfigMap => vec![name, keys, age],
            Kind::Secret => vec![name, object.kind.clone(), keys, age],
        }
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            resource_version: Some(self.resource_version).filter(|v| *v > 0).map(|v| v.to_string()),
            ..self.described.metadata.clone()
        }
    }
}

impl Shown for Stored {
    fn shown(&self) -> String {
        self.described.key().to_string()
    }
}

/// Which objects a list or watch is about.
struct Selection {
    kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
    options: ListOptions,
}

impl Selects for Selection {
    type Item = Stored;

    fn matches(&self, stored: &Stored) -> bool {
        let Described { kind, metadata, object } = &*stored.described;
        let is = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
        *kind == self.kind
            && is(&self.namespace, &metadata.namespace)
            && is(&self.name, &metadata.name)
            && self.options.labels.matches(metadata.labels.as_ref())
            && self.options.fields.matches(|field| match field {
                "metadata.name" => Cow::from(metadata.name.as_deref().unwrap_or_default()),
                "metadata.namespace" => metadata.namespace.as_deref().unwrap_or_default().into(),
                "type" => object.kind.as_str().into(),
                // Selectors know no others.
                _ => "".into(),
            })
    }

    fn options(&self) -> &ListOptions {
        &self.options
    }

    fn columns(&self) -> &'static [Column] {
        columns(self.kind)
    }

    fn list(&self, api: &Api) -> (Vec<Stored>, u64) {
        let (mut all, version) = api.store.contents(self.kind);
        all.retain(|stored| self.matches(stored));
        (all, version)
    }

    fn watch(&self, api: &Api, since: u64) -> Result<Watch<Stored>, ApiError> {
        api.store.watch_contents(since)
    }

    fn bookmark(&self, metadata: Value) -> Value {
        json!({ "apiVersion": "v1", "kind": self.kind.name(), "metadata": metadata })
    }
}

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::ConfigMap => CONFIG_MAP_COLUMNS,
        Kind::Secret => SECRET_COLUMNS,
    }
}

/// What is served of the kind in all namespaces.
pub(super) fn everywhere(kind: Kind) -> MethodRouter<Arc<Api>> {
    get(list_all).layer(Extension(kind))
}

/// In one namespace.
pub(super) fn collection(kind: Kind) -> MethodRouter<Arc<Api>> {
    get(list).post(create).delete(delete_all).layer(Extension(kind))
}

/// Of one object.
pub(super) fn item(kind: Kind) -> MethodRouter<Arc<Api>> {
    get(one).put(replace).patch(patch).delete(delete).layer(Extension(kind))
}

type OfKind = Extension<Kind>;

async fn list_all(Extension(kind): OfKind, State(api): Shared, wanted: Wanted, query: Query) -> Answer {
    show(&api, kind, None, wanted, &query)
}

async fn list(
    Extension(kind): OfKind,
    State(api): Shared,
    At(namespace): At<String>,
    wanted: Wanted,
    query: Query,
) -> Answer {
    show(&api, kind, Some((namespace, None)), wanted, &query)
}

/// One object; with `watch` its changes.
async fn one(
    Extension(kind): OfKind,
    State(api): Shared,
    At(at): At<(String, String)>,
    wanted: Wanted,
    query: Query,
) -> Answer {
    if query.flag("watch") {
        return show(&api, kind, Some((at.0, Some(at.1))), wanted, &query);
    }
    let stored = api.store.content(&key(kind, &at))?;
    if wanted.table {
        let version = Some(stored.resource_version.to_string());
        return table_of(kind, &[stored], version, wanted, &query);
    }
    Ok(wanted.answer(StatusCode::OK, &stored))
}

fn key(kind: Kind, (namespace, name): &(String, String)) -> Key {
    Key { kind, namespace: namespace.as_str().into(), name: name.as_str().into() }
}

fn select(kind: Kind, at: Option<(String, Option<String>)>, query: &Query) -> Result<Selection, ApiError> {
    let fields: &[&str] = match kind {
        Kind::ConfigMap => &["metadata.name", "metadata.namespace"],
        Kind::Secret => &["metadata.name", "metadata.namespace", "type"],
    };
    let (namespace, name) = at.map_or((None, None), |(namespace, name)| (Some(namespace), name));
    Ok(Selection { kind, namespace, name, options: ListOptions::read(query, fields)? })
}

fn show(
    api: &Arc<Api>,
    kind: Kind,
    at: Option<(String, Option<String>)>,
    wanted: Wanted,
    query: &Query,
) -> Answer {
    let selection = select(kind, at, query)?;
    if selection.options.watch {
        return watch::answer(api, selection, wanted, Include::read(query)?);
    }
    let (all, version) = selection.list(api);
    let version = version.to_string();
    if wanted.table {
        return table_of(kind, &all, Some(version), wanted, query);
    }
    let list = json!({
        "apiVersion": "v1", "kind": format!("{}List", kind.name()), "metadata": { "resourceVersion": version },
        "items": all,
    });
    Ok(wanted.answer(StatusCode::OK, &list))
}

fn table_of(kind: Kind, all: &[Stored], version: Option<String>, wanted: Wanted, query: &Query) -> Answer {
    let table = table::table(all, columns(kind), version, true, Include::read(query)?, Timestamp::now());
    Ok(wanted.answer(StatusCode::OK, &table.map_err(ApiError::internal)?))
}

async fn create(Extension(kind): OfKind, At(namespace): At<String>, mut write: Write) -> Answer {
    let options = WriteOptions::read(&write.query)?;
    let (value, odd) = sent(kind, &mut write).await?;
    let (new, warnings) = complete(kind, value, odd, (&namespace, None), &options)?;
    let stored = write.api.store.create_content(new, options.dry_run).await?;
    write.answer("create", StatusCode::CREATED, &stored, options.dry_run, &warnings)
}

/// What a body says, and what is odd about it.
async fn sent(kind: Kind, write: &mut Write) -> Result<(Value, Vec<String>), ApiError> {
    if body::media_type(&write.headers)?.eq_ignore_ascii_case(protobuf::MEDIA_TYPE) {
        let text = write.text().await?;
        let value = protobuf::document(&text.bytes, kind).map_err(ApiError::bad_request)?;
        return Ok((value, Vec::new()));
    }
    body::must_be_manifest(&write.headers)?;
    let text = write.text().await?;
    object::document(&text.bytes).map_err(ApiError::bad_request)
}

/// The validated object of a value that was sent to an address, and what to warn of.
fn complete(
    kind: Kind,
    mut value: Value,
    odd: Vec<String>,
    (namespace, name): (&str, Option<&str>),
    options: &WriteOptions,
) -> Result<(Described, Vec<String>), ApiError> {
    let resource = Resource::of(kind);
    match value.get("kind").and_then(Value::as_str) {
        Some(sent) if sent == kind.name() => {}
        sent => {
            let sent = sent.unwrap_or_default();
            return Err(ApiError::bad_request(format!("{sent:?} is no {}", kind.name())));
        }
    }
    let Some(metadata) =
        value.as_object_mut().map(|value| value.entry("metadata").or_insert_with(|| json!({})))
    else {
        return Err(ApiError::bad_request("the body is no object"));
    };
    let text = |metadata: &Value, field: &str| {
        metadata.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    if let Some(fields) = metadata.as_object_mut() {
        if fields.get("namespace").is_none_or(|own| own.is_null() || own == "") {
            fields.insert("namespace".to_owned(), namespace.into());
        }
        if fields.get("name").is_none_or(|own| own.is_null() || own == "")
            && let Some(base) =
                fields.get("generateName").and_then(Value::as_str).filter(|base| !base.is_empty())
        {
            let name = generated_name(base);
            fields.insert("name".to_owned(), name.into());
        }
    }
    let (own_namespace, own_name) = (text(metadata, "namespace"), text(metadata, "name"));
    if own_namespace != namespace {
        return Err(ApiError::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request: \
             {own_namespace:?} is not {namespace:?}"
        )));
    }
    if let Some(name) = name.filter(|name| *name != own_name) {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({own_name}) does not match the name on the URL ({name})"
        )));
    }
    let (new, unknown) = object::submitted(value).map_err(|causes| resource.invalid(&own_name, causes))?;
    if new.metadata.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty()) {
        let why = "nobody on this node would ever take finalizers away";
        return Err(resource.forbidden(&own_name, why));
    }
    let warnings = options.judge(odd.into_iter().chain(unknown).collect())?;
    Ok((new, warnings))
}

async fn replace(Extension(kind): OfKind, At(at): At<(String, String)>, mut write: Write) -> Answer {
    let options = WriteOptions::read(&write.query)?;
    let (value, odd) = sent(kind, &mut write).await?;
    let (new, warnings) = complete(kind, value, odd, (&at.0, Some(&at.1)), &options)?;
    let manager = write.client.manager.clone();
    let change = move |old: &Value| {
        // Who owns fields matters from the first server-side apply on.
        if old["metadata"].get("managedFields").is_none() {
            return Ok(new);
        }
        let mut value = new.to_value();
        patch::track(old, &mut value, &manager, Timestamp::now());
        object::submitted(value).map(|(new, _)| new).map_err(|causes| {
            Resource::of(kind).invalid(new.metadata.name.as_deref().unwrap_or_default(), causes)
        })
    };
    let stored = write.api.store.update_content(key(kind, &at), options.dry_run, change).await?;
    write.answer("update", StatusCode::OK, &stored, options.dry_run, &warnings)
}

async fn patch(Extension(kind): OfKind, At(at): At<(String, String)>, mut write: Write) -> Answer {
    let options = WriteOptions::read(&write.query)?;
    let patch_type = patch_type(&write.headers, &options)?;
    let text = write.text().await?;
    let is_apply = matches!(patch_type, PatchType::Apply { .. });
    let (value, odd) = if is_apply {
        object::document(&text.bytes).map_err(ApiError::bad_request)?
    } else {
        let bad = |_| ApiError::bad_request("error decoding patch: it is no JSON");
        (serde_json::from_slice(&text.bytes).map_err(bad)?, Vec::new())
    };
    let (dry_run, key, manager) = (options.dry_run, key(kind, &at), write.client.manager.clone());
    let apply = Arc::new(move |current: &Value| {
        let patched = patch::apply(&patch_type, current, &value);
        let mut patched =
            patched.map_err(|error| ApiError { resource: Resource::of(kind), ..error.into_api(&at.1) })?;
        if !is_apply {
            patch::track(current, &mut patched, &manager, Timestamp::now());
        }
        complete(kind, patched, odd.clone(), (&at.0, Some(&at.1)), &options)
    });
    let (warn, warned) = oneshot::channel();
    let of_old = Arc::clone(&apply);
    let change = move |old: &Value| {
        let (new, warnings) = of_old(old)?;
        // Whoever asked may have gone.
        let _ = warn.send(warnings);
        Ok(new)
    };
    let (verb, code, stored, warnings) = match write.api.store.update_content(key, dry_run, change).await {
        Ok(stored) => ("patch", StatusCode::OK, stored, warned.await.unwrap_or_default()),
        // Server-side apply makes what is not there.
        Err(error) if error.code == 404 && is_apply => {
            let (new, warnings) = apply(&Value::Null)?;
            ("create", StatusCode::CREATED, write.api.store.create_content(new, dry_run).await?, warnings)
        }
        Err(error) => return Err(error.into()),
    };
    write.answer(verb, code, &stored, dry_run, &warnings)
}

async fn delete(Extension(kind): OfKind, At(at): At<(String, String)>, mut write: Write) -> Answer {
    let Deletion { preconditions, dry_run, .. } = Deletion::of(&mut write).await?;
    let stored = write.api.store.delete_content(key(kind, &at), preconditions, dry_run).await?;
    write.changed("delete", &stored, dry_run);
    let details = json!({ "name": at.1, "kind": kind.plural(), "uid": stored.described.metadata.uid });
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "details": details,
    });
    Ok(write.wanted.no_table().answer(StatusCode::OK, &status))
}

async fn delete_all(Extension(kind): OfKind, At(namespace): At<String>, mut write: Write) -> Answer {
    let selection = select(kind, Some((namespace, None)), &write.query)?;
    let Deletion { preconditions, dry_run, .. } = Deletion::of(&mut write).await?;
    let mut deleted = Vec::new();
    for stored in selection.list(&write.api).0 {
        match write.api.store.delete_content(stored.described.key(), preconditions.clone(), dry_run).await {
            Ok(stored) => {
                write.changed("delete", &stored, dry_run);
                deleted.push(stored);
            }
            // It went by itself.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    let kind = format!("{}List", kind.name());
    let list = json!({ "apiVersion": "v1", "kind": kind, "metadata": {}, "items": deleted });
    Ok(write.wanted.no_table().answer(StatusCode::OK, &list))
}
