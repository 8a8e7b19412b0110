//! Taking away everything that a run started or made, whether its owner lives, panicked or was killed.
//!
//! What is a run's own is told by identity, never by a program's name alone: recorded pids with their start
//! times, shims that serve the run's socket, members of the run's cgroup, and the descendants of all these.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::command::output;
use super::containerd::{socket_in, state_in};
use super::error::At;
use super::proc::{Process, mounts_below, processes, with_descendants};
use super::run::{KEPT, MARK, PREFIX, PROCESSES, name_of};
use super::{Error, Tools, say};

/// Where the CNI library notes what it set up, in files named network, sandbox, interface; not settable.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// How long processes, mounts and cgroups may take to go once they are asked to.
const PATIENCE: Duration = Duration::from_secs(30);
const CGROUPS: &str = "/sys/fs/cgroup";

/// Cleans the runs in the temporary folder whose owner is dead and that were not kept on purpose.
pub fn clean_up_after_killed_runs() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.filter_map(Result::ok) {
        let dir = entry.path();
        if !name_of(&dir).starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = fs::File::open(dir.join(MARK)) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        say(&format!("cleaning up after a run that was killed: {}", dir.display()));
        if let Err(error) = clean(&dir) {
            say(&format!("{error}"));
        }
    }
}

/// Ends and removes everything that belongs to the run in this folder, then looks whether anything is left.
///
/// # Errors
/// When the folder is not a run's, or something is left; everything else is removed all the same.
pub fn clean(dir: &Path) -> Result<(), Error> {
    let dir = &dir.canonicalize().at("find", dir)?;
    if !dir.join(MARK).exists() && !dir.join(KEPT).exists() {
        return Err(Error::Machine(format!("{} is not the folder of a test node", dir.display())));
    }
    let name = name_of(dir);
    let tasks = Tasks::read(dir);
    let cgroups = cgroups(&name, &tasks.ids);
    let deadline = Instant::now() + PATIENCE;
    // Each step tries again until nothing is left: a process may fork, a mount may be busy for a moment.
    repeat_until(deadline, || kill(&owned(dir, &cgroups)));
    repeat_until(deadline, || detach(dir));
    repeat_until(deadline, || cgroups.iter().filter(|c| c.exists() && remove_tree(c).is_err()).count() == 0);
    remove_bridge(&name)?;
    for socket in &tasks.sockets {
        let _ = fs::remove_file(socket);
    }
    forget_addresses(&name);
    // The shared folders stay, empty ones too: others may be about to write into them.

    let mut rest: Vec<String> = Vec::new();
    rest.extend(owned(dir, &cgroups).iter().map(|p| format!("process {} ({})", p.pid, p.args.join(" "))));
    rest.extend(mounts_below(dir).iter().map(|m| format!("mount {}", m.display())));
    rest.extend(cgroups.iter().filter(|c| c.exists()).map(|c| format!("cgroup {}", c.display())));
    if bridge(&name).exists() {
        rest.push(format!("network interface {name}"));
    }
    // Never through a mount: the folder goes only when nothing is mounted in it.
    if rest.is_empty() {
        return fs::remove_dir_all(dir).at("remove", dir);
    }
    Err(Error::Residue { run: dir.clone(), rest })
}

/// Repeats a step until it reports that nothing is left to do or the time is up.
fn repeat_until(deadline: Instant, mut step: impl FnMut() -> bool) {
    while !step() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What containerd knows of its tasks on disk: container ids and the sockets of their shims.
struct Tasks {
    ids: BTreeSet<String>,
    sockets: BTreeSet<PathBuf>,
}

impl Tasks {
    fn read(run: &Path) -> Self {
        let mut tasks = Self { ids: BTreeSet::new(), sockets: BTreeSet::new() };
        let bundles = state_in(run).join("io.containerd.runtime.v2.task/k8s.io");
        for bundle in fs::read_dir(bundles).into_iter().flatten().filter_map(Result::ok) {
            tasks.ids.insert(bundle.file_name().to_string_lossy().into_owned());
            // containerd 1.6 writes a bare address, 2.1 JSON with a field of that name.
            for file in ["address", "bootstrap.json"] {
                let text = fs::read_to_string(bundle.path().join(file)).unwrap_or_default();
                let json = serde_json::from_str::<serde_json::Value>(&text).ok();
                let address = json.as_ref().and_then(|j| j["address"].as_str()).unwrap_or(text.trim());
                tasks.sockets.extend(address.strip_prefix("unix://").map(PathBuf::from));
            }
        }
        tasks
    }
}

/// Makes the run's own top cgroup: an agent is refused one that is not there.
pub(super) fn make_cgroup(name: &str) -> Result<(), Error> {
    for hierarchy in hierarchies() {
        let dir = hierarchy.join(name);
        fs::create_dir_all(&dir).at("create", dir)?;
    }
    Ok(())
}

fn hierarchies() -> Vec<PathBuf> {
    let mut all = vec![PathBuf::from(CGROUPS)];
    all.extend(fs::read_dir(CGROUPS).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())));
    all.retain(|hierarchy| hierarchy.join("cgroup.procs").exists());
    all
}

/// The run's cgroups in every hierarchy: its own top group, and those of containers without a parent group.
fn cgroups(name: &str, ids: &BTreeSet<String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        found.push(hierarchy.join(name));
        found.extend(ids.iter().map(|id| hierarchy.join("k8s.io").join(id)));
    }
    found.retain(|c| c.exists());
    found
}

/// The processes of a run that live now.
fn owned(run: &Path, cgroups: &[PathBuf]) -> Vec<Process> {
    let all = processes();
    let recorded: BTreeSet<(i32, u64)> = fs::read_dir(run.join(PROCESSES))
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| {
            let (pid, started) = text.trim().split_once(' ')?;
            Some((pid.parse().ok()?, started.parse().ok()?))
        })
        .collect();
    let socket = socket_in(run).display().to_string();
    let is_root = |p: &&Process| recorded.contains(&(p.pid, p.started)) || serves(p, &socket);
    let mut roots: BTreeSet<i32> = all.iter().filter(is_root).map(|p| p.pid).collect();
    for cgroup in cgroups {
        members(cgroup, &mut roots);
    }
    let ours = with_descendants(&all, roots);
    // A zombie is dead; whoever started it takes its status.
    all.into_iter().filter(|p| ours.contains(&p.pid) && !p.zombie).collect()
}

/// Whether this is a shim of the containerd behind this socket.
fn serves(process: &Process, socket: &str) -> bool {
    let is_shim = process.args.first().is_some_and(|program| {
        Path::new(program).file_name().is_some_and(|n| n.to_string_lossy().starts_with("containerd-shim"))
    });
    is_shim && process.args.iter().any(|arg| arg == socket)
}

fn members(cgroup: &Path, pids: &mut BTreeSet<i32>) {
    let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in fs::read_dir(cgroup).into_iter().flatten().filter_map(Result::ok) {
        if child.file_type().is_ok_and(|t| t.is_dir()) {
            members(&child.path(), pids);
        }
    }
}

/// Kills the processes; true when there were none.
fn kill(processes: &[Process]) -> bool {
    for pid in processes.iter().filter_map(|p| Pid::from_raw(p.pid)) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
    processes.is_empty()
}

/// Unmounts everything below a folder; true when nothing was mounted.
fn detach(dir: &Path) -> bool {
    let mounts = mounts_below(dir);
    for point in &mounts {
        let _ = unmount(point, UnmountFlags::DETACH);
    }
    mounts.is_empty()
}

/// Removes a cgroup and those below it: only folders, their files cannot be removed.
fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for child in fs::read_dir(cgroup)?.filter_map(Result::ok) {
        if child.file_type()?.is_dir() {
            remove_tree(&child.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// Removes the CNI library's notes on the sandboxes of this run's network, their loopback interfaces included.
fn forget_addresses(network: &str) {
    let results = Path::new(CNI_RESULTS);
    let prefix = format!("{network}-");
    for entry in fs::read_dir(results).into_iter().flatten().filter_map(Result::ok) {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(sandbox) = file.strip_prefix(&prefix).and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        let _ = fs::remove_file(results.join(format!("cni-loopback-{sandbox}-lo")));
        let _ = fs::remove_file(entry.path());
    }
}

fn bridge(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

fn remove_bridge(name: &str) -> Result<(), Error> {
    if !bridge(name).exists() {
        return Ok(());
    }
    output(Command::new(Tools::ensure()?.busybox()).args(["ip", "link", "del", name])).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shim_of_this_very_socket_is_ours() {
        let process = |args: &[&str]| Process {
            pid: 7,
            parent: 1,
            started: 1,
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            zombie: false,
        };
        let shim = "/x/containerd-shim-runc-v2";
        assert!(serves(&process(&[shim, "-address", "/tmp/na-1/c.sock"]), "/tmp/na-1/c.sock"));
        assert!(!serves(&process(&[shim, "-address", "/tmp/na-12/c.sock"]), "/tmp/na-1/c.sock"));
        assert!(!serves(&process(&["vim", "/tmp/na-1/c.sock"]), "/tmp/na-1/c.sock"));
    }

    #[test]
    fn a_folder_that_is_no_run_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let error = clean(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is not the folder of a test node"), "{error}");
        assert!(dir.path().exists());
    }
}
