//! `cargo xtask bench --sources`: what the pod sources cost, each alone and all together, through example programs.

mod together;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
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
    let measured =
        file(&mut report).and_then(|()| push(&mut report)).and_then(|()| together::run(&mut report));
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
    let program = release_example("podsource", "watch", "file")?;
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

/// The push API: pods are created one after the other over one connection, and each is on disk before the answer.
fn push(report: &mut Report) -> Result<()> {
    let program = release_example("pod-api", "push", "")?;
    let root = tempfile::tempdir_in(target_dir()).context("cannot create a folder")?;
    let (alone, store) = (root.path().join("alone"), root.path().join("store"));
    fs::create_dir(&alone)?;
    let source = Source::start(&program, &[Path::new("127.0.0.1:0"), &store])?;
    let address = source.after("listening on ")?;
    let stream = TcpStream::connect(&address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);

    ui::step(&format!("push: {PODS} creates, and the same writes without them"));
    // In turns, for both to see the same disk.
    let (mut creates, mut writes) = (Vec::new(), Vec::new());
    for number in 0..PODS {
        let begin = Instant::now();
        let pod = create(&mut connection, &manifest(&pod_name(number)))?;
        creates.push(begin.elapsed());
        let begin = Instant::now();
        durable_write(&alone, &pod_name(number), &pod)?;
        writes.push(begin.elapsed());
    }
    // Of all that are on the way, the last line of this kind.
    source.wait(&format!("{PODS} pods, 0 problems"))?;
    let most = 2.0 * millis(nearly_worst(&mut writes));
    report.add("pushDisk", "push: a durable write alone, p99", most / 2.0, "ms");
    let create = millis(nearly_worst(&mut creates));
    report.add("pushCreate", "push: a create, p99", create, "ms").budget(most);
    Ok(())
}

/// Creates a pod; the answer is the pod.
fn create(connection: &mut BufReader<TcpStream>, manifest: &str) -> Result<Vec<u8>> {
    let request = format!(
        "POST /api/v1/namespaces/default/pods HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/yaml\r\nContent-Length: {}\r\n\r\n{manifest}",
        manifest.len()
    );
    connection.get_mut().write_all(request.as_bytes())?;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let from = head.len();
        if connection.read_line(&mut head)? == 0 {
            bail!("the connection ended after {head:?}");
        }
        match head[from..].trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
            None if head.ends_with("\r\n\r\n") => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    if !head.starts_with("HTTP/1.1 201 ") {
        bail!("a pod was not created: {head}{}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

/// What it takes at least for a file to be there after a power cut, whole.
fn durable_write(folder: &Path, name: &str, text: &[u8]) -> Result<()> {
    let new = folder.join(".new");
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(name))?;
    Ok(File::open(folder)?.sync_all()?)
}

/// The time that only one of a hundred exceeds.
fn nearly_worst(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
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

    /// The rest of the first line that begins like this.
    fn after(&self, start: &str) -> Result<String> {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok((_, line)) => {
                    if let Some(rest) = line.strip_prefix(start) {
                        return Ok(rest.to_owned());
                    }
                }
                Err(_) => bail!("the source did not print {start:?} within {DEADLINE:?}"),
            }
        }
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

/// Builds an example of a crate, which needs these features, and returns its path.
pub(super) fn release_example(krate: &str, name: &str, feature: &str) -> Result<PathBuf> {
    ui::step(&format!("building the example {name}"));
    let build = ["build", "--release", "--package", krate, "--features", feature, "--example", name];
    succeed(&mut cargo::cargo(build)).with_context(|| format!("cannot build the example {name}"))?;
    Ok(target_dir().join("release/examples").join(name))
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
