//! Running scripts in the guest, over its network: the script goes there, what it prints comes back, and last a line with
//! its exit status (`xtask/guest/exec`).

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use testkit::tools::interrupted;

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 22022);
/// How the last line begins.
const STATUS: &str = "\n@@status=";
/// More than the last line has.
const LONGEST: usize = 32;

/// How a script ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this exit status.
    With(i32),
    /// It did not within its time.
    Not,
    /// The connection did before it: the guest is gone, or out of memory.
    Lost,
}

/// Runs a script in the guest whose network namespace this process of the host is in.
pub(super) fn run(pid: u32, script: &str, deadline: Instant, print: &mut dyn FnMut(&[u8])) -> Result<Ended> {
    let mut stream = connect(pid)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.write_all(script.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut tail = Tail::default();
    let mut buffer = [0; 16 << 10];
    loop {
        if interrupted() {
            bail!("interrupted");
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => tail.take(&buffer[..read], print),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if Instant::now() >= deadline {
                    tail.end(print);
                    return Ok(Ended::Not);
                }
            }
            Err(_) => break,
        }
    }
    Ok(tail.end(print).map_or(Ended::Lost, Ended::With))
}

/// A connection to the guest. A socket stays in the namespace that it was made in, so it is made by a thread that moves
/// there and ends.
fn connect(pid: u32) -> Result<TcpStream> {
    let work = move || {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).context("the guest is gone")?;
        let ours = File::open("/proc/self/ns/net")?;
        if namespace.metadata()?.ino() == ours.metadata()?.ino() {
            bail!("it has no network yet");
        }
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        TcpStream::connect_timeout(&ADDRESS, Duration::from_secs(3)).context("its shell does not answer")
    };
    std::thread::spawn(work).join().unwrap_or_else(|_| bail!("the thread that connects panicked"))
}

/// What may be the last line is held back until more comes or nothing does.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn take(&mut self, bytes: &[u8], print: &mut dyn FnMut(&[u8])) {
        self.0.extend_from_slice(bytes);
        let keep = self.0.len().min(LONGEST);
        let rest = self.0.split_off(self.0.len() - keep);
        print(&std::mem::replace(&mut self.0, rest));
    }

    fn end(self, print: &mut dyn FnMut(&[u8])) -> Option<i32> {
        let bytes = self.0;
        let at = bytes.windows(STATUS.len()).rposition(|window| window == STATUS.as_bytes());
        let last = at.map(|at| String::from_utf8_lossy(&bytes[at + STATUS.len()..]).trim().to_owned());
        let status = last.and_then(|last| last.parse().ok());
        print(&bytes[..status.and(at).unwrap_or(bytes.len())]);
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(pieces: &[&str]) -> (String, Option<i32>) {
        let mut printed = Vec::new();
        let mut tail = Tail::default();
        for piece in pieces {
            tail.take(piece.as_bytes(), &mut |bytes| printed.extend_from_slice(bytes));
        }
        let status = tail.end(&mut |bytes| printed.extend_from_slice(bytes));
        (String::from_utf8(printed).unwrap(), status)
    }

    #[test]
    fn the_status_is_told_from_what_is_printed() {
        let long = "x".repeat(100);
        for (pieces, printed, status) in [
            (&["hello\n", "\n@@status=3\n"][..], "hello\n", Some(3)),
            (&["hello\n\n@@sta", "tus=0\n"], "hello\n", Some(0)),
            (&[&long, "\n@@status=139\n"], &long, Some(139)),
            (&["\n@@status=0\n"], "", Some(0)),
            (&["it broke off"], "it broke off", None),
            (
                &["\n@@status=1\nsaid by the script\n", "\n@@status=2\n"],
                "\n@@status=1\nsaid by the script\n",
                Some(2),
            ),
        ] {
            assert_eq!(through(pieces), (printed.to_owned(), status), "{pieces:?}");
        }
    }
}
