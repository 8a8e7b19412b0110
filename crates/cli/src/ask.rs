//! What people ask the agent that runs: from the words of the command line to the commands that answer.

use std::io::{self, Write};

use kube_model::Timestamp;
use node_config::{Ask, ExecArgs, LocalPort, LogsArgs, Output, PodArgs, PortForwardArgs, RemotePort, Since};

use crate::commands::{self, CommandError, Target};
use crate::show;

/// Asks and shows the answer. Answers with the code to exit with.
///
/// # Errors
/// When no agent answers, what is asked for does not exist, or the answer cannot be written.
pub fn ask(ask: &Ask) -> Result<u8, CommandError> {
    let (out, err) = (&mut io::stdout(), &mut io::stderr());
    match ask {
        Ask::Pods(args) => {
            let request = show::PodsRequest {
                root_dir: &args.root_dir,
                names: &args.names,
                form: form(args.output),
                watch: args.watch,
            };
            show::pods(request, out, err)?;
        }
        Ask::Explain(args) => show::explain(&args.root_dir, &args.pod, form(args.output), out)?,
        Ask::Sources(args) => show::sources(&args.root_dir, form(args.output), out)?,
        Ask::Logs(args) => logs(args, out, err)?,
        Ask::Exec(args) => return exec(args),
        Ask::PortForward(args) => port_forward(args, out, err)?,
    }
    Ok(0)
}

fn form(output: Output) -> show::Form {
    match output {
        Output::Text => show::Form::Text,
        Output::Wide => show::Form::Wide,
        Output::Json => show::Form::Json,
        Output::Yaml => show::Form::Yaml,
    }
}

fn target(pod: &PodArgs) -> Target<'_> {
    Target { root_dir: &pod.root_dir, namespace: pod.namespace.as_deref(), pod: &pod.pod }
}

fn logs(args: &LogsArgs, out: &mut impl Write, err: &mut impl Write) -> Result<(), CommandError> {
    let options = commands::LogOptions {
        follow: args.follow,
        previous: args.previous,
        timestamps: args.timestamps,
        since: args.since.map(|since| match since {
            Since::Ago(ago) => crate::wall().checked_sub(ago).unwrap_or(Timestamp::MIN),
            Since::Time(time) => time,
        }),
        tail_lines: args.tail,
        limit_bytes: args.limit_bytes,
        ..commands::LogOptions::default()
    };
    commands::logs(target(&args.pod), args.container.as_deref(), &options, out, err)
}

fn exec(args: &ExecArgs) -> Result<u8, CommandError> {
    commands::exec(commands::ExecRequest {
        pod: target(&args.pod),
        container: args.container.as_deref(),
        stdin: args.stdin,
        tty: args.tty,
        command: &args.command,
    })
}

fn port_forward(
    args: &PortForwardArgs,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), CommandError> {
    let forwards: Vec<commands::Forward<'_>> = args
        .forwards
        .iter()
        .map(|forward| commands::Forward {
            local: match forward.local {
                LocalPort::Number(port) => commands::LocalPort::Number(port),
                LocalPort::Same => commands::LocalPort::Same,
                LocalPort::Free => commands::LocalPort::Free,
            },
            remote: match &forward.remote {
                RemotePort::Number(port) => commands::RemotePort::Number(*port),
                RemotePort::Name(name) => commands::RemotePort::Name(name),
            },
        })
        .collect();
    let request = commands::PortForwardRequest {
        pod: target(&args.pod),
        addresses: &args.addresses,
        forwards: &forwards,
    };
    commands::port_forward(request, out, err)
}
