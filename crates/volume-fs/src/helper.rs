//! Programs of the system that volumes are made with: `mount` for what needs a helper of its own (NFS), `mkfs`, `losetup`.
//! Each has a deadline: one that hangs on a dead server holds up its caller no longer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Most of what a program says that is kept.
const MAX_OUTPUT: u64 = 64 << 10;

/// A program that did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be run.
    #[error("cannot run {program}")]
    NotRun {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It was killed at its deadline, with all that it had started.
    #[error("{program} did not end within {deadline:?}")]
    TimedOut {
        /// The program.
        program: String,
        /// How long it had.
        deadline: Duration,
    },
    /// It failed, in the kubelet's words.
    #[error("{0}")]
    Failed(String),
}

/// What a program that ended left.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it wrote, to both of its outputs, as far as it is text.
    pub output: String,
}

/// Runs a program and waits for its end, but no longer than `deadline`.
///
/// # Errors
/// If it cannot be run or does not end. That it failed is no error.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S], deadline: Duration) -> Result<Finished, Error> {
    let not_run = |source: io::Error| Error::NotRun { program: program.to_owned(), source };
    // Memory, not a pipe: whoever else holds it, such as a daemon that a mount leaves behind, is not waited for.
    let output = rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC).map_err(|e| not_run(e.into()))?;
    let mut output = File::from(output);
    let write = || output.try_clone().map(Stdio::from).map_err(not_run);
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(write()?).stderr(write()?);
    command.process_group(0);
    let mut child = command.spawn().map_err(not_run)?;
    if !ends_within(child.id(), deadline).map_err(|e| not_run(e.into()))? {
        // With all that it has started, as the helper of a file system. One that waits within the kernel ends when that
        // is over: somebody has to be there for it then.
        kill_group(child.id());
        let _ = std::thread::Builder::new().name("reaper".into()).spawn(move || child.wait());
        return Err(Error::TimedOut { program: program.to_owned(), deadline });
    }
    let status = child.wait().map_err(not_run)?;
    let mut text = Vec::new();
    let read = output.rewind().and_then(|()| output.take(MAX_OUTPUT).read_to_end(&mut text));
    read.map_err(not_run)?;
    Ok(Finished { status, output: String::from_utf8_lossy(&text).into_owned() })
}

/// The group of a program that was started as its first. It has not been waited for, so the number is its own yet.
fn kill_group(child: u32) {
    if let Some(group) = i32::try_from(child).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn ends_within(child: u32, deadline: Duration) -> Result<bool, Errno> {
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let child = pidfd_open(pid, PidfdFlags::empty())?;
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&child.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Mounts by way of `mount(8)`, which knows the helpers of file systems.
///
/// # Errors
/// In the kubelet's words, with what the program said.
pub fn mount(
    source: &str,
    target: &Path,
    fs_type: &str,
    options: &[&str],
    deadline: Duration,
) -> Result<(), Error> {
    let options = options.join(",");
    let mut arguments: Vec<&OsStr> = Vec::new();
    if !fs_type.is_empty() {
        arguments.extend(["-t", fs_type].map(OsStr::new));
    }
    if !options.is_empty() {
        arguments.extend(["-o", &options].map(OsStr::new));
    }
    arguments.extend([OsStr::new(source), target.as_os_str()]);
    let Finished { status, output } = run("mount", &arguments, deadline)?;
    if status.success() {
        return Ok(());
    }
    let arguments = arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let status = in_words(status);
    Err(Error::Failed(format!(
        "mount failed: {status}\nMounting command: mount\nMounting arguments: {arguments}\nOutput: {output}\n"
    )))
}

/// As Go says it.
pub(crate) fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MountTable;
    use testkit::mounts::in_own_mounts;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_program_says_is_kept_and_one_that_hangs_is_left() {
        let script = "echo out; echo err >&2; exit 3";
        let finished = run("sh", &["-c", script], LONG).unwrap();
        assert_eq!((finished.status.code(), finished.output.as_str()), (Some(3), "out\nerr\n"));
        // A daemon that keeps the outputs is not waited for.
        let begin = Instant::now();
        run("sh", &["-c", "sleep 50 & echo $!"], LONG)
            .map(|finished| run("kill", &[finished.output.trim()], LONG))
            .unwrap()
            .unwrap();
        assert!(begin.elapsed() < LONG / 2);
        let error = run("sleep", &["600"], Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.to_string(), "sleep did not end within 20ms");
        let error = run("/no/such/program", &[""; 0], LONG).unwrap_err();
        assert_eq!(error.to_string(), "cannot run /no/such/program");
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing tells that a process has ended that is not ours to wait for"
    )]
    fn what_a_program_has_started_is_killed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let pid = (0..).map(|n| Duration::from_millis(50 << n)).take(10).find_map(|deadline| {
            let error = run("sh", &["-c", &script], deadline).unwrap_err();
            assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
            // On a busy machine it may not have come so far.
            std::fs::read_to_string(&file).ok()
        });
        let stat = Path::new("/proc").join(pid.unwrap().trim()).join("stat");
        let end = Instant::now() + LONG;
        loop {
            // Nobody may be there who waits for it.
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(Instant::now() < end, "it runs yet: {stat}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn mounting_fails_in_the_kubelets_words() {
        in_own_mounts(|space| {
            let target = space.join("v");
            std::fs::create_dir(&target).unwrap();
            mount("tmpfs", &target, "tmpfs", &["size=64k", "noatime"], LONG).unwrap();
            let table = MountTable::read().unwrap();
            let mounted = table.at(&target).unwrap();
            assert!(mounted.fs_options.contains("size=64k") && mounted.options.contains("noatime"));
            let at = space.join("none");
            let error = mount("192.0.2.99:/x", &at, "tmpfs", &[], LONG).unwrap_err().to_string();
            let begin = format!(
                "mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t tmpfs 192.0.2.99:/x {0}\n\
                 Output: mount: {0}: ",
                at.display()
            );
            assert!(error.starts_with(&begin), "{error}");
        });
    }
}
