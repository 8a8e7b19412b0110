//! Tests that run in the guest: those that are marked `#[ignore]`, of all packages. Each is a process of its own, as with
//! nextest; one in a module `own_kernel` needs the kernel that is built for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::tools::{BINARY_VARIABLE, KUBE_APISERVER_VARIABLE, Tools, interrupted, output, target_dir};

use super::machine::quote;
use super::wire::Ended;
use super::{Kind, boot};
use crate::cargo::cargo;
use crate::{test, ui};

/// What a test may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
/// In the names of tests that need the kernel that is built for them.
const OWN_KERNEL: &str = "own_kernel::";

/// One test program of a package.
struct Program {
    /// What cargo calls it: a library by its own name.
    target: String,
    path: PathBuf,
    /// Where cargo would run it.
    dir: PathBuf,
}

struct Test<'a> {
    program: &'a Program,
    name: String,
}

/// Builds what is needed first: `cargo xtask guest --test`.
pub(super) fn build_and_run(kind: Kind, text: &str) -> Result<()> {
    test::build()?;
    run(kind, text, None)
}

/// Runs the tests whose names contain `text`; all is built. An error names those that failed.
pub(crate) fn run(kind: Kind, text: &str, apiserver: Option<&Path>) -> Result<()> {
    Tools::ensure_for_guest()?;
    let programs = programs()?;
    make_images(&programs)?;
    let mut tests = Vec::new();
    for program in &programs {
        let names = names(program)?;
        let wanted =
            |name: &String| name.contains(text) && (kind == Kind::Full || !name.contains(OWN_KERNEL));
        tests.extend(names.into_iter().filter(wanted).map(|name| Test { program, name }));
    }
    if tests.is_empty() {
        bail!("no test that runs in the guest has {text:?} in its name");
    }
    let mut machine = boot(kind)?;
    let mut failed = Vec::new();
    for test in &tests {
        if interrupted() {
            bail!("interrupted");
        }
        let (start, mut said) = (Instant::now(), Vec::new());
        let ended =
            machine.run(&test.script(apiserver), LIMIT * 2, &mut |bytes| said.extend_from_slice(bytes));
        let passed = matches!(ended, Ok(Ended::With(0)));
        let mark = if passed { "ok" } else { "FAILED" };
        ui::say(format!("{mark:>7}  {:6.1} s  {}", start.elapsed().as_secs_f32(), test.name));
        if passed {
            continue;
        }
        let how = ended.as_ref().map_or_else(|error| format!("{error:#}"), ToString::to_string);
        ui::say(format!("{}\n{} in the guest: {how}", String::from_utf8_lossy(&said).trim_end(), test.name));
        failed.push(test.name.as_str());
        if !matches!(ended, Ok(Ended::With(_))) && !interrupted() {
            ui::say(format!("the guest's console ends:\n{}", machine.console()));
            drop(machine);
            machine = boot(kind)?;
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} of {} tests in the guest failed: {}", failed.len(), tests.len(), failed.join(", "))
}

impl Test<'_> {
    fn script(&self, apiserver: Option<&Path>) -> String {
        let mut env = vec![(BINARY_VARIABLE, target_dir().join("debug/node-agent"))];
        env.extend(apiserver.map(|path| (KUBE_APISERVER_VARIABLE, path.to_owned())));
        env.extend(std::env::var_os("CARGO_TARGET_DIR").map(|dir| ("CARGO_TARGET_DIR", dir.into())));
        let word = |path: &Path| quote(&path.display().to_string());
        let env: String = env.iter().map(|(name, path)| format!("{name}={} ", word(path))).collect();
        format!(
            "cd {} && {env} RUST_BACKTRACE=1 exec timeout --kill-after=10 {} {} --ignored --exact {} --nocapture",
            word(&self.program.dir),
            LIMIT.as_secs(),
            word(&self.program.path),
            quote(&self.name),
        )
    }
}

/// All test programs, as cargo has built them.
fn programs() -> Result<Vec<Program>> {
    let arguments = ["test", "--no-run", "--tests", "--quiet", "--message-format=json"];
    let text = output(cargo(arguments).args(test::SELECTION)).context("cannot list the tests")?;
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_test = message["profile"]["test"] == true;
        let path = message["executable"].as_str().filter(|_| is_test)?.into();
        let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
        Some(Program { target: message["target"]["name"].as_str()?.to_owned(), path, dir })
    };
    Ok(text.lines().filter_map(program).collect())
}

/// The tests of a program that are for the guest.
fn names(program: &Program) -> Result<Vec<String>> {
    let mut command = Command::new(&program.path);
    command.args(["--list", "--ignored", "--format=terse"]).current_dir(&program.dir);
    let text = output(&mut command)?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// The images that the tests' pods run are made by a C compiler, which the guest has not.
fn make_images(programs: &[Program]) -> Result<()> {
    const MAKER: &str = "env::images::tests::the_images_are_built_once";
    let program =
        programs.iter().find(|program| program.target == "testkit").context("no tests of testkit")?;
    let mut command = Command::new(&program.path);
    output(command.args(["--exact", MAKER]).current_dir(&program.dir)).context("cannot make the images")?;
    Ok(())
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // As timeout(1) says it.
            Self::With(124 | 137) => write!(f, "it did not end within {} s", LIMIT.as_secs()),
            Self::With(status) => write!(f, "exit status {status}"),
            Self::Not => f.write_str("no answer in time"),
            Self::Lost => f.write_str("the connection broke off"),
        }
    }
}
