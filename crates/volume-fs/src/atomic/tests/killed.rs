//! The writer is killed at each of its system calls, before and after it.

use super::*;

const OLD: [(&str, &str); 3] = [("a", "old"), ("d/x", "old"), ("gone", "old")];
const NEW: [(&str, &str); 3] = [("a", "new"), ("d/x", "new"), ("d/y", "new")];

fn files(list: [(&'static str, &'static str); 3]) -> impl Iterator<Item = Content<'static>> {
    list.into_iter().map(|(path, data)| content(path, data, 0o640))
}

/// Writes the new content in a process of its own that is killed at its `stop`-th stop at a system call; whether it
/// came so far.
#[allow(unsafe_code, reason = "a process that is killed at a certain point has to be traced")]
fn write_until(volume: &Path, stop: usize) -> bool {
    // SAFETY: the child is a copy of this thread alone. It calls nothing that waits for another thread but the
    // allocator, which glibc makes usable in a child, and never returns from here.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", io::Error::last_os_error());
    if child == 0 {
        // SAFETY: these take no memory of ours.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
        let done = write(volume, files(NEW), Some(2000)).is_ok();
        // SAFETY: nothing of the parent is run down.
        unsafe { libc::_exit(i32::from(!done)) }
    }
    let mut status = 0;
    // SAFETY: `status` outlives each call; the child is ours and is waited for.
    unsafe {
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        assert!(libc::WIFSTOPPED(status));
        for _ in 0..stop {
            assert_eq!(libc::ptrace(libc::PTRACE_SYSCALL, child, 0, 0), 0);
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            if libc::WIFEXITED(status) {
                assert_eq!(libc::WEXITSTATUS(status), 0, "the write itself failed");
                return false;
            }
        }
        libc::kill(child, libc::SIGKILL);
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        assert!(libc::WIFSIGNALED(status));
    }
    true
}

#[test]
fn wherever_it_is_killed_users_see_the_old_or_the_new_and_the_next_write_completes_it() {
    in_own_mounts(|space| {
        let (mut stops, mut old, mut new) = (0, 0, 0);
        loop {
            let folder = tempfile::tempdir_in(space).unwrap();
            let volume = folder.path();
            write(volume, files(OLD), None).unwrap();
            let was_killed = write_until(volume, stops);

            let read = |path: &str| std::fs::read_to_string(volume.join(path)).ok();
            let seen = [read("a"), read("d/x"), read("..data/gone"), read("..data/d/y")];
            let seen: Vec<_> = seen.iter().map(|text| text.as_deref().unwrap_or("-")).collect();
            match seen[..] {
                ["old", "old", "old", "-"] => old += 1,
                ["new", "new", "-", "new"] => new += 1,
                _ => panic!("killed at stop {stops}: {seen:?}, {:?}", tree(volume)),
            }

            write(volume, files(NEW), Some(2000)).unwrap();
            let whole = tree(volume);
            let fresh = tempfile::tempdir_in(space).unwrap();
            write(fresh.path(), files(NEW), Some(2000)).unwrap();
            assert_eq!(whole, tree(fresh.path()), "killed at stop {stops}");
            if !was_killed {
                break;
            }
            stops += 1;
        }
        assert!(old > 20 && new > 10, "{stops} stops, {old} times the old content, {new} times the new");
    });
}
