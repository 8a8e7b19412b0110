//! `cargo xtask test`: everything that must hold before a change lands.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testkit::tools::{
    BINARY_VARIABLE, KUBE_APISERVER_VARIABLE, Tools, build_kube_apiserver, succeed, target_dir,
};

use crate::cargo::{cargo, has_subcommand};
use crate::steps::Report;
use crate::{guest, lint};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out what needs a container runtime
    #[arg(long)]
    fast: bool,
    /// Run all tests of the guest: those that Debian's own kernel for it cannot run need one to be built, once
    #[arg(long, conflicts_with = "fast")]
    full: bool,
    /// Use this kube-apiserver instead of building 1.20 from Debian's source
    #[arg(long, value_name = "PATH", conflicts_with = "fast")]
    kube_apiserver: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report = Report::default();
    report.step("what the checks need", lint::components);
    for (name, check) in lint::CHECKS {
        report.step(name, check);
    }
    if options.fast {
        report.step("unit tests", || Ok(succeed(&mut runner(&["--workspace", "--exclude", "integration"]))?));
        report.step("examples in the docs", || {
            Ok(succeed(&mut cargo(["test", "--quiet", "--workspace", "--doc"]))?)
        });
        return report.finish();
    }
    report.step("what the integration tests need", || {
        Tools::ensure()?;
        Tools::ensure_cluster()?;
        Ok(())
    });
    let mut apiserver = options.kube_apiserver.clone();
    if apiserver.is_none() {
        report.step("kube-apiserver 1.20 from Debian's source (once)", || {
            apiserver = Some(build_kube_apiserver()?);
            Ok(())
        });
    }
    report.step("building the agent and the tests", build);
    report
        .step("unit tests, and integration tests on containerd 1.6 and 2.1", || tests(apiserver.as_deref()));
    let kind = if options.full { guest::Kind::Full } else { guest::Kind::Debian };
    report.step("tests in a guest with cgroup v2 and systemd", || {
        guest::run_tests(kind, "", apiserver.as_deref())
    });
    report.step("examples in the docs", || Ok(succeed(cargo(["test", "--quiet", "--doc"]).args(SELECTION))?));
    report.finish()
}

/// Everything, with the features that hold back tests which need root and real programs. Each step builds with this
/// same selection, because cargo unites the features of what is selected: with another one it would compile half of
/// the dependencies, and all of ours, once more.
pub(crate) const SELECTION: [&str; 3] = ["--workspace", "--features", ALL_TESTS];

/// The features of [`SELECTION`].
pub(crate) const ALL_TESTS: &str =
    "testkit/runtime-tests,apiserver-sync/runtime-tests,podsource/api,podsource/runtime-tests,xtask/stage";

/// The agent's binary is built with the tests, and so with what they switch on in dependencies of both.
pub(crate) fn build() -> Result<()> {
    Ok(succeed(cargo(["build", "--bins", "--tests"]).args(SELECTION))?)
}

fn tests(apiserver: Option<&Path>) -> Result<()> {
    let mut command = runner(&SELECTION);
    command.env(BINARY_VARIABLE, target_dir().join("debug/node-agent"));
    if let Some(path) = apiserver {
        // The tests run in other folders than this one.
        let path = path.canonicalize().with_context(|| format!("no kube-apiserver at {}", path.display()))?;
        command.env(KUBE_APISERVER_VARIABLE, path);
    }
    Ok(succeed(&mut command)?)
}

/// nextest where it is installed: it runs each test in a process of its own, names the slow ones and ends those
/// that hang. Building it would take longer than all tests, so elsewhere it is `cargo test`.
fn runner(args: &[&str]) -> Command {
    let base: &[&str] = if has_subcommand("nextest") {
        &["nextest", "run"]
    } else {
        // Without --tests it would run the examples in the docs once more.
        &["test", "--tests", "--no-fail-fast"]
    };
    let mut command = cargo(base.iter().chain(args).copied());
    // The same cases on each run: what fails is due to the change. Without the variable each run has others.
    if std::env::var_os(PROPTEST_SEED).is_none() {
        command.env(PROPTEST_SEED, "1");
    }
    command
}

/// The seed of all property tests.
const PROPTEST_SEED: &str = "PROPTEST_RNG_SEED";
