//! The ConfigMaps and Secrets that were pushed, for pods of this node.
//!
//! Of a Secret nothing goes into a log, and its values only to who asks for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kube_model::Timestamp;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::objects::{Key, Kind, Object as Content};
use manifest::object::{Described, check_update};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::history::{History, Versioned};
use super::rules::{self, Preconditions};
use super::watch::{Changes, Watch};
use super::{Change, Event, Shared, Store, Writer, random_uid, refused};
use crate::error::{ApiError, Resource};

/// Most objects, and most bytes of all of them: they are held in memory.
const MAX_OBJECTS: usize = 1000;
const MAX_BYTES: usize = 32 << 20;

/// Changes that are kept for watches.
const HISTORY: usize = 128;

/// A ConfigMap or Secret at one resource version. Serialized it is the object as the API shows it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) described: Arc<Described>,
    /// 0 of what was never stored, in the answer to a dry run.
    pub(crate) resource_version: u64,
}

/// Without its content, and without annotations, in which clients keep a copy of it.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.described.key(), self.resource_version)
    }
}

impl Versioned for Stored {
    fn resource_version(&self) -> u64 {
        self.resource_version
    }
}

impl Stored {
    /// The object as the API shows it.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = self.described.to_value();
        if self.resource_version > 0 {
            value["metadata"]["resourceVersion"] = self.resource_version.to_string().into();
        }
        value
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

/// The objects and the history.
#[derive(Debug)]
pub(super) struct Memory {
    objects: BTreeMap<Key, Stored>,
    history: History<Stored>,
}

impl Memory {
    /// Starts with objects from the disk; all resource versions are above `revision`.
    pub(super) fn new(objects: Vec<Described>, revision: u64) -> Self {
        let mut memory = Self { objects: BTreeMap::new(), history: History::new(revision) };
        for described in objects {
            memory.put(described);
        }
        memory.history.forget();
        memory
    }

    pub(super) fn revision(&self) -> u64 {
        self.history.revision()
    }

    /// For pods.
    pub(super) fn contents(&self) -> BTreeMap<Key, Arc<Content>> {
        let content = |stored: &Stored| Arc::clone(&stored.described.object);
        self.objects.iter().map(|(key, stored)| (key.clone(), content(stored))).collect()
    }

    fn get(&self, key: &Key) -> Result<Stored, ApiError> {
        let found = self.objects.get(key).cloned();
        found.ok_or_else(|| Resource::of(key.kind).not_found(&key.name))
    }

    fn bytes(&self) -> usize {
        self.objects.values().map(|stored| size(&stored.described)).sum()
    }

    fn put(&mut self, described: Described) -> Stored {
        let key = described.key();
        let stored = Stored { described: Arc::new(described), resource_version: self.history.next() };
        let before = self.objects.insert(key, stored.clone());
        self.history.record(before.map_or(Change::Added, Change::Modified), stored.clone(), HISTORY);
        stored
    }

    fn remove(&mut self, key: &Key) -> Option<Stored> {
        let mut stored = self.objects.remove(key)?;
        stored.resource_version = self.history.next();
        self.history.record(Change::Deleted, stored.clone(), HISTORY);
        Some(stored)
    }
}

/// What an object has of values and annotations, in bytes.
fn size(described: &Described) -> usize {
    let object = &described.object;
    let values = object.data.values().chain(object.binary_data.values()).map(Vec::len);
    let annotations = described.metadata.annotations.iter().flatten().map(|(_, value)| value.len());
    values.chain(annotations).sum()
}

impl Changes<Stored> for Shared {
    fn since(&self, since: u64, limit: usize) -> Result<Vec<Event<Stored>>, ApiError> {
        self.contents().history.since(since, limit)
    }
}

impl Store {
    /// Stores a new object, which is validated and has name and namespace. With `dry_run` only says what would come
    /// of it, here and in the other calls.
    ///
    /// # Errors
    /// 409 the name is taken, 403 there are too many, 507 the disk is full.
    pub(crate) async fn create_content(&self, new: Described, dry_run: bool) -> Result<Stored, ApiError> {
        self.run(move |writer| writer.create_content(new, dry_run)).await
    }

    /// Changes an object. `change` gets it as the API shows it and gives the new one, validated; no other write comes
    /// between. UID and resource version that the new one has, if any, must be those of the object.
    ///
    /// # Errors
    /// Those of `change`; 404, 409 for another UID or resource version, 422 for what must not change, 507.
    pub(crate) async fn update_content<F>(
        &self,
        key: Key,
        dry_run: bool,
        change: F,
    ) -> Result<Stored, ApiError>
    where
        F: FnOnce(&Value) -> Result<Described, ApiError> + Send + 'static,
    {
        self.run(move |writer| writer.update_content(&key, dry_run, change)).await
    }

    /// Removes an object. What was made of it in running containers stays.
    ///
    /// # Errors
    /// 404, 409 when the preconditions do not hold.
    pub(crate) async fn delete_content(
        &self,
        key: Key,
        preconditions: Preconditions,
        dry_run: bool,
    ) -> Result<Stored, ApiError> {
        self.run(move |writer| writer.delete_content(&key, &preconditions, dry_run)).await
    }

    /// One object.
    ///
    /// # Errors
    /// 404
    pub(crate) fn content(&self, key: &Key) -> Result<Stored, ApiError> {
        self.shared.contents().get(key)
    }

    /// The objects of one kind by namespace and name, and the resource version to watch from.
    pub(crate) fn contents(&self, kind: Kind) -> (Vec<Stored>, u64) {
        let memory = self.shared.contents();
        let of_kind = memory.objects.iter().filter(|(key, _)| key.kind == kind);
        (of_kind.map(|(_, stored)| stored.clone()).collect(), memory.revision())
    }

    /// Follows the changes of both kinds after the resource version `since`.
    ///
    /// # Errors
    /// 410 when they are no longer known: list, and watch from there.
    pub(crate) fn watch_contents(&self, since: u64) -> Result<Watch<Stored>, ApiError> {
        let changed = self.shared.contents_changed.subscribe();
        Watch::new(Arc::clone(&self.shared) as _, changed, since)
    }
}

impl Writer {
    fn create_content(&self, mut new: Described, dry_run: bool) -> Result<Stored, ApiError> {
        let (key, resource) = (new.key(), Resource::of(new.kind));
        let meta = &mut new.metadata;
        if meta.resource_version.take().is_some_and(|version| !version.is_empty()) {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        meta.uid = Some(random_uid()?);
        meta.self_link = None;
        meta.creation_timestamp = Some(Time(rules::whole_seconds(Timestamp::now())));
        meta.generation = None;
        rules::readable_managers(meta);
        if self.shared.contents().get(&key).is_ok() {
            return Err(resource.already_exists(&key.name));
        }
        self.must_have_room(&new, None)?;
        self.store_content(new, None, dry_run)
    }

    fn update_content(
        &self,
        key: &Key,
        dry_run: bool,
        change: impl FnOnce(&Value) -> Result<Described, ApiError>,
    ) -> Result<Stored, ApiError> {
        let resource = Resource::of(key.kind);
        let current = self.shared.contents().get(key)?;
        let mut new = change(&current.to_value())?;
        let (meta, of_old) = (&mut new.metadata, &current.described.metadata);
        let wanted = Preconditions {
            uid: meta.uid.take(),
            resource_version: rules::assumed(meta.resource_version.take())?,
        };
        let version = Some(current.resource_version.to_string());
        wanted.check(resource, of_old, version.as_ref())?;
        rules::readable_managers(meta);
        meta.uid.clone_from(&of_old.uid);
        meta.self_link = None;
        meta.creation_timestamp.clone_from(&of_old.creation_timestamp);
        meta.generate_name.clone_from(&of_old.generate_name);
        meta.generation = of_old.generation;
        if new == *current.described {
            return Ok(current);
        }
        let checked = check_update(key.kind, &current.described.object, &new.object);
        checked.map_err(|causes| resource.invalid(&key.name, causes))?;
        if new.object == current.described.object {
            // Only what is said of it changed: for pods it stays the one that it is.
            new.object = Arc::clone(&current.described.object);
        }
        self.must_have_room(&new, Some(&current.described))?;
        self.store_content(new, Some(&current.described), dry_run)
    }

    fn delete_content(
        &self,
        key: &Key,
        preconditions: &Preconditions,
        dry_run: bool,
    ) -> Result<Stored, ApiError> {
        let current = self.shared.contents().get(key)?;
        let version = Some(current.resource_version.to_string());
        preconditions.check(Resource::of(key.kind), &current.described.metadata, version.as_ref())?;
        if dry_run {
            return Ok(current);
        }
        self.contents.remove(&current.described).map_err(|error| refused("remove", key, &error))?;
        let mut memory = self.shared.contents();
        let removed = memory.remove(key).unwrap_or(current);
        self.shared.publish_contents(&memory);
        Ok(removed)
    }

    fn must_have_room(&self, new: &Described, before: Option<&Described>) -> Result<(), ApiError> {
        let memory = self.shared.contents();
        let bytes = memory.bytes() - before.map_or(0, size) + size(new);
        let why = if before.is_none() && memory.objects.len() >= MAX_OBJECTS {
            format!("exceeded quota: {MAX_OBJECTS} ConfigMaps and Secrets are the most that may be pushed")
        } else if bytes > MAX_BYTES {
            format!("exceeded quota: all ConfigMaps and Secrets may have {MAX_BYTES} bytes together")
        } else {
            return Ok(());
        };
        Err(Resource::of(new.kind).forbidden(new.metadata.name.as_deref().unwrap_or_default(), why))
    }

    /// On disk first, then in memory.
    fn store_content(
        &self,
        new: Described,
        before: Option<&Described>,
        dry_run: bool,
    ) -> Result<Stored, ApiError> {
        if dry_run {
            return Ok(Stored { described: Arc::new(new), resource_version: 0 });
        }
        let key = new.key();
        self.contents.write(&new, before).map_err(|error| refused("write", &key, &error))?;
        let mut memory = self.shared.contents();
        let stored = memory.put(new);
        self.shared.publish_contents(&memory);
        Ok(stored)
    }
}
