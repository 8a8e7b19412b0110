//! The node-agent binary: parse, build, run, drain.

mod malloc;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use agent::config::{self, Disk, Live, Reload};
use agent::{Agent, Environment};
use anyhow::Context;
use node_config::validate::documents;
use node_config::{Command, CommandLine, Output, Settings, ValidateArgs};
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
        Command::Run(line) => run(*line),
        Command::Config(line) => show_config(&line),
        Command::Validate(args) => return validate(&args),
        Command::Print(text) => print(&text),
        Command::Ask(ask) => {
            return cli::ask(&ask).map_or_else(|error| fail(&error.into()), ExitCode::from);
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

/// Shows the configuration also when the agent would not start with it, and then says why.
fn show_config(line: &CommandLine) -> anyhow::Result<()> {
    let effective = line.load(&Disk)?;
    print(&node_config::render(&effective))?;
    Settings::new(&effective, &config::facts_with(&effective.flags))?;
    Ok(())
}

/// Exits with 1 if anything is wrong with any of the files.
fn validate(args: &ValidateArgs) -> ExitCode {
    let node_name = hostname().trim().to_lowercase();
    let all = cli::validate(&args.paths, &config::facts(), &node_name);
    let text = if args.output == Output::Json { documents::json(&all) } else { documents::text(&all) };
    match print(&text) {
        Ok(()) if all.iter().all(|checked| checked.problems.is_empty()) => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn run(line: CommandLine) -> anyhow::Result<()> {
    malloc::tune();
    // What is for few says so itself; what is for all must be, and nothing is for all to change.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let effective = line.load(&Disk)?;
    let settings = Settings::new(&effective, &config::facts_with(&effective.flags))?;
    let journal = std::env::var_os("JOURNAL_STREAM");
    let live = Live::new(logging::init(agent::logging(&settings, journal.as_deref()))?, &settings);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let watch_config = effective.flags.watch_config;
    let reload = Reload::new(line, effective, live.clone());
    let runtime =
        Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting tokio")?;
    let ended = runtime.block_on(async {
        let hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        tokio::spawn(reload.follow(hangup, watch_config));
        tokio::spawn(malloc::give_back());
        serve(&settings, &live).await
    });
    // Not waiting for file work that hangs on a dead disk.
    runtime.shutdown_background();
    ended
}

/// From the start to the drain after the first signal.
async fn serve(settings: &Settings, live: &Live) -> anyhow::Result<()> {
    let node_name = settings.node_name(&hostname())?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut stop = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
    tracing::info!(node = node_name, version = env!("CARGO_PKG_VERSION"), "node-agent starts");
    let environment = Environment::new(std::env::home_dir(), |name| std::env::var_os(name));
    let agent = Agent::start(settings, &node_name, live, &environment).await?;
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
