//! The kernel's own word that the whole machine, not one container, was out of memory: the event `SystemOOM`.
//! Rule: upstream `pkg/kubelet/oom` and cAdvisor's `oomparser`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use tokio::io::unix::AsyncFd;

/// The kernel's log: each read is one record, and those after the end are waited for.
const KERNEL_LOG: &str = "/dev/kmsg";

/// The longest record (the kernel's `PRINTK_MESSAGE_MAX`).
const RECORD: usize = 8192;

/// Calls `tell` with the text of the event for each time from now on. Ends only with an error.
pub async fn watch(tell: impl Fn(String)) -> io::Error {
    match follow(tell).await {
        Err(error) => io::Error::new(error.kind(), format!("{KERNEL_LOG}: {error}")),
        Ok(never) => match never {},
    }
}

async fn follow(tell: impl Fn(String)) -> io::Result<std::convert::Infallible> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut log: File = OpenOptions::new().read(true).custom_flags(flags).open(KERNEL_LOG)?;
    log.seek(SeekFrom::End(0))?;
    #[expect(
        deprecated,
        reason = "a File keeps its descriptor, which is all that the unsafe new way wants promised"
    )]
    let log = AsyncFd::new(log)?;
    let mut record = [0; RECORD];
    loop {
        let mut ready = log.readable().await?;
        match ready.try_io(|log| log.get_ref().read(&mut record)) {
            Ok(Ok(length)) => {
                let record = record.get(..length).unwrap_or_default();
                if let Some(text) = system_oom(&String::from_utf8_lossy(record)) {
                    tell(text);
                }
            }
            // What was overwritten before it was read is lost; the next read goes on behind it.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
}

/// The event for a record that tells of a process that was killed: where the machine had no memory left, or where the
/// process was in no container or unit.
fn system_oom(record: &str) -> Option<String> {
    let (_, summary) = record.split_once(";oom-kill:constraint=")?;
    let summary = summary.lines().next()?;
    let value = |name: &str| summary.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    if !summary.contains(",global_oom,") && value("task_memcg") != Some("/") {
        return None;
    }
    let victim = |name: &str, pid: &str| format!(", victim process: {name}, pid: {pid}");
    let victim = value("task").zip(value("pid")).map(|(name, pid)| victim(name, pid));
    Some(format!("System OOM encountered{}", victim.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_log_is_followed_where_it_can_be_read() {
        if File::open(KERNEL_LOG).is_err() {
            // Nor would the kubelet hear anything here.
            let error = watch(|_| ()).await;
            assert!(error.to_string().starts_with(KERNEL_LOG), "{error}");
            return;
        }
        let soon = std::time::Duration::from_millis(200);
        let ended = tokio::time::timeout(soon, watch(|_| ())).await;
        assert!(ended.is_err(), "{ended:?}");
    }

    #[test]
    fn only_what_concerns_the_whole_machine_is_told() {
        let record = |context: &str, victim: &str| {
            format!(
                "6,2787,1485095499,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0-1,\
                 {context},task_memcg={victim},task=stress,pid=4711,uid=0\n SUBSYSTEM=x\n"
            )
        };
        let want = Some("System OOM encountered, victim process: stress, pid: 4711".to_owned());
        assert_eq!(system_oom(&record("global_oom", "/system.slice/ssh.service")), want);
        assert_eq!(system_oom(&record("oom_memcg=/", "/")), want);
        assert_eq!(system_oom(&record("oom_memcg=/kubepods/pod1", "/kubepods/pod1/c")), None);
        assert_eq!(system_oom("6,2788,1485152047,-;veth30a18e34: entered promiscuous mode\n"), None);
        assert_eq!(
            system_oom("6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,global_oom,"),
            Some("System OOM encountered".to_owned())
        );
    }
}
