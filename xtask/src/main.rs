//! The project's tasks. Start here: `cargo xtask --help`.

mod arch;
mod bench;
mod cargo;
mod demo;
mod deny;
mod guest;
mod lint;
mod package;
mod stage;
mod steps;
mod test;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's tasks", version = None, disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start the agent on a real containerd and show what it does, step by step
    Demo(demo::Options),
    /// Everything that must hold: format, lints, docs, layers, unit and integration tests
    Test(test::Options),
    /// Format, clippy, docs and layers only
    Lint(lint::Options),
    /// Check layers, bans and the shape of the tree
    Arch(arch::Options),
    /// Measure start, rest, restart and deletion with many pods
    Bench(bench::Options),
    /// Boot a machine with cgroup v2 and systemd, made of Debian's packages, and run something in it
    Guest(guest::Options),
    /// Make a Debian package and a tarball of the agent
    Package(package::Options),
    /// Build the API server that the tests use, once, and say where it is
    KubeApiserver,
    /// Check licences, duplicate versions, sources and advisories of the dependencies
    Deny,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = ui::catch_interrupts() {
        ui::failed(&error);
        return ExitCode::FAILURE;
    }
    let done = match arguments.task {
        #[cfg(feature = "stage")]
        Task::Demo(options) => demo::run(&options),
        #[cfg(not(feature = "stage"))]
        Task::Demo(_) => stage::demo(),
        Task::Test(options) => test::run(&options),
        Task::Lint(options) => lint::run(&options),
        Task::Arch(options) => arch::run(&options),
        #[cfg(feature = "stage")]
        Task::Bench(options) => bench::run(&options),
        #[cfg(not(feature = "stage"))]
        Task::Bench(_) => stage::bench(),
        Task::KubeApiserver => kube_apiserver(),
        Task::Guest(options) => guest::run(&options),
        Task::Package(options) => package::run(&options),
        Task::Deny => deny::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::failed(&error);
            ExitCode::FAILURE
        }
    }
}

fn kube_apiserver() -> anyhow::Result<()> {
    ui::say(testkit::tools::build_kube_apiserver()?.display().to_string());
    Ok(())
}
