//! systemd's journal as stderr: it takes the level of a line from its beginning (sd-daemon(3)), and `journalctl -p warning` goes
//! by it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Level, Metadata};

use crate::level_of;

/// From which verbosity on a line is for debugging, by Kubernetes' logging conventions.
const DEBUG: u32 = 4;

/// Whether stderr is the journal, by `JOURNAL_STREAM` of the environment: it has device and inode, as stderr may have been
/// redirected since (systemd.exec(5)).
pub fn is_journal(journal_stream: Option<&OsStr>) -> bool {
    let stderr = || io::stderr().as_fd().try_clone_to_owned().map(File::from)?.metadata();
    let is = |stream: &str| {
        let (device, inode) = stream.split_once(':')?;
        let (device, inode) = (device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?);
        let stderr = stderr().ok()?;
        Some((stderr.dev(), stderr.ino()) == (device, inode))
    };
    journal_stream.and_then(OsStr::to_str).and_then(is).unwrap_or(false)
}

/// syslog(3)'s level of an event.
pub(crate) fn level(metadata: &Metadata<'_>) -> u8 {
    match *metadata.level() {
        Level::ERROR => 3,
        Level::WARN => 4,
        _ if level_of(metadata) >= DEBUG => 7,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_is_the_journal_only_when_it_is_that_very_stream() {
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
        let own = format!("{}:{}", stderr.dev(), stderr.ino());
        let other = format!("{}:{}", stderr.dev(), stderr.ino() + 1);
        for (stream, expected) in [
            (None, false),
            (Some(own.as_str()), true),
            (Some(other.as_str()), false),
            (Some(""), false),
            (Some("1"), false),
            (Some("a:b"), false),
        ] {
            assert_eq!(is_journal(stream.map(OsStr::new)), expected, "{stream:?}");
        }
    }
}
