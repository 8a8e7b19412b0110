//! Files checked without running anything: which kind of document a file holds, and everything that is wrong with
//! it, by line and field.
//!
//! Owns the decision what a file is, the checks of configurations, and how results are shown. Must not know where
//! texts come from, nor the rules for pods, which the caller brings as [`Pods`].

use std::io;
use std::path::{Path, PathBuf};

use kube_model::view::Problem;
use kube_model::yaml::{self, Document, Position};
use serde::Serialize;
use serde_json::Value;

use super::{Facts, Finding, Report};
use crate::config::{API_VERSION, KIND};
use crate::error::{LoadError, WrongType};
use crate::load::{CommandLine, Effective, Files};
use crate::origin::Origin;
use crate::parse;
use crate::settings::Settings;
use crate::table::AGENT;
use crate::warning::Warning;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// A configuration.
    KubeletConfiguration,
    /// A static pod.
    Pod,
    /// For static pods.
    ConfigMap,
    /// For static pods.
    Secret,
    /// Nothing that this agent takes, or nothing that can be read.
    Unknown,
}

/// What was found in one file. It can be used when there are no problems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub kind: Kind,
    /// What keeps it from being used, from top to bottom.
    pub problems: Vec<Problem>,
    /// What is odd but accepted, from top to bottom.
    pub warnings: Vec<Problem>,
}

/// Who knows the rules for manifests of pods, and of ConfigMaps and Secrets for them.
pub trait Pods {
    /// Checks the manifest that the file `path` holds: its problems, and its warnings.
    fn check(&self, path: &Path, manifest: Document) -> (Vec<Problem>, Vec<Problem>);
}

impl<F: Fn(&Path, Document) -> (Vec<Problem>, Vec<Problem>)> Pods for F {
    fn check(&self, path: &Path, manifest: Document) -> (Vec<Problem>, Vec<Problem>) {
        self(path, manifest)
    }
}

/// Checks `text`, the content of the file `path`, as the agent would on a machine with these `facts`.
pub fn check(path: &Path, text: &[u8], facts: &Facts, pods: &impl Pods) -> Checked {
    let (kind, (mut problems, mut warnings)) = match yaml::parse(text) {
        Err(error) => {
            let problem = problem(path, error.position(), None, error.to_string());
            (Kind::Unknown, (vec![problem], Vec::new()))
        }
        Ok(document) => match document.value.get("kind").and_then(Value::as_str) {
            Some(KIND) => (Kind::KubeletConfiguration, configuration(path, text, facts)),
            Some("Pod") => (Kind::Pod, pods.check(path, document)),
            Some("ConfigMap") => (Kind::ConfigMap, pods.check(path, document)),
            Some("Secret") => (Kind::Secret, pods.check(path, document)),
            _ => (Kind::Unknown, (vec![neither(path, &document)], Vec::new())),
        },
    };
    for list in [&mut problems, &mut warnings] {
        list.sort_by_key(|problem| (problem.line, problem.column));
    }
    for warning in &mut warnings {
        warning.warning = true;
    }
    Checked { path: path.to_owned(), kind, problems, warnings }
}

fn neither(path: &Path, document: &Document) -> Problem {
    let expected = format!("expected a {KIND} ({API_VERSION}) or a Pod, ConfigMap or Secret (v1)");
    let (field, message) = match &document.value {
        Value::Null => (None, format!("the file is empty: {expected}")),
        Value::Object(fields) => match fields.get("kind") {
            None | Some(Value::Null) => (Some("kind"), format!("is missing: {expected}")),
            Some(kind) => (Some("kind"), format!("{kind} is not used by this agent: {expected}")),
        },
        _ => (None, expected),
    };
    let at = field.and_then(|field| document.locate(field));
    problem(path, at, field.map(str::to_owned), message)
}

/// A configuration as `--config` would take it: loaded and validated.
fn configuration(path: &Path, text: &[u8], facts: &Facts) -> (Vec<Problem>, Vec<Problem>) {
    let at = |origin: &Origin| match origin {
        Origin::File(place) | Origin::DropIn(place) => place.position,
        Origin::Default | Origin::Flag(_) => None,
    };
    let effective = match load(path, text) {
        Ok(effective) => effective,
        Err(error) => {
            let problems = match error {
                LoadError::Types(wrong) => wrong
                    .into_iter()
                    .map(|WrongType { field, reason, origin }| {
                        problem(path, at(&origin), Some(field), reason)
                    })
                    .collect(),
                LoadError::Kind { origin, expected, got } => {
                    vec![problem(path, at(&origin), None, format!("expected {expected}, got {got}"))]
                }
                other => vec![problem(path, None, None, other.to_string())],
            };
            return (problems, Vec::new());
        }
    };
    let warnings = effective.warnings.clone().into_iter().flat_map(by_field);
    let mut warnings: Vec<_> =
        warnings.map(|(field, origin, message)| problem(path, at(&origin), Some(field), message)).collect();
    let Report { errors, warnings: odd } = Settings::judge(&effective, facts).1;
    let place = |found: Finding<Origin>| {
        let message = format!("{} {}", found.value, found.rule);
        problem(path, at(&found.origin), Some(found.field), message)
    };
    warnings.extend(odd.into_iter().map(place));
    (errors.into_iter().map(place).collect(), warnings)
}

/// A warning for each field that it is about: where it came from, and what is to be said.
fn by_field(warning: Warning) -> Vec<(String, Origin, String)> {
    let each = |fields: Vec<(String, Origin)>, message: &str| {
        fields.into_iter().map(|(field, origin)| (field, origin, message.to_owned())).collect()
    };
    match warning {
        Warning::UnknownField { field, origin } => each(vec![(field, origin)], "unknown field, ignored"),
        Warning::Duplicate { field, origin } => {
            each(vec![(field, origin)], "set twice in the same place; the last one is used")
        }
        Warning::SecondDocument { origin } => {
            let message = "only the first document of a file is read; this one is ignored";
            each(vec![(String::new(), origin)], message)
        }
        Warning::ZeroIsUnset(fields) => each(fields, "is the same as not set here: the default counts"),
        Warning::WithoutEffect(fields) => each(fields, "accepted, but without effect in this agent"),
        Warning::Partly { name, missing, origin } => {
            vec![(name, origin, format!("done only in part: {missing}"))]
        }
        other => vec![(String::new(), Origin::Default, other.to_string())],
    }
}

fn load(path: &Path, text: &[u8]) -> Result<Effective, LoadError> {
    // The name on the command line is not used: there is one file only.
    let line = parse::parse(AGENT, ["--config=configuration".to_owned()])?;
    CommandLine(line).load(&OneFile { path, text })
}

struct OneFile<'a> {
    path: &'a Path,
    text: &'a [u8],
}

impl Files for OneFile<'_> {
    fn absolute(&self, _: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/").join(self.path))
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.text.to_owned())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

fn problem(path: &Path, at: Option<Position>, field: Option<String>, message: String) -> Problem {
    Problem {
        path: path.to_owned(),
        line: at.map(|at| at.line),
        column: at.map(|at| at.column),
        field: field.filter(|field| !field.is_empty()),
        message,
        warning: false,
    }
}

/// For people: a line for each problem and warning, and one for each file that is fine.
pub fn text(all: &[Checked]) -> String {
    let mut lines = Vec::new();
    for Checked { path, kind, problems, warnings } in all {
        lines.extend(problems.iter().map(|problem| format!("{problem}\n")));
        lines.extend(warnings.iter().map(|warning| format!("{warning}\n")));
        if problems.is_empty() {
            lines.push(format!("{}: {kind:?} ok\n", path.display()));
        }
    }
    lines.concat()
}

/// For programs: a list of all files with their problems and warnings.
pub fn json(all: &[Checked]) -> String {
    // Paths that are not UTF-8 are the only values that cannot be JSON.
    let readable = |problem: &Problem| Problem { path: lossy(&problem.path), ..problem.clone() };
    let all: Vec<_> = all
        .iter()
        .map(|checked| Checked {
            path: lossy(&checked.path),
            kind: checked.kind,
            problems: checked.problems.iter().map(readable).collect(),
            warnings: checked.warnings.iter().map(readable).collect(),
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&all).unwrap_or_default();
    text.push('\n');
    text
}

fn lossy(path: &Path) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

#[cfg(test)]
mod tests;
