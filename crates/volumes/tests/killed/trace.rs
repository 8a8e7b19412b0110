//! A process that is killed just before a certain one of its calls that change something on the node.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use libc::c_long;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Killed before this call.
    Killed(&'static str),
    /// By itself, with this code.
    Exited(i32),
}

/// Runs the command until it wants to make the change number `stop`, counted from 0 over all of its threads.
#[allow(unsafe_code, reason = "a process that is killed at a certain point has to be traced")]
pub(crate) fn run_until(mut command: Command, stop: usize) -> End {
    // SAFETY: between fork and exec only this call is made, which takes no memory of ours.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    // The tracer of a process is the thread that has started it.
    let child = i32::try_from(command.spawn().unwrap().id()).unwrap();
    let options = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
    let (mut begun, mut changes) = (false, 0);
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let thread = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
        assert!(thread > 0, "{}", io::Error::last_os_error());
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            match thread == child {
                true if libc::WIFEXITED(status) => return End::Exited(libc::WEXITSTATUS(status)),
                true => panic!("ended by signal {}", libc::WTERMSIG(status)),
                false => continue,
            }
        }
        let mut signal = 0;
        match libc::WSTOPSIG(status) {
            stopped if stopped == libc::SIGTRAP | 0x80 => {
                if let Some(call) = change(thread) {
                    if changes == stop {
                        kill(child);
                        return End::Killed(call);
                    }
                    changes += 1;
                }
            }
            // The exec, a new thread, and the beginning of one.
            libc::SIGTRAP if !begun => {
                begun = true;
                // SAFETY: the child is stopped and ours.
                assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, child, 0, options) }, 0);
            }
            libc::SIGTRAP | libc::SIGSTOP => {}
            other => signal = other,
        }
        // SAFETY: as above. A thread that was killed meanwhile is waited for next.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, thread, 0, signal) };
    }
}

#[allow(unsafe_code, reason = "as above")]
fn kill(child: i32) {
    let mut status = 0;
    // SAFETY: the child is ours, and `status` outlives each call. Its threads are waited for before it.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        while libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) > 0 {}
    }
}

/// The call that the thread is about to make, if that changes something.
#[allow(unsafe_code, reason = "as above")]
fn change(thread: i32) -> Option<&'static str> {
    // SAFETY: all bytes of it may be zero; the kernel writes at most its size.
    let info = unsafe {
        let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
        let size = size_of_val(&info);
        let got = libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, &raw mut info);
        assert!(got > 0, "{}", io::Error::last_os_error());
        info
    };
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: at the entry of a call this is the part that is filled.
    let (number, arguments) = unsafe { (info.u.entry.nr, info.u.entry.args) };
    let number = c_long::try_from(number).ok()?;
    let flags = match number {
        libc::SYS_openat => arguments[2],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => arguments[1],
        _ => 0,
    };
    let creates = flags & u64::try_from(libc::O_CREAT).ok()? != 0;
    Some(match number {
        libc::SYS_openat if creates => "openat",
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open if creates => "open",
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir | libc::SYS_rmdir | libc::SYS_unlink => "mkdir, rmdir or unlink",
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename | libc::SYS_symlink => "rename or symlink",
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod | libc::SYS_chown | libc::SYS_lchown => "chmod or chown",
        libc::SYS_mkdirat => "mkdirat",
        libc::SYS_mknodat => "mknodat",
        libc::SYS_unlinkat => "unlinkat",
        libc::SYS_renameat | libc::SYS_renameat2 => "renameat",
        libc::SYS_symlinkat | libc::SYS_linkat => "symlinkat",
        libc::SYS_fchmod | libc::SYS_fchmodat => "fchmod",
        libc::SYS_fchown | libc::SYS_fchownat => "fchown",
        libc::SYS_mount => "mount",
        libc::SYS_umount2 => "umount2",
        libc::SYS_move_mount => "move_mount",
        _ => return None,
    })
}
