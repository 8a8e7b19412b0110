//! `cargo xtask bench --sources`: what the pod sources cost, each alone, through its example program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use testkit::env::{succeed, target_dir, usage};

use super::agent::more_switches;
use super::report::Report;
use super::{manifest, pod_name};
use crate::{cargo, ui};

/// How many manifests there are, and how many changes of each kind are timed.
const PODS: usize = 1000;
const CHANGES: usize = 50;
/// How long a source is left alone.
const REST: Duration = Duration::from_secs(10);
/// File systems count time in steps of up to two seconds; a younger file is read again to be sure.
const OLD_ENOUGH: Duration = Duration::from_millis(3500);
/// Longer than anything here may take.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) fn run() -> Result<()> {
    let mut report = Report::default();
    let measured = file(&mut report);
    // What was measured before a failure is worth seeing too.
    report.print();
    let path = target_dir().join("bench/sources.json");
    fs::create_dir_all(target_dir().join("bench")).context("cannot create the folder for the numbers")?;
    let value = json!({"complete": measured.is_ok(), "numbers": report.json()});
    fs::write(&path, format!("{value:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    ui::say(format!("\nalso in {}", path.display()));
    measured
}

/// The file source: a folder of manifests.
fn file(report: &mut Report) -> Result<()> {
    let program = release_example("watch")?;
    // Not in memory: what is written for a restart goes to a disk.
    let root = tempfile::tempdir_in(target_dir()).context("cannot create a folder")?;
    let (folder, cache) = (root.path().join("manifests"), root.path().join("cache"));
    fs::create_dir(&folder)?;
    let path = |number: usize| folder.join(format!("{}.yaml", pod_name(number)));
    for number in 0..PODS {
        fs::write(path(number), manifest(&pod_name(number)))?;
    }
    thread::sleep(OLD_ENOUGH);

    ui::step(&format!("file: {PODS} manifests"));
    let begin = Instant::now();
    let source = Source::start(&program, &[&folder, &cache])?;
    let first = source.wait(&format!("{PODS} pods, 0 problems"))? - begin;
    report.add("fileFirst", "file: first read, from process start", millis(first), "ms").budget(500.0);
    while fs::read_dir(&cache).map_or(0, Iterator::count) < PODS {
        if begin.elapsed() > DEADLINE {
            bail!("not all manifests were kept for a restart within {DEADLINE:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    report.add("fileKept", "file: all kept for a restart", millis(begin.elapsed()), "ms");

    let mut timed = |key, what: &str, sign: char, at: usize, change: &dyn Fn(usize) -> Result<()>| {
        let mut times = Vec::new();
        for number in at..at + CHANGES {
            let begin = Instant::now();
            change(number)?;
            let seen = source.wait(&format!("{sign} default/{}-node1", pod_name(number)))?;
            times.push(seen - begin);
        }
        times.sort();
        // Of so few the worst one.
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        ui::say(format!("    {what}: half of them within {:.1} ms", millis(median)));
        report.add(key, &format!("{what}, the slowest of {CHANGES}"), millis(worst), "ms").budget(50.0);
        anyhow::Ok(())
    };
    let edited = |number| manifest(&pod_name(number)).replace("pause", "other");
    timed("fileNew", "file: a new one published", '+', PODS, &|number| {
        Ok(fs::write(path(number), manifest(&pod_name(number)))?)
    })?;
    timed("fileReplaced", "file: a replaced one published", '~', 0, &|number| {
        let new = folder.join(".new");
        fs::write(&new, edited(number))?;
        Ok(fs::rename(&new, path(number))?)
    })?;
    timed("fileWritten", "file: one written in place published", '~', CHANGES, &|number| {
        Ok(fs::write(path(number), edited(number))?)
    })?;

    ui::step(&format!("file: {} s at rest", REST.as_secs()));
    let begin = Instant::now();
    for number in PODS..PODS + CHANGES {
        fs::remove_file(path(number))?;
    }
    let removed = source.wait(&format!("- default/{}-node1", pod_name(PODS + CHANGES - 1)))? - begin;
    report.add("fileRemoved", &format!("file: {CHANGES} removed ones published"), millis(removed), "ms");
    drop(source);

    let source = Source::start(&program, &[&folder, &cache])?;
    let begin = Instant::now();
    let again = source.wait(&format!("{PODS} pods, 0 problems"))? - begin;
    report.add("fileAgain", "file: first read after a restart", millis(again), "ms").budget(500.0);
    // Not all at once, for the check comes every 20 s.
    thread::sleep(Duration::from_secs(2));
    let before = usage(source.process.id())?;
    thread::sleep(REST);
    let after = usage(source.process.id())?;
    let switches = more_switches(&before, &after);
    report.add("fileRest", "file: context switches between two checks", switches as f64, "").budget(0.0);
    report.add("fileResident", "file: resident", after.resident as f64 / 1024.0 / 1024.0, "MiB");
    drop(source);

    let source = Source::start(&program, &[&folder, &cache, Path::new("1")])?;
    source.wait(&format!("{PODS} pods, 0 problems"))?;
    thread::sleep(Duration::from_secs(2));
    let before = usage(source.process.id())?;
    thread::sleep(REST);
    let after = usage(source.process.id())?;
    let checks = REST.as_secs_f64();
    let cpu = millis(after.cpu.saturating_sub(before.cpu)) / checks;
    report.add("fileCheck", "file: CPU of one check without a change", cpu, "ms");
    Ok(())
}

/// A program that prints what a source publishes.
struct Source {
    process: Child,
    lines: Receiver<(Instant, String)>,
}

impl Source {
    fn start(program: &Path, args: &[&Path]) -> Result<Self> {
        let mut process = Command::new(program)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = process.stdout.take().context("the program has no output")?;
        // As many lines as there can be between two waits.
        let (sender, lines) = sync_channel(4 * PODS);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, lines })
    }

    /// When the line came.
    fn wait(&self, line: &str) -> Result<Instant> {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok((at, found)) if found == line => return Ok(at),
                Ok(_) => {}
                Err(_) => bail!("the source did not print {line:?} within {DEADLINE:?}"),
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Errors only tell that it ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Builds an example of `podsource` and returns its path.
fn release_example(name: &str) -> Result<PathBuf> {
    ui::step(&format!("building the example {name}"));
    succeed(&mut cargo::cargo(["build", "--release", "--package", "podsource", "--example", name]))
        .with_context(|| format!("cannot build the example {name}"))?;
    Ok(target_dir().join("release/examples").join(name))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
