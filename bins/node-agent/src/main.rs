//! The node-agent binary: parse, build, run, drain.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use agent::{Agent, logging, show};
use anyhow::Context;
use node_config::{Command, Output, Settings};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Longest time between a signal and the end. Steps under way are dropped; only file work may take a moment.
const DRAIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let command = match node_config::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => return fail(&error.into()),
    };
    let done = match command {
        Command::Run(settings) => run(&settings),
        Command::Print(text) => print(&text),
        Command::Pods(args) => {
            let request = show::PodsRequest {
                root_dir: &args.root_dir,
                names: &args.names,
                form: form(args.output),
                watch: args.watch,
            };
            show::pods(request, &mut io::stdout(), &mut io::stderr()).map_err(anyhow::Error::from)
        }
        Command::Explain(args) => {
            let shown = show::explain(&args.root_dir, &args.pod, form(args.output), &mut io::stdout());
            shown.map_err(anyhow::Error::from)
        }
    };
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

/// One line on stderr, the chain of causes in it.
fn fail(error: &anyhow::Error) -> ExitCode {
    let line = format!("{error:#}").replace('\n', "; ");
    // Nobody is left to be told that stderr is gone.
    let _ = writeln!(io::stderr(), "node-agent: {line}");
    ExitCode::FAILURE
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to stdout"),
    }
}

fn form(output: Output) -> show::Form {
    match output {
        Output::Text => show::Form::Text,
        Output::Wide => show::Form::Wide,
        Output::Json => show::Form::Json,
        Output::Yaml => show::Form::Yaml,
    }
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    one_malloc_arena();
    logging::init(settings.logging_format, settings.verbosity)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let node_name = settings.node_name(&rustix::system::uname().nodename().to_string_lossy())?;
    let runtime =
        Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting tokio")?;
    let ended = runtime.block_on(serve(settings, &node_name));
    // Not waiting for file work that hangs on a dead disk.
    runtime.shutdown_background();
    ended
}

/// From the start to the drain after the first signal.
async fn serve(settings: &Settings, node_name: &str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut stop = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
    tracing::info!(node = node_name, version = env!("CARGO_PKG_VERSION"), "node-agent starts");
    let agent = Agent::start(settings, node_name).await?;
    stop().await;
    tracing::info!("stopping: no more work is taken, pods are left running");
    tokio::select! {
        drained = tokio::time::timeout(DRAIN, agent.drain()) => {
            if drained.is_err() {
                tracing::warn!("not everything ended within {} s", DRAIN.as_secs());
            }
        }
        () = stop() => anyhow::bail!("a second signal: ended at once"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// With an arena for each thread, glibc keeps half again as much memory for a load that is small and spread
/// over few threads (measured with 110 pods: 31.5 MB against 20.5 MB).
fn one_malloc_arena() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "mallopt only sets a number, before any other thread is started")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
