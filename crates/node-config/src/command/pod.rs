//! The commands that look into one pod; how they are typed is kubectl's.

use std::path::PathBuf;
use std::time::Duration;

use kube_model::Timestamp;

use super::{Ask, Command};
use crate::error::UsageError;
use crate::help::Help;
use crate::parse::{self, Parsed};
use crate::table::{EXEC, LOGS, PORT_FORWARD, PodFlags};

/// Which pod of which agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodArgs {
    /// `--root-dir` of the running agent.
    pub root_dir: PathBuf,
    /// Its namespace; `None` looks in all of them.
    pub namespace: Option<String>,
    /// A name, `namespace/name` or the start of a UID.
    pub pod: String,
}

/// Arguments of `node-agent logs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsArgs {
    /// The pod.
    pub pod: PodArgs,
    /// The container, if it is named.
    pub container: Option<String>,
    /// Go on until the container ends.
    pub follow: bool,
    /// The container's previous instance.
    pub previous: bool,
    /// From when on; `None` for all.
    pub since: Option<Since>,
    /// The last lines; `None` for all.
    pub tail: Option<u64>,
    /// Most bytes; `None` for no limit.
    pub limit_bytes: Option<u64>,
    /// Put its time before each line.
    pub timestamps: bool,
}

/// From when on a log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// For so long already.
    Ago(Duration),
    /// From this time on.
    Time(Timestamp),
}

/// Arguments of `node-agent exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecArgs {
    /// The pod.
    pub pod: PodArgs,
    /// The container, if it is named.
    pub container: Option<String>,
    /// Whether stdin is passed on.
    pub stdin: bool,
    /// Whether the terminal is.
    pub tty: bool,
    /// The program and its arguments; at least the first.
    pub command: Vec<String>,
}

/// Arguments of `node-agent port-forward`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForwardArgs {
    /// The pod.
    pub pod: PodArgs,
    /// Where to listen: IP addresses or `localhost`; at least one.
    pub addresses: Vec<String>,
    /// Which ports; at least one.
    pub forwards: Vec<Forward>,
}

/// One port to forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The port here.
    pub local: LocalPort,
    /// The pod's.
    pub remote: RemotePort,
}

/// A port here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalPort {
    /// This one.
    Number(u16),
    /// The same as the pod's.
    Same,
    /// Any that is free.
    Free,
}

/// A port of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemotePort {
    /// Its number.
    Number(u16),
    /// Its name.
    Name(String),
}

pub(super) fn logs(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(LOGS, args)?;
    if parsed.values.help {
        return Ok(Command::Print(LOGS_HELP.render(LOGS)));
    }
    let (pod, rest) = pod("logs", &parsed)?;
    if !rest.is_empty() {
        return Err(UsageError::WordCount { command: "logs", what: "pod", got: rest.len() + 1 });
    }
    let flags = parsed.values;
    let number = |flag, value: i64, least| {
        if value < least {
            let rule = format!("must be {least} or more");
            return Err(UsageError::Value { flag, value: value.to_string(), rule });
        }
        Ok(u64::try_from(value).ok())
    };
    Ok(Command::Ask(Ask::Logs(LogsArgs {
        pod,
        since: since(&flags)?,
        tail: number("tail", flags.tail, -1)?,
        limit_bytes: number("limit-bytes", flags.limit_bytes, 0)?.filter(|&bytes| bytes > 0),
        container: given(flags.container),
        follow: flags.follow,
        previous: flags.previous,
        timestamps: flags.timestamps,
    })))
}

fn since(flags: &PodFlags) -> Result<Option<Since>, UsageError> {
    let wrong =
        |flag, value: String, rule: &str| Err(UsageError::Value { flag, value, rule: rule.to_owned() });
    let time = flags.since_time.clone();
    match (flags.since.to_std(), time.parse()) {
        (None, _) => wrong("since", flags.since.to_string(), "must be more than 0"),
        (Some(Duration::ZERO), _) if time.is_empty() => Ok(None),
        (Some(Duration::ZERO), Ok(time)) => Ok(Some(Since::Time(time))),
        (Some(Duration::ZERO), Err(_)) => {
            wrong("since-time", time, "must be a time such as 2026-11-23T12:00:00Z")
        }
        (Some(ago), _) if time.is_empty() => Ok(Some(Since::Ago(ago))),
        (Some(_), _) => wrong("since-time", time, "cannot be given together with --since"),
    }
}

pub(super) fn exec(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(EXEC, args)?;
    if parsed.values.help {
        return Ok(Command::Print(EXEC_HELP.render(EXEC)));
    }
    // Without dashes the first word is the pod, and the others were meant as the command.
    let before = parsed.before_dashes.unwrap_or(parsed.words.len().min(1));
    if before != 1 {
        return Err(UsageError::WordCount { command: "exec", what: "pod", got: before });
    }
    let (pod, command) = pod("exec", &parsed)?;
    if parsed.before_dashes.is_none() || command.is_empty() {
        return Err(UsageError::NoCommand);
    }
    let PodFlags { container, stdin, tty, .. } = parsed.values;
    Ok(Command::Ask(Ask::Exec(ExecArgs { pod, container: given(container), stdin, tty, command })))
}

pub(super) fn port_forward(args: Vec<String>) -> Result<Command, UsageError> {
    let parsed = parse::parse(PORT_FORWARD, args)?;
    if parsed.values.help {
        return Ok(Command::Print(PORT_FORWARD_HELP.render(PORT_FORWARD)));
    }
    let (pod, ports) = pod("port-forward", &parsed)?;
    let forwards = ports.iter().map(|port| forward(port)).collect::<Result<Vec<_>, _>>()?;
    if forwards.is_empty() {
        return Err(UsageError::NoPort);
    }
    let addresses = parsed.values.address;
    let bad =
        addresses.iter().find(|address| *address != "localhost" && crate::value::parse_ip(address).is_none());
    if let Some(bad) = bad {
        let rule = "must be an IP address or localhost".to_owned();
        return Err(UsageError::Value { flag: "address", value: bad.clone(), rule });
    }
    Ok(Command::Ask(Ask::PortForward(PortForwardArgs { pod, addresses, forwards })))
}

/// `[LOCAL:]REMOTE`, where nothing before the colon takes a free port.
fn forward(text: &str) -> Result<Forward, UsageError> {
    let wrong = || UsageError::Port(text.to_owned());
    let number = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0);
    let (local, remote) = match text.split_once(':') {
        None => (LocalPort::Same, text),
        Some(("" | "0", remote)) => (LocalPort::Free, remote),
        Some((local, remote)) => (LocalPort::Number(number(local).ok_or_else(wrong)?), remote),
    };
    let remote = match number(remote) {
        Some(port) => RemotePort::Number(port),
        None if is_name(remote) => RemotePort::Name(remote.to_owned()),
        None => return Err(wrong()),
    };
    Ok(Forward { local, remote })
}

/// Whether it could be the name of a port: a letter and nothing strange.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes().all(allowed) && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// The pod, which is the first word, and the others.
fn pod(command: &'static str, parsed: &Parsed<PodFlags>) -> Result<(PodArgs, Vec<String>), UsageError> {
    let mut words = parsed.words.iter().map(|word| word.text.clone());
    let Some(pod) = words.next() else {
        return Err(UsageError::WordCount { command, what: "pod", got: 0 });
    };
    let PodFlags { root_dir, namespace, .. } = &parsed.values;
    let pod = PodArgs { root_dir: root_dir.into(), namespace: given(namespace.clone()), pod };
    Ok((pod, words.collect()))
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

pub(super) const LOGS_HELP: Help = Help {
    about: "Shows what a container wrote, as kubectl logs does, from the agent that runs on this machine: no API \
            server is needed. POD is a name with or without the node's name at its end, NAMESPACE/NAME, or the start \
            of a UID.",
    usage: &["node-agent logs POD [-c CONTAINER] [flags]"],
    commands: &[],
};

pub(super) const EXEC_HELP: Help = Help {
    about: "Runs a command in a container, as kubectl exec does, through the agent that runs on this machine: no API \
            server is needed. Exits with the command's own code.",
    usage: &["node-agent exec POD [-c CONTAINER] [flags] -- COMMAND [ARGUMENT...]"],
    commands: &[],
};

pub(super) const PORT_FORWARD_HELP: Help = Help {
    about: "Forwards ports of this machine to a pod, as kubectl port-forward does, through the agent that runs here: no \
            API server is needed. REMOTE is a port's number or its name; without LOCAL the same number is used here, \
            with nothing before the colon any that is free.",
    usage: &["node-agent port-forward POD [LOCAL:]REMOTE... [flags]"],
    commands: &[],
};
