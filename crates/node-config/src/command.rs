//! Which command a command line asks for.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Invalid, UsageError};
use crate::flag::Flag;
use crate::parse::{self, Parsed, Word};
use crate::settings::Settings;
use crate::table::{AGENT, EXPLAIN, PODS, ViewFlags};
use crate::{KUBERNETES_VERSION, help};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the agent.
    Run(Box<Settings>),
    /// Show pods.
    Pods(PodsArgs),
    /// Explain one pod.
    Explain(ExplainArgs),
    /// Write this text to stdout and exit 0: help or version.
    Print(String),
}

/// Arguments of `node-agent pods`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodsArgs {
    /// Which pods; empty: all.
    pub names: Vec<String>,
    /// In which form.
    pub output: Output,
    /// Whether to go on and show changes.
    pub watch: bool,
    /// `--root-dir` of the running agent.
    pub root_dir: PathBuf,
}

/// Arguments of `node-agent explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainArgs {
    /// The pod: a name, `namespace/name` or the start of a UID.
    pub pod: String,
    /// In which form; never [`Output::Wide`].
    pub output: Output,
    /// `--root-dir` of the running agent.
    pub root_dir: PathBuf,
}

/// Form of what a command shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A table or text for people.
    Text,
    /// A table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

const COMMANDS: &[(&str, &str)] = &[
    ("pods", "show the pods of the running agent"),
    ("explain", "say what one pod waits for and what was tried"),
    ("help", "show this help, or that of a command"),
];

/// Reads a command line; `args` do not include the program's name.
///
/// # Errors
/// The first thing that is wrong with its grammar, or all values that break a rule. Each is one line.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = utf8(args)?;
    match args.first().map(String::as_str) {
        Some("pods") => pods(args.split_off(1)),
        Some("explain") => explain(args.split_off(1)),
        Some("help") => help_of(&args[1..]),
        _ => run(args),
    }
}

fn utf8(args: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, UsageError> {
    args.into_iter()
        .enumerate()
        .map(|(index, arg)| {
            arg.into_string().map_err(|arg| UsageError::NotUtf8 {
                position: index + 1,
                shown: arg.to_string_lossy().into_owned(),
            })
        })
        .collect()
}

fn run(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(AGENT, args)?;
    if let Some(word) = parsed.words.first() {
        return Err(unknown_command(word));
    }
    if parsed.values.help {
        return Ok(Command::Print(agent_help()));
    }
    if parsed.values.version.0 {
        return Ok(Command::Print(version()));
    }
    Ok(Command::Run(Box::new(Settings::new(parsed)?)))
}

fn unknown_command(word: &Word) -> UsageError {
    let text = &word.text;
    let hint = if COMMANDS.iter().any(|(name, _)| name == text) {
        "; a command stands before all flags".to_owned()
    } else if let Some(flag) = word.after {
        format!("; was --{flag}={} meant?", text.escape_debug())
    } else {
        String::new()
    };
    UsageError::UnknownCommand { word: text.clone(), hint }
}

fn pods(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(PODS, args)?;
    if parsed.values.help {
        return Ok(Command::Print(pods_help()));
    }
    let names = words(&parsed);
    let ViewFlags { output, root_dir, watch, .. } = parsed.values;
    Ok(Command::Pods(PodsArgs {
        names,
        output: form(&output, &[("wide", Output::Wide), ("json", Output::Json), ("yaml", Output::Yaml)])?,
        watch,
        root_dir: root_dir.into(),
    }))
}

fn explain(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(EXPLAIN, args)?;
    if parsed.values.help {
        return Ok(Command::Print(explain_help()));
    }
    let mut names = words(&parsed);
    let got = names.len();
    let (Some(pod), 1) = (names.pop(), got) else {
        return Err(UsageError::WordCount { command: "explain", what: "pod", got });
    };
    let ViewFlags { output, root_dir, .. } = parsed.values;
    let output = form(&output, &[("json", Output::Json), ("yaml", Output::Yaml)])?;
    Ok(Command::Explain(ExplainArgs { pod, output, root_dir: root_dir.into() }))
}

fn words(parsed: &Parsed<ViewFlags>) -> Vec<String> {
    parsed.words.iter().map(|word| word.text.clone()).collect()
}

fn form(text: &str, forms: &[(&str, Output)]) -> Result<Output, UsageError> {
    if text.is_empty() {
        return Ok(Output::Text);
    }
    forms.iter().find(|(name, _)| *name == text).map(|&(_, form)| form).ok_or_else(|| {
        let names: Vec<_> = forms.iter().map(|(name, _)| *name).collect();
        UsageError::Invalid(vec![Invalid {
            flag: "output",
            field: None,
            value: text.to_owned(),
            rule: format!("must be one of {}", names.join(", ")),
        }])
    })
}

/// In the form that kubeadm and others read from a kubelet; what follows the plus sign is ours.
fn version() -> String {
    format!("Kubernetes v{KUBERNETES_VERSION}+node-agent.{}\n", env!("CARGO_PKG_VERSION"))
}

fn help_of(words: &[String]) -> Result<Command, UsageError> {
    let text = match words.first().map(String::as_str) {
        None | Some("help") => agent_help(),
        Some("pods") => pods_help(),
        Some("explain") => explain_help(),
        Some(word) => {
            return Err(UsageError::UnknownCommand { word: word.to_owned(), hint: String::new() });
        }
    };
    Ok(Command::Print(text))
}

fn agent_help() -> String {
    help::render(
        "The node agent takes pod manifests and keeps the containers that they describe running and healthy. It \
         does the work of the Kubernetes kubelet and takes the kubelet's flags.",
        &["node-agent [flags]", "node-agent <command> [flags]"],
        COMMANDS,
        AGENT,
    )
}

fn pods_help() -> String {
    let about = "Shows the pods of the agent that runs on this machine, as the agent sees them.";
    view_help(about, "node-agent pods [NAME...] [flags]", PODS)
}

fn explain_help() -> String {
    let about = "Says of one pod what state it is in, what it waits for and why, what was tried and what comes \
                 next. POD is a name with or without the node's name at its end, NAMESPACE/NAME, or the start of \
                 a UID.";
    view_help(about, "node-agent explain POD [flags]", EXPLAIN)
}

fn view_help(about: &str, usage: &str, table: &[Flag<ViewFlags>]) -> String {
    help::render(about, &[usage], &[], table)
}

#[cfg(test)]
mod tests;
