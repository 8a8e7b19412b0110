//! The text of a manifest becomes a static pod: decoded, named, defaulted and validated. Pure: text in, pod or
//! problems out.
//!
//! Rules: reference 3.1 and 3.4; upstream `pkg/kubelet/config/common.go`.

mod decode;
mod defaults;
mod invalid;
mod static_pod;
#[cfg(test)]
mod tests;
mod validate;

use std::path::Path;

use kube_model::core::Pod;
use kube_model::view::Problem;
use kube_model::yaml::{Document, Position};
use kube_model::{Timestamp, labels};

use invalid::Invalid;

/// Most problems that are told of one manifest, and most bytes of each text in them: a manifest of 10 MB of
/// nonsense must not make 10 MB of messages.
const MAX_PROBLEMS: usize = 50;
const MAX_TEXT: usize = 1000;

/// Where a manifest comes from. Both parts go into the UID of its pod.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The file, as the source names it.
    pub path: &'a Path,
    /// Name of this node.
    pub node_name: &'a str,
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

/// Reads the manifest `text`.
///
/// # Errors
/// Everything that is wrong with it, with line and column where there is one. Broken syntax and values of the
/// wrong type hide further problems; invalid values do not.
pub fn read(text: &[u8], origin: Origin<'_>) -> Result<Manifest, Vec<Problem>> {
    let decode::Decoded { mut pod, document, warnings } =
        decode::decode(text).map_err(|error| vec![error.into_problem(origin.path)])?;
    let problems = |found: Vec<Invalid>| located(found, &document, origin.path);
    let found = static_pod::check(&pod);
    if !found.is_empty() {
        return Err(problems(found));
    }
    // Before the defaults: a default that a later version adds must not give every pod a new UID.
    let uid = static_pod::uid(&pod, origin);
    defaults::apply(&mut pod);
    static_pod::apply(&mut pod, uid, origin);
    let found = validate::validate(&pod);
    if !found.is_empty() {
        return Err(problems(found));
    }
    Ok(Manifest {
        pod,
        warnings: problems(warnings).into_iter().map(|p| Problem { warning: true, ..p }).collect(),
        name_at: document.locate("metadata.name"),
        uid_at: document.locate("metadata.uid"),
    })
}

/// Puts down when the agent first saw the pod. Rule: reference 3.5.
pub fn stamp(pod: &mut Pod, seen: Timestamp) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_SEEN.to_owned(), format!("{seen:.9}"));
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
    let mut problems: Vec<_> = found
        .into_iter()
        .map(|Invalid { field, at, message }| {
            let at = at.or_else(|| document.locate(&field));
            problem(path, at, Some(field).filter(|field| !field.is_empty()), message)
        })
        .collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
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
