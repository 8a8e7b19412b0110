//! Watches: the changes of objects, a line each, until somebody has enough.
//! Rule: upstream `k8s.io/apiserver/pkg/endpoints/handlers/watch.go`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures::Stream;
use kube_model::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::negotiate::{self, Form, Wanted};
use super::query::ListOptions;
use super::table::{self, Column, Include, Row};
use super::{Answer, Api};
use crate::error::ApiError;
use crate::store::{Change, Event, Versioned, Watch};

/// How long a watch lasts unless the client says otherwise, and at most.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How often a client that wants it is told up to where it has seen everything.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// What a list or watch is about.
pub(super) trait Selects: Send + 'static {
    /// One object.
    type Item: Row + Versioned + Send + 'static;
    /// Whether it is among them.
    fn matches(&self, item: &Self::Item) -> bool;
    /// The options of the request.
    fn options(&self) -> &ListOptions;
    /// The columns of a table.
    fn columns(&self) -> &'static [Column];
    /// Those that are there, and the resource version to watch from.
    fn list(&self, api: &Api) -> (Vec<Self::Item>, u64);
    /// The changes from there.
    fn watch(&self, api: &Api, since: u64) -> Result<Watch<Self::Item>, ApiError>;
    /// An object of nothing but its metadata.
    fn bookmark(&self, metadata: Value) -> Value;
}

/// Begins a watch of what is selected.
pub(super) fn answer<S: Selects>(api: &Arc<Api>, selection: S, wanted: Wanted, include: Include) -> Answer {
    if wanted.form == Form::Yaml {
        let message = "a watch is served as application/json only";
        return Err(ApiError::new(406, "NotAcceptable", message).into());
    }
    let permit = Arc::clone(&api.watches).try_acquire_owned();
    let many = |_| ApiError::new(429, "TooManyRequests", "too many watches at once, please try again later");
    let permit = permit.map_err(many)?;
    let view = View { selection, table: wanted.table.then_some(include), head: true };
    let watching = Watching::begin(api, view, permit);
    Ok(negotiate::with_type(StatusCode::OK, "application/json", Body::from_stream(lines(watching))))
}

/// What becomes a line.
enum Item<T> {
    /// One that was there at the beginning.
    Initial(T),
    Event(Event<T>),
    Line(Bytes),
}

/// A watch under way.
struct Watching<S: Selects> {
    view: View<S>,
    /// `None` after an error.
    watch: Option<Watch<S::Item>>,
    /// What is to be sent before anything that comes. Its lines are made when they are sent: who reads slowly holds
    /// none.
    ready: VecDeque<Item<S::Item>>,
    end: Instant,
    bookmark: Option<Instant>,
    ending: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl<S: Selects> Watching<S> {
    fn begin(api: &Api, view: View<S>, permit: OwnedSemaphorePermit) -> Self {
        let options = view.selection.options();
        let (bookmarks, initial) = (options.bookmarks, options.send_initial_events);
        let end = Instant::now() + options.timeout.unwrap_or(TIMEOUT).min(LONGEST);
        let mut ready = VecDeque::new();
        let since = match options.resource_version {
            Some(version) if !initial => version,
            _ => {
                let (objects, version) = view.selection.list(api);
                ready.extend(objects.into_iter().map(Item::Initial));
                if initial && bookmarks {
                    ready.push_back(Item::Line(view.bookmark(version, true)));
                }
                version
            }
        };
        let watch =
            view.selection.watch(api, since).map_err(|error| ready.push_back(Item::Line(failure(&error))));
        Self {
            view,
            watch: watch.ok(),
            ready,
            end,
            bookmark: bookmarks.then(|| Instant::now() + BOOKMARK_PERIOD),
            ending: api.ending.clone(),
            _permit: permit,
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            while let Some(item) = self.ready.pop_front() {
                let line = match &item {
                    Item::Initial(object) => Some(self.view.line("ADDED", object)),
                    Item::Event(event) => self.view.event(event),
                    Item::Line(line) => Some(line.clone()),
                };
                if line.is_some() {
                    return line;
                }
            }
            let watch = self.watch.as_mut()?;
            let bookmark = self.bookmark;
            // Nothing is lost by dropping one of these: the watch hands out what it did not hand out before.
            tokio::select! {
                events = watch.next() => match events {
                    Ok(events) => self.ready.extend(events.into_iter().map(Item::Event)),
                    Err(error) => {
                        self.ready.push_back(Item::Line(failure(&error)));
                        self.watch = None;
                    }
                },
                () = sleep_until(bookmark.unwrap_or(self.end)), if bookmark.is_some() => {
                    self.bookmark = Some(Instant::now() + BOOKMARK_PERIOD);
                    self.ready.push_back(Item::Line(self.view.bookmark(watch.resource_version(), false)));
                }
                () = sleep_until(self.end) => return None,
                () = self.ending.cancelled() => return None,
            }
        }
    }
}

fn lines<S: Selects>(watching: Watching<S>) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    futures::stream::unfold(watching, |mut watching| async move {
        let line = watching.next().await?;
        Some((Ok(line), watching))
    })
}

/// How one watch sees the objects.
struct View<S> {
    selection: S,
    table: Option<Include>,
    /// Whether the next table says what its columns are: only the first does.
    head: bool,
}

impl<S: Selects> View<S> {
    /// The line of a change, if the watch is about it: one that begins to match is new to it, and one that no longer
    /// does is gone.
    fn event(&mut self, event: &Event<S::Item>) -> Option<Bytes> {
        let now = self.selection.matches(&event.object);
        let kind = match &event.change {
            Change::Added => now.then_some("ADDED"),
            Change::Deleted => now.then_some("DELETED"),
            Change::Modified(before) => match (self.selection.matches(before), now) {
                (false, false) => None,
                (false, true) => Some("ADDED"),
                (true, true) => Some("MODIFIED"),
                (true, false) => Some("DELETED"),
            },
        };
        kind.map(|kind| self.line(kind, &event.object))
    }

    fn line(&mut self, kind: &str, object: &S::Item) -> Bytes {
        let Some(include) = self.table else { return line(kind, object) };
        let head = std::mem::take(&mut self.head);
        let version = Some(object.resource_version().to_string());
        let columns = self.selection.columns();
        let table =
            table::table(std::slice::from_ref(object), columns, version, head, include, Timestamp::now());
        match table {
            Ok(table) => line(kind, &table),
            Err(error) => failure(&ApiError::internal(error)),
        }
    }

    /// Says that everything up to `version` was sent; of the first one, that this was the present.
    fn bookmark(&self, version: u64, initial: bool) -> Bytes {
        let version = version.to_string();
        if self.table.is_some() {
            let table = json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": { "resourceVersion": version },
                "columnDefinitions": [], "rows": []
            });
            return line("BOOKMARK", &table);
        }
        let mut metadata = json!({ "resourceVersion": version });
        if initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        line("BOOKMARK", &self.selection.bookmark(metadata))
    }
}

fn failure(error: &ApiError) -> Bytes {
    line("ERROR", &error.status())
}

fn line(kind: &str, object: &impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Line<'a, T> {
        r#type: &'a str,
        object: &'a T,
    }
    // The types of the API have nothing that JSON can not say.
    let mut line = serde_json::to_vec(&Line { r#type: kind, object }).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
