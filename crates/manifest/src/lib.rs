//! The text of a manifest becomes a static pod, or one of several pods: decoded, named, defaulted and validated. So does
//! that of a ConfigMap or Secret for the pods of this node: [`object`].
//! Pure: text in, pods or problems out. [`submitted`] does the same for a pod that was sent, in the words of the API.
//! [`SourceState`] is what every source of pods publishes.
//!
//! Must not know where a text was read, nor what becomes of its pods.
//!
//! Rules: upstream `pkg/kubelet/config/common.go`.

mod as_go;
mod decode;
mod defaults;
mod invalid;
pub mod object;
mod state;
mod static_pod;
pub mod submitted;
mod taken;
#[cfg(test)]
mod tests;
mod typed;
mod validate;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::objects::{Key, Object};
use kube_model::view::Problem;
use kube_model::yaml::{self, Document, Position};
use kube_model::{Timestamp, labels};
use serde_json::Value;

use invalid::{Field, Invalid};
use object::Described;
pub use state::{Location, SourceState};
pub use taken::Taken;
pub use typed::typed;

/// Most problems that are told of one manifest, and most bytes of each text in them: a manifest of 10 MB of
/// nonsense must not make 10 MB of messages.
const MAX_PROBLEMS: usize = 50;
const MAX_TEXT: usize = 1000;
/// Most problems whose locations are looked up, to tell the first ones of the text: each look-up goes through the text.
const MAX_LOCATED: usize = 1000;

/// Where a manifest comes from. All of it goes into the UID of its pod, but for the node's name if it is a URL
/// (upstream `pkg/kubelet/config/common.go`).
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The file, as the source names it, or the URL without credentials.
    pub path: &'a Path,
    /// Name of this node.
    pub node_name: &'a str,
    /// What the path is.
    pub kind: OriginKind,
}

impl<'a> Origin<'a> {
    /// The manifest is the file at `path`.
    pub fn file(path: &'a Path, node_name: &'a str) -> Self {
        Self { path, node_name, kind: OriginKind::File }
    }

    /// The manifest was read from `url`, which must not have credentials: a new password would make new pods.
    pub fn url(url: &'a str, node_name: &'a str) -> Self {
        Self { path: Path::new(url), node_name, kind: OriginKind::Url }
    }
}

/// Which source a manifest belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// The file source, `file`. Its pods tolerate every taint of effect `NoExecute`.
    File,
    /// The URL source, `http`.
    Url,
}

impl OriginKind {
    /// Name of the source.
    pub fn source(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Url => "http",
        }
    }
}

/// A manifest that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The pod, ready to run. It does not depend on when it was read: see [`stamp`].
    pub pod: Pod,
    /// What is odd but does not keep the pod from running: unknown fields, keys that stand twice, further
    /// documents. All of these are ignored by the kubelet.
    pub warnings: Vec<Problem>,
    /// Where the name stands, for problems that only show beside other manifests.
    pub name_at: Option<Position>,
    /// Where the UID stands; `metadata` if it is not in the manifest.
    pub uid_at: Option<Position>,
}

/// Reads the manifest `text`, which must hold one Pod.
///
/// # Errors
/// Everything that is wrong with it, with line and column where there is one. Broken syntax and values of the
/// wrong type hide further problems; invalid values do not.
pub fn read(text: &[u8], origin: Origin<'_>) -> Result<Manifest, Vec<Problem>> {
    read_document(yaml::parse(text).map_err(|error| unreadable(&error.into(), origin))?, origin)
}

/// Reads a manifest, as [`read`], that is parsed already.
///
/// # Errors
/// As [`read`].
pub fn read_document(document: Document, origin: Origin<'_>) -> Result<Manifest, Vec<Problem>> {
    let (document, value) = decode::object(document).map_err(|error| unreadable(&error, origin))?;
    let odd = decode::odd_text(&document);
    let value = decode::one(value).map_err(|error| located(vec![error], &document, origin.path))?;
    one_pod(value, &document, odd, origin)
}

/// What is odd about the text is in `odd`.
fn one_pod(
    value: Value,
    document: &Document,
    mut odd: Vec<Invalid>,
    origin: Origin<'_>,
) -> Result<Manifest, Vec<Problem>> {
    let root = Field::default();
    let pod = decode::pod(value, &root, document, &mut odd)
        .map_err(|error| vec![error])
        .and_then(|pod| finish(pod, &root, origin))
        .map_err(|found| located(found, document, origin.path))?;
    Ok(Manifest {
        pod,
        warnings: warnings(located(odd, document, origin.path)),
        name_at: document.locate("metadata.name"),
        uid_at: document.locate("metadata.uid"),
    })
}

/// What one manifest holds.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyManifest {
    /// A pod.
    Pod(Box<Manifest>),
    /// A ConfigMap or Secret.
    Object(Box<ObjectManifest>),
}

/// A manifest of a ConfigMap or Secret.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectManifest {
    /// The object.
    pub object: Described,
    /// As [`Manifest::warnings`].
    pub warnings: Vec<Problem>,
    /// Where the name stands.
    pub name_at: Option<Position>,
}

/// Reads the manifest `text`, which must hold one Pod, ConfigMap or Secret.
///
/// # Errors
/// As [`read`]. Nothing of a Secret is told but the names of its keys.
pub fn read_any(text: &[u8], origin: Origin<'_>) -> Result<AnyManifest, Vec<Problem>> {
    read_any_document(yaml::parse(text).map_err(|error| unreadable(&error.into(), origin))?, origin)
}

/// Reads a manifest, as [`read_any`], that is parsed already.
///
/// # Errors
/// As [`read_any`].
pub fn read_any_document(document: Document, origin: Origin<'_>) -> Result<AnyManifest, Vec<Problem>> {
    let (document, value) = decode::object(document).map_err(|error| unreadable(&error, origin))?;
    let mut odd = decode::odd_text(&document);
    let value = decode::one_of_any(value).map_err(|error| located(vec![error], &document, origin.path))?;
    match object::kind(&value) {
        None => one_pod(value, &document, odd, origin).map(|manifest| AnyManifest::Pod(Box::new(manifest))),
        Some(kind) => {
            let object = object::read(value, kind, &Field::default(), &document, &mut odd);
            Ok(AnyManifest::Object(Box::new(ObjectManifest {
                object: object.map_err(|found| located(found, &document, origin.path))?,
                warnings: warnings(located(odd, &document, origin.path)),
                name_at: document.locate("metadata.name"),
            })))
        }
    }
}

/// The pods of one document, and the ConfigMaps and Secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Pods {
    /// By namespace and name. Both are unique, and so are the UIDs.
    pub pods: Vec<Placed>,
    /// Of two with one name the first.
    pub objects: BTreeMap<Key, Arc<Object>>,
    /// What is odd ([`Problem::warning`], as in [`Manifest::warnings`]), and pods that are left out because another
    /// one before them has their name or UID.
    pub problems: Vec<Problem>,
}

/// A pod of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Ready to run, see [`Manifest::pod`].
    pub pod: Pod,
    /// Where its name stands.
    pub name_at: Option<Position>,
}

impl Borrow<Pod> for Placed {
    fn borrow(&self) -> &Pod {
        &self.pod
    }
}

/// Reads the document `text`, which holds one Pod, ConfigMap or Secret, or a PodList, or a List with any number of all
/// three.
///
/// As in the kubelet one item that is wrong refuses the whole document; of two items with one name or UID the
/// first is taken (upstream `pkg/kubelet/config/http.go`). The kubelet refuses a List, which is what `kubectl get -o
/// yaml` prints.
///
/// # Errors
/// As [`read`], of all items at once.
pub fn read_all(text: &[u8], origin: Origin<'_>) -> Result<Pods, Vec<Problem>> {
    let (document, value) = decode::parse(text).map_err(|error| unreadable(&error, origin))?;
    let mut odd = decode::odd_text(&document);
    let items =
        decode::one_or_many(value, &mut odd).map_err(|error| located(vec![error], &document, origin.path))?;
    let (mut taken, mut left_out, mut refused) = (Taken::default(), Vec::new(), Vec::new());
    let mut objects = BTreeMap::new();
    for (at, item) in items {
        if let Some(kind) = item.as_ref().ok().and_then(object::kind) {
            let value = item.unwrap_or_default();
            match object::read(value, kind, &at, &document, &mut odd) {
                Ok(found) => match objects.entry(found.key()) {
                    Entry::Vacant(place) => {
                        place.insert(found.object);
                    }
                    Entry::Occupied(first) => {
                        let message =
                            format!("the {} stands before it already; that one is used", first.key());
                        left_out.push(Invalid::new("metadata.name", message).within(&at));
                    }
                },
                Err(found) => refused.extend(found),
            }
            continue;
        }
        let pod = item.and_then(|value| decode::pod(value, &at, &document, &mut odd));
        match pod.map_err(|error| vec![error]).and_then(|pod| finish(pod, &at, origin)) {
            Ok(pod) => {
                let name_at = document.locate(at.child("metadata").child("name").as_str());
                let taken = taken.take(Placed { pod, name_at }, at.as_str().to_owned().into());
                left_out.extend(taken.err().map(|(field, message)| Invalid::new(field, message).within(&at)));
            }
            Err(found) => refused.extend(found),
        }
    }
    if !refused.is_empty() {
        return Err(located(refused, &document, origin.path));
    }
    let mut problems = located(left_out, &document, origin.path);
    problems.extend(warnings(located(odd, &document, origin.path)));
    Ok(Pods { pods: taken.into_pods(), objects, problems })
}

fn unreadable(error: &decode::Error, origin: Origin<'_>) -> Vec<Problem> {
    vec![problem(origin.path, error.position(), None, error.to_string())]
}

/// Makes the decoded pod at `at` a valid static pod.
fn finish(mut pod: Pod, at: &Field, origin: Origin<'_>) -> Result<Pod, Vec<Invalid>> {
    let valid = |found: Vec<Invalid>| {
        if found.is_empty() {
            Ok(())
        } else {
            Err(found.into_iter().map(|i| i.within(at)).collect::<Vec<_>>())
        }
    };
    valid(static_pod::check(&pod))?;
    // Before the defaults: a default that a later version adds must not give every pod a new UID.
    let uid = static_pod::uid(&pod, origin);
    defaults::apply(&mut pod);
    static_pod::apply(&mut pod, uid, origin);
    valid(validate::validate(&pod))?;
    Ok(pod)
}

fn warnings(problems: Vec<Problem>) -> Vec<Problem> {
    problems.into_iter().map(|problem| Problem { warning: true, ..problem }).collect()
}

/// Puts down when the agent first saw the pod. Rule: upstream `pkg/kubelet/config/config.go`.
pub fn stamp(pod: &mut Pod, seen: Timestamp) {
    mark_seen(pod, format!("{seen:.9}"));
}

/// The same with the text of the annotation, taken from an earlier version of the pod.
pub fn mark_seen(pod: &mut Pod, seen: String) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_SEEN.to_owned(), seen);
}

/// Whether two pods are the same but for when they were seen.
pub fn same(a: &Pod, b: &Pod) -> bool {
    let annotations = |pod: &Pod| {
        let all = pod.metadata.annotations.iter().flatten();
        all.filter(|(key, _)| *key != labels::CONFIG_SEEN)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<Vec<_>>()
    };
    if a.spec != b.spec || a.metadata.uid != b.metadata.uid || annotations(a) != annotations(b) {
        return false;
    }
    let rest = |pod: &Pod| {
        let mut metadata = pod.metadata.clone();
        metadata.annotations = None;
        metadata
    };
    rest(a) == rest(b)
}

fn located(found: Vec<Invalid>, document: &Document, path: &Path) -> Vec<Problem> {
    let all = found.len();
    let mut problems: Vec<_> = found
        .into_iter()
        .take(MAX_LOCATED)
        .map(|Invalid { field, at, message }| {
            let at = at.or_else(|| document.locate(&field));
            problem(path, at, Some(field).filter(|field| !field.is_empty()), message)
        })
        .collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    let more = all.saturating_sub(MAX_PROBLEMS);
    if more > 0 {
        problems.truncate(MAX_PROBLEMS);
        problems.push(problem(path, None, None, format!("and {more} further problems")));
    }
    problems
}

fn problem(path: &Path, at: Option<Position>, field: Option<String>, message: String) -> Problem {
    Problem {
        path: path.to_owned(),
        line: at.map(|at| at.line),
        column: at.map(|at| at.column),
        field: field.map(shortened),
        message: shortened(message),
        warning: false,
    }
}

/// Values of the manifest are quoted in what is said about them.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
