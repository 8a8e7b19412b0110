//! Emptying and removing cgroups.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use util::Backoff;

use crate::hierarchy::{children, is_gone, read};
use crate::{Cgroups, Error};

/// As often as the kubelet tries.
const TRIES: u32 = 5;

/// Before the second try; doubles from then on. A killed process leaves its cgroup when its parent has seen it
/// die or, in a container, when its namespace's first process has.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Before the last look.
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// Kills everything in these cgroups and those in them, and removes them all, unless they are `wanted`.
pub(crate) async fn kill_and_remove(
    cgroups: &Arc<Cgroups>,
    dirs: Arc<[PathBuf]>,
    wanted: Arc<impl Fn() -> bool + Send + Sync + 'static>,
) -> Result<(), Error> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    for last in (1..=TRIES).map(|attempt| attempt == TRIES) {
        let (dirs, wanted) = (Arc::clone(&dirs), Arc::clone(&wanted));
        let attempt = move |_: &Cgroups| {
            if wanted() {
                return Ok(true);
            }
            kill(&dirs)?;
            // All of them each time: one that is busy must not keep the others.
            let mut busy = None;
            for dir in dirs.iter() {
                busy = remove(dir)?.or(busy);
            }
            match busy {
                Some((path, source)) if last => {
                    let pids = processes(&path)?.into_iter().collect();
                    Err(Error::StillBusy { path, tries: TRIES, pids, source })
                }
                busy => Ok(busy.is_none()),
            }
        };
        if cgroups.run(attempt).await? {
            break;
        }
        tokio::time::sleep(backoff.failed()).await;
    }
    Ok(())
}

/// Kills everything in these cgroups and those in them, and leaves the cgroups. Tells whether there was anything.
pub(crate) async fn kill_all(cgroups: &Arc<Cgroups>, dirs: Arc<[PathBuf]>) -> Result<bool, Error> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    for tried in 0..=TRIES {
        let dirs = Arc::clone(&dirs);
        let attempt = move |_: &Cgroups| {
            let pids = all_processes(&dirs)?;
            if pids.is_empty() {
                return Ok(true);
            }
            if tried == TRIES {
                let (dirs, pids) = (dirs.to_vec(), pids.into_iter().collect());
                return Err(Error::Unkillable { dirs, tries: TRIES, pids });
            }
            kill(&dirs).map(|()| false)
        };
        if cgroups.run(attempt).await? {
            return Ok(tried > 0);
        }
        tokio::time::sleep(backoff.failed()).await;
    }
    Ok(true)
}

/// Removes these cgroups and those in them if nothing runs there. Tells whether they are gone.
pub(crate) fn remove_empty(dirs: &[PathBuf]) -> Result<bool, Error> {
    if !all_processes(dirs)?.is_empty() {
        return Ok(false);
    }
    let mut gone = true;
    for dir in dirs {
        gone &= remove(dir)?.is_none();
    }
    Ok(gone)
}

fn all_processes(dirs: &[PathBuf]) -> Result<BTreeSet<i32>, Error> {
    let mut pids = BTreeSet::new();
    for dir in dirs {
        pids.append(&mut processes(dir)?);
    }
    Ok(pids)
}

fn kill(dirs: &[PathBuf]) -> Result<(), Error> {
    let mut pids = BTreeSet::new();
    for dir in dirs {
        // cgroup v2 since Linux 5.14: also what is forking right now. No create: elsewhere it is no such file.
        let killer = fs::OpenOptions::new().write(true).open(dir.join("cgroup.kill"));
        if killer.is_ok_and(|mut file| file.write_all(b"1").is_ok()) {
            continue;
        }
        pids.append(&mut processes(dir)?);
    }
    for pid in pids {
        // A process that is gone by now is what we want; one that cannot be killed shows as busy below.
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

/// Processes in a cgroup and those in it. A 0, a process outside of our PID namespace, is left out.
fn processes(dir: &Path) -> Result<BTreeSet<i32>, Error> {
    let mut pids = BTreeSet::new();
    for child in children(dir)? {
        pids.append(&mut processes(&child)?);
    }
    if let Some(text) = read(&dir.join("cgroup.procs"))? {
        pids.extend(text.lines().filter_map(|l| l.trim().parse().ok()).filter(|p: &i32| *p > 0));
    }
    Ok(pids)
}

/// Removes a cgroup, the innermost first; answers with the first that is still in use.
fn remove(dir: &Path) -> Result<Option<(PathBuf, io::Error)>, Error> {
    for child in children(dir)? {
        if let Some(busy) = remove(&child)? {
            return Ok(Some(busy));
        }
    }
    match fs::remove_dir(dir) {
        Ok(()) => Ok(None),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Ok(Some((dir.to_owned(), e))),
    }
}
