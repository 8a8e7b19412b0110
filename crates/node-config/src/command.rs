//! Which command a command line asks for.

mod pod;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::KUBERNETES_VERSION;
use crate::completion::{self, Shell};
use crate::error::UsageError;
use crate::help::Help;
use crate::load::CommandLine;
use crate::parse::{self, Parsed, Word};
use crate::table::{
    AGENT, COMPLETION as COMPLETION_FLAGS, EXEC, EXPLAIN, LOGS, PODS, PORT_FORWARD, SOURCES, VALIDATE,
    ViewFlags,
};
use crate::value::Version;

pub use pod::{ExecArgs, Forward, LocalPort, LogsArgs, PodArgs, PortForwardArgs, RemotePort, Since};

/// What to do.
#[derive(Clone)]
pub enum Command {
    /// Run the agent.
    Run(Box<CommandLine>),
    /// Show the configuration that the agent would run with, and where it came from.
    Config(Box<CommandLine>),
    /// Check files without running anything.
    Validate(ValidateArgs),
    /// Ask the agent that runs.
    Ask(Ask),
    /// Write this text to stdout and exit 0: help or version.
    Print(String),
}

/// What to ask an agent that runs, over its local socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Show pods.
    Pods(PodsArgs),
    /// Explain one pod.
    Explain(ExplainArgs),
    /// Show where pods come from.
    Sources(SourcesArgs),
    /// Show the log of a container.
    Logs(LogsArgs),
    /// Run a command in a container.
    Exec(ExecArgs),
    /// Forward ports to a pod.
    PortForward(PortForwardArgs),
}

/// Arguments of `node-agent validate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidateArgs {
    /// Files, folders, or `-` for standard input; at least one.
    pub paths: Vec<PathBuf>,
    /// [`Output::Text`] or [`Output::Json`].
    pub output: Output,
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

/// Arguments of `node-agent sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcesArgs {
    /// In which form.
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

/// The forms of a table.
const VIEW_FORMS: &[(&str, Output)] =
    &[("wide", Output::Wide), ("json", Output::Json), ("yaml", Output::Yaml)];

pub(crate) const COMMANDS: &[(&str, &str)] = &[
    ("pods", "show the pods of the running agent"),
    ("explain", "say what one pod waits for and what was tried"),
    ("logs", "show the log of a container"),
    ("exec", "run a command in a container"),
    ("port-forward", "forward ports of this machine to a pod"),
    ("sources", "show where pods come from, and what is wrong there"),
    ("config", "show the configuration that counts, and where each value came from"),
    ("validate", "check configuration files and pod manifests without running anything"),
    ("completion", "write a completion script for bash, zsh or fish"),
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
        Some("logs") => pod::logs(args.split_off(1)),
        Some("exec") => pod::exec(args.split_off(1)),
        Some("port-forward") => pod::port_forward(args.split_off(1)),
        Some("sources") => sources(args.split_off(1)),
        Some("config") => agent(args.split_off(1), CONFIG, Command::Config),
        Some("validate") => validate(args.split_off(1)),
        Some("completion") => completion(args.split_off(1)),
        Some("help") => help_of(&args[1..]),
        _ => agent(args, AGENT_HELP, Command::Run),
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

/// A command that takes the agent's flags.
fn agent(
    args: Vec<String>,
    help: Help,
    command: fn(Box<CommandLine>) -> Command,
) -> Result<Command, UsageError> {
    let parsed = parse::parse(AGENT, args)?;
    if let Some(word) = parsed.words.first() {
        return Err(unknown_command(word));
    }
    if parsed.values.flags.help {
        return Ok(Command::Print(help.render(AGENT)));
    }
    match parsed.values.flags.version {
        Version::Short => Ok(Command::Print(version())),
        Version::Raw => Ok(Command::Print(raw_version())),
        Version::Silent | Version::Reported(_) => Ok(command(Box::new(CommandLine(parsed)))),
    }
}

fn validate(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(VALIDATE, args)?;
    if parsed.values.help {
        return Ok(Command::Print(VALIDATE_HELP.render(VALIDATE)));
    }
    let paths: Vec<PathBuf> = parsed.words.iter().map(|word| PathBuf::from(&word.text)).collect();
    if paths.is_empty() {
        return Err(UsageError::NoPath);
    }
    let output = form(&parsed.values.output, &[("json", Output::Json)])?;
    Ok(Command::Validate(ValidateArgs { paths, output }))
}

fn completion(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(COMPLETION_FLAGS, args)?;
    if parsed.values {
        return Ok(Command::Print(COMPLETION.render(COMPLETION_FLAGS)));
    }
    let [word] = &parsed.words[..] else {
        return Err(UsageError::WordCount { command: "completion", what: "shell", got: parsed.words.len() });
    };
    let shell = Shell::named(&word.text).ok_or_else(|| UsageError::UnknownCommand {
        word: word.text.clone(),
        hint: "; a shell is bash, zsh or fish".to_owned(),
    })?;
    Ok(Command::Print(completion::script(shell, COMMANDS)))
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
        return Ok(Command::Print(PODS_HELP.render(PODS)));
    }
    let names = words(&parsed);
    let ViewFlags { output, root_dir, watch, .. } = parsed.values;
    let output = form(&output, VIEW_FORMS)?;
    Ok(Command::Ask(Ask::Pods(PodsArgs { names, output, watch, root_dir: root_dir.into() })))
}

fn explain(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(EXPLAIN, args)?;
    if parsed.values.help {
        return Ok(Command::Print(EXPLAIN_HELP.render(EXPLAIN)));
    }
    let mut names = words(&parsed);
    let got = names.len();
    let (Some(pod), 1) = (names.pop(), got) else {
        return Err(UsageError::WordCount { command: "explain", what: "pod", got });
    };
    let ViewFlags { output, root_dir, .. } = parsed.values;
    let output = form(&output, &[("json", Output::Json), ("yaml", Output::Yaml)])?;
    Ok(Command::Ask(Ask::Explain(ExplainArgs { pod, output, root_dir: root_dir.into() })))
}

fn sources(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(SOURCES, args)?;
    if parsed.values.help {
        return Ok(Command::Print(SOURCES_HELP.render(SOURCES)));
    }
    if let Some(word) = parsed.words.first() {
        return Err(UsageError::UnknownCommand { word: word.text.clone(), hint: String::new() });
    }
    let ViewFlags { output, root_dir, .. } = parsed.values;
    let output = form(&output, VIEW_FORMS)?;
    Ok(Command::Ask(Ask::Sources(SourcesArgs { output, root_dir: root_dir.into() })))
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
        UsageError::Value {
            flag: "output",
            value: text.to_owned(),
            rule: format!("must be one of {}", names.join(", ")),
        }
    })
}

/// In the form that kubeadm and others read from a kubelet; what follows the plus sign is ours.
fn version() -> String {
    format!("Kubernetes v{KUBERNETES_VERSION}+node-agent.{}\n", env!("CARGO_PKG_VERSION"))
}

/// All that is known of the version, as Go prints its struct. Scripts look for the numbers in it.
fn raw_version() -> String {
    let (major, rest) = KUBERNETES_VERSION.split_once('.').unwrap_or_default();
    let minor = rest.split('.').next().unwrap_or_default();
    let git = format!("v{KUBERNETES_VERSION}+node-agent.{}", env!("CARGO_PKG_VERSION"));
    format!(
        "version.Info{{Major:\"{major}\", Minor:\"{minor}\", GitVersion:\"{git}\", GitCommit:\"\", \
         GitTreeState:\"\", BuildDate:\"\", GoVersion:\"\", Compiler:\"rustc\", Platform:\"{}/{}\"}}\n",
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

fn help_of(words: &[String]) -> Result<Command, UsageError> {
    let text = match words.first().map(String::as_str) {
        None | Some("help") => AGENT_HELP.render(AGENT),
        Some("pods") => PODS_HELP.render(PODS),
        Some("explain") => EXPLAIN_HELP.render(EXPLAIN),
        Some("logs") => pod::LOGS_HELP.render(LOGS),
        Some("exec") => pod::EXEC_HELP.render(EXEC),
        Some("port-forward") => pod::PORT_FORWARD_HELP.render(PORT_FORWARD),
        Some("sources") => SOURCES_HELP.render(SOURCES),
        Some("config") => CONFIG.render(AGENT),
        Some("validate") => VALIDATE_HELP.render(VALIDATE),
        Some("completion") => COMPLETION.render(COMPLETION_FLAGS),
        Some(word) => {
            return Err(UsageError::UnknownCommand { word: word.to_owned(), hint: String::new() });
        }
    };
    Ok(Command::Print(text))
}

const AGENT_HELP: Help = Help {
    about: "The node agent takes pod manifests and keeps the containers that they describe running and healthy. It \
            does the work of the Kubernetes kubelet and takes the kubelet's flags.",
    usage: &["node-agent [flags]", "node-agent <command> [flags]"],
    commands: COMMANDS,
};

const CONFIG: Help = Help {
    about: "Shows the configuration that the agent would run with, given these flags, as YAML. Behind each value \
            that is not a default stands where it came from.",
    usage: &["node-agent config [flags]"],
    commands: &[],
};

const VALIDATE_HELP: Help = Help {
    about: "Checks KubeletConfiguration files and pod manifests as the agent would take them: all problems, with file, \
            line, column and field. PATH is a file, a folder whose files are checked, or - for standard input. Ends \
            with 1 if there are any problems.",
    usage: &["node-agent validate PATH... [flags]"],
    commands: &[],
};

const COMPLETION: Help = Help {
    about: "Writes a script that completes commands and flags: source <(node-agent completion bash)",
    usage: &["node-agent completion bash|zsh|fish"],
    commands: &[],
};

const PODS_HELP: Help = Help {
    about: "Shows the pods of the agent that runs on this machine, as the agent sees them.",
    usage: &["node-agent pods [NAME...] [flags]"],
    commands: &[],
};

const EXPLAIN_HELP: Help = Help {
    about: "Says of one pod what state it is in, what it waits for and why, what was tried and what comes next. POD \
            is a name with or without the node's name at its end, NAMESPACE/NAME, or the start of a UID.",
    usage: &["node-agent explain POD [flags]"],
    commands: &[],
};

const SOURCES_HELP: Help = Help {
    about: "Shows where the agent that runs on this machine takes its pods from: each source with its state, when it \
            was last read, how many pods it wants, and what is wrong with its manifests, with file, line and field.",
    usage: &["node-agent sources [flags]"],
    commands: &[],
};

#[cfg(test)]
mod tests;
