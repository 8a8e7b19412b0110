//! The commands `node-agent pods`, `node-agent explain` and `node-agent sources`: read the local view, write what it
//! says. They block, on a small runtime of their own.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use kube_model::Timestamp;
use kube_model::core::Pod;
use kube_model::view::{PodView, SourcesSnapshot, ViewSnapshot};
use serde_json::{Value, json};

use crate::client::{Client, ClientError};
use crate::table::{Row, Table};
use crate::{explain, select, sources, text};

/// In which form something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For people with wide screens.
    Wide,
    /// Kubernetes objects as JSON.
    Json,
    /// Kubernetes objects as YAML.
    Yaml,
}

/// What `node-agent pods` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PodsRequest<'a> {
    /// The agent's root folder.
    pub root_dir: &'a Path,
    /// Which pods; empty: all.
    pub names: &'a [String],
    /// In which form.
    pub form: Form,
    /// Whether to go on and show changes.
    pub watch: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The local view cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No pod has that name.
    #[error("no pod {name:?} here{}", did_you_mean(.close))]
    NotFound {
        /// The name.
        name: String,
        /// Names that look like it.
        close: Vec<String>,
    },
    /// Several pods fit.
    #[error("{name:?} may be any of {}: give one of these names", .pods.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The pods, as `namespace/name`.
        pods: Vec<String>,
    },
    /// The agent ended while its pods were watched.
    #[error("the agent at {} stopped", .0)]
    Stopped(String),
    /// The output cannot be written.
    #[error("writing the output")]
    Write(#[source] io::Error),
    /// The system gives no event queue.
    #[error("starting a client")]
    Start(#[source] io::Error),
}

impl From<io::Error> for ShowError {
    fn from(source: io::Error) -> Self {
        Self::Write(source)
    }
}

fn did_you_mean(close: &[String]) -> String {
    if close.is_empty() { String::new() } else { format!("; did you mean {}?", close.join(" or ")) }
}

/// Writes pods to `out`, and what is wrong with manifests and the runtime to `err`. A reader of `out` that went
/// away (`| head`) is no error.
///
/// # Errors
/// When no agent answers, a named pod does not exist (the others are shown), or the output fails.
pub fn pods(request: PodsRequest<'_>, out: &mut impl Write, err: &mut impl Write) -> Result<(), ShowError> {
    forgive_closed_pipe(block_on(async {
        let client = Client::new(request.root_dir);
        if request.watch {
            watch(&client, request, out).await
        } else {
            once(&client, request, out, err).await
        }
    }))
}

/// Writes all about the pod `name` to `out`; as JSON or YAML the entry of the local view.
///
/// # Errors
/// When no agent answers, `name` means no pod or several, or the output fails.
pub fn explain(root_dir: &Path, name: &str, form: Form, out: &mut impl Write) -> Result<(), ShowError> {
    let snapshot = block_on(async { Ok(Client::new(root_dir).snapshot().await?) })?;
    forgive_closed_pipe(explain_in(&snapshot, name, form, out, crate::wall()))
}

/// Writes to `out` where the agent takes its pods from, and what is wrong there; as JSON or YAML as the local view
/// has it.
///
/// # Errors
/// When no agent answers, or the output fails.
pub fn sources(root_dir: &Path, form: Form, out: &mut impl Write) -> Result<(), ShowError> {
    let snapshot = block_on(async { Ok(Client::new(root_dir).sources().await?) })?;
    forgive_closed_pipe(sources_in(&snapshot, form, out, crate::wall()))
}

fn block_on<T>(work: impl Future<Output = Result<T, ShowError>>) -> Result<T, ShowError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ShowError::Start)?;
    runtime.block_on(work)
}

fn forgive_closed_pipe(result: Result<(), ShowError>) -> Result<(), ShowError> {
    match result {
        Err(ShowError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

async fn once(
    client: &Client,
    request: PodsRequest<'_>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), ShowError> {
    let snapshot = client.snapshot().await?;
    let (pods, missing) = chosen(&snapshot, request.names);
    match request.form {
        Form::Json | Form::Yaml => match (request.names, pods.as_slice()) {
            ([_], [pod]) => write_value(out, request.form, &object(pod)?)?,
            _ => write_value(out, request.form, &list(&pods)?)?,
        },
        Form::Text | Form::Wide => {
            let now = crate::wall();
            let mut table = Table::new(request.form == Form::Wide);
            let rows: Vec<Row> = pods.iter().map(|pod| table.row(pod, now)).collect();
            out.write_all(table.render(&rows).as_bytes())?;
            out.flush()?;
            report(err, &snapshot, pods.is_empty() && missing.is_none())?;
        }
    }
    missing.map_or(Ok(()), Err)
}

/// What an operator must know besides the pods.
fn report(err: &mut impl Write, snapshot: &ViewSnapshot, none: bool) -> io::Result<()> {
    if none {
        writeln!(err, "No pods on {}.", snapshot.node)?;
    }
    let runtime = &snapshot.runtime;
    if !runtime.ready {
        writeln!(
            err,
            "The runtime at {} is not ready: {}",
            runtime.endpoint,
            text::one_line(&runtime.message)
        )?;
    }
    for problem in &snapshot.problems {
        writeln!(err, "{}", text::lines(&problem.to_string(), "  "))?;
    }
    Ok(())
}

/// The pods that `names` mean, in the snapshot's order, and the error about the first name that means none.
fn chosen<'a>(snapshot: &'a ViewSnapshot, names: &[String]) -> (Vec<&'a Arc<PodView>>, Option<ShowError>) {
    if names.is_empty() {
        return (snapshot.pods.iter().collect(), None);
    }
    let found: Vec<_> = names.iter().map(|name| select::matching(snapshot, name)).collect();
    let missing =
        names.iter().zip(&found).find(|(_, pods)| pods.is_empty()).map(|(name, _)| not_found(snapshot, name));
    let is_chosen = |pod: &&Arc<PodView>| found.iter().flatten().any(|chosen| Arc::ptr_eq(chosen, pod));
    (snapshot.pods.iter().filter(is_chosen).collect(), missing)
}

/// `pods` are those that `name` may mean.
pub(crate) fn ambiguous(name: &str, pods: &[&Arc<PodView>]) -> ShowError {
    let pods = pods.iter().map(|pod| format!("{}/{}", select::namespace(pod), select::name(pod))).collect();
    ShowError::Ambiguous { name: name.to_owned(), pods }
}

pub(crate) fn not_found(snapshot: &ViewSnapshot, name: &str) -> ShowError {
    ShowError::NotFound { name: name.to_owned(), close: select::close(snapshot, name) }
}

/// Shows all pods, then those that change, as they change.
async fn watch(client: &Client, request: PodsRequest<'_>, out: &mut impl Write) -> Result<(), ShowError> {
    let mut watch = client.watch().await?;
    let mut table = Table::new(request.form == Form::Wide);
    let mut shown = BTreeMap::new();
    while let Some(snapshot) = watch.next().await? {
        let (pods, _missing) = chosen(&snapshot, request.names);
        let now = crate::wall();
        let changes = changes(&mut shown, &pods);
        match request.form {
            Form::Text | Form::Wide => {
                let rows: Vec<Row> =
                    changes.iter().filter_map(|change| change_row(&table, change, now)).collect();
                out.write_all(table.render(&rows).as_bytes())?;
            }
            form => {
                for pod in changes.iter().filter_map(|change| change.new.as_ref()) {
                    if form == Form::Yaml {
                        writeln!(out, "---")?;
                    }
                    write_value(out, form, &object(pod)?)?;
                }
            }
        }
        out.flush()?;
    }
    Err(ShowError::Stopped(request.root_dir.display().to_string()))
}

/// A pod that is not as it was shown last.
struct Change {
    old: Option<Arc<PodView>>,
    new: Option<Arc<PodView>>,
}

type Shown = BTreeMap<(String, String, Option<String>), Arc<PodView>>;

/// What differs between what was `shown` and `pods`; afterwards `shown` is `pods`.
fn changes(shown: &mut Shown, pods: &[&Arc<PodView>]) -> Vec<Change> {
    let current: Shown = pods
        .iter()
        .map(|&pod| {
            let key = (
                select::namespace(pod).to_owned(),
                select::name(pod).to_owned(),
                pod.pod.metadata.uid.clone(),
            );
            (key, Arc::clone(pod))
        })
        .collect();
    let mut changes = Vec::new();
    for (key, new) in &current {
        let old = shown.remove(key);
        if old.as_ref() != Some(new) {
            changes.push(Change { old, new: Some(Arc::clone(new)) });
        }
    }
    let gone = std::mem::replace(shown, current);
    changes.extend(gone.into_values().map(|old| Change { old: Some(old), new: None }));
    changes
}

/// The row of a change, unless nothing of it is in the table. A pod that is gone is shown once more.
fn change_row(table: &Table, change: &Change, now: Timestamp) -> Option<Row> {
    let old = change.old.as_ref().map(|pod| table.row(pod, now));
    match &change.new {
        Some(pod) => Some(table.row(pod, now)).filter(|row| old.as_ref() != Some(row)),
        None => old.map(|mut row| {
            row[2..=3].clone_from_slice(&["0/0".to_owned(), "Removed".to_owned()]);
            row
        }),
    }
}

fn explain_in(
    snapshot: &ViewSnapshot,
    name: &str,
    form: Form,
    out: &mut impl Write,
    now: Timestamp,
) -> Result<(), ShowError> {
    match select::matching(snapshot, name).as_slice() {
        [pod] => match form {
            Form::Text | Form::Wide => out.write_all(explain::explain(snapshot, pod, now).as_bytes())?,
            Form::Json | Form::Yaml => {
                write_value(out, form, &serde_json::to_value(pod).map_err(io::Error::other)?)?;
            }
        },
        [] => {
            let problems = explain::problems_of_file(snapshot, name);
            if problems.is_empty() {
                return Err(not_found(snapshot, name));
            }
            match form {
                Form::Text | Form::Wide => {
                    writeln!(out, "No pod came of this manifest:")?;
                    for problem in problems {
                        writeln!(out, "  {}", text::lines(&problem.to_string(), "    "))?;
                    }
                }
                Form::Json | Form::Yaml => write_value(out, form, &json!({ "problems": problems }))?,
            }
        }
        several => return Err(ambiguous(name, several)),
    }
    out.flush()?;
    Ok(())
}

fn sources_in(
    snapshot: &SourcesSnapshot,
    form: Form,
    out: &mut impl Write,
    now: Timestamp,
) -> Result<(), ShowError> {
    match form {
        Form::Text | Form::Wide => {
            out.write_all(sources::sources(snapshot, form == Form::Wide, now).as_bytes())?;
        }
        Form::Json | Form::Yaml => {
            write_value(out, form, &serde_json::to_value(snapshot).map_err(io::Error::other)?)?;
        }
    }
    Ok(out.flush()?)
}

/// The pod with its status, as an API server would have it.
fn object(view: &PodView) -> io::Result<Value> {
    let pod = Pod { status: Some(view.status.as_ref().clone()), ..view.pod.as_ref().clone() };
    serde_json::to_value(pod).map_err(io::Error::other)
}

fn list(pods: &[&Arc<PodView>]) -> io::Result<Value> {
    let items: Vec<Value> = pods.iter().map(|pod| object(pod)).collect::<io::Result<_>>()?;
    Ok(json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items }))
}

fn write_value(out: &mut impl Write, form: Form, value: &Value) -> io::Result<()> {
    if form == Form::Yaml {
        return write!(out, "{}", serde_yaml::to_string(value).map_err(io::Error::other)?);
    }
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
