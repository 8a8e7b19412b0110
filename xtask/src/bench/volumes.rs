//! `cargo xtask bench --volumes`: what it costs to give the files of a volume to a pod's group, beside `chgrp -R`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use testkit::env::{succeed, target_dir};

use super::report::Report;
use super::sources::{millis, release_example};
use crate::ui;

/// A hundred folders with a thousand files each.
const FOLDERS: usize = 100;
const FILES: usize = 1000;
/// Of so many the one in the middle counts.
const TIMES: usize = 5;

pub(super) fn run() -> Result<()> {
    let mut report = Report::default();
    let measured = group(&mut report);
    report.print();
    let path = target_dir().join("bench/volumes.json");
    fs::create_dir_all(target_dir().join("bench")).context("cannot create the folder for the numbers")?;
    let value = json!({"complete": measured.is_ok(), "numbers": report.json()});
    fs::write(&path, format!("{value:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    ui::say(format!("\nalso in {}", path.display()));
    measured
}

fn group(report: &mut Report) -> Result<()> {
    let program = release_example("volume-fs", "set_group", "")?;
    // Not in memory: what a mode or a group costs is the disk's file system's.
    let root = tempfile::tempdir_in(target_dir()).context("cannot create a folder")?;
    let root = root.path();
    ui::step(&format!("making {} files", FOLDERS * FILES));
    for folder in 0..FOLDERS {
        let folder = root.join(format!("{}/{}", folder / 10, folder % 10));
        fs::create_dir_all(&folder)?;
        for file in 0..FILES {
            File::create(folder.join(format!("file-{file}")))?;
        }
    }
    let group = |number: usize| (3000 + number).to_string();
    let reset = || command("chmod", &["-R", "u=rw,go=r,a+X,g-s"], root);
    let (mut theirs, mut ours, mut again, mut marked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    ui::step("files change their group");
    for number in 0..TIMES {
        reset()?;
        theirs.push(command("chgrp", &["-R", &group(2 * number)], root)?);
        let (folder, group) = (root.to_string_lossy(), group(2 * number + 1));
        let set = |more: &[&str]| {
            let begin = Instant::now();
            succeed(Command::new(&program).args([&*folder, &group]).args(more))?;
            anyhow::Ok(begin.elapsed())
        };
        ours.push(set(&[])?);
        again.push(set(&[])?);
        marked.push(set(&["on-root-mismatch"])?);
    }
    let (theirs, ours) = (middle(theirs), middle(ours));
    let files = FOLDERS * FILES;
    report.add("chgrp", &format!("chgrp -R over {files} files"), millis(theirs), "ms");
    report.add("fsGroup", &format!("fsGroup over {files} files, group and modes"), millis(ours), "ms");
    let share = ours.as_secs_f64() / theirs.as_secs_f64();
    report.add("fsGroupShare", "the same, as times of chgrp -R", share, "").budget(1.2);
    report.add("fsGroupAgain", "fsGroup where nothing is to be changed", millis(middle(again)), "ms");
    let what = "fsGroup with OnRootMismatch where the root fits";
    report.add("fsGroupMarked", what, millis(middle(marked)), "ms").budget(50.0);
    Ok(())
}

fn command(program: &str, arguments: &[&str], folder: &Path) -> Result<Duration> {
    let begin = Instant::now();
    succeed(Command::new(program).args(arguments).arg(folder))?;
    Ok(begin.elapsed())
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
