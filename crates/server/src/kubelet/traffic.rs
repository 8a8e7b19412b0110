//! What goes on in a connection, and how long it may go on without progress: each holds one of the places that all
//! clients share.

use std::io;
use std::task::Context;
use std::time::Duration;

use tokio::sync::watch;

use super::heads::{Head, Heads};

/// Longest time until the first request has come, header and all.
const FIRST_LIMIT: Duration = Duration::from_secs(10);

/// Longest time without a request, and for sending one (upstream `pkg/kubelet/server/server.go`).
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(90);

/// Longest time that somebody who reads a log or a stream may take nothing of what there is: as the kubelet's write
/// timeout (upstream `pkg/kubelet/server/server.go`), as they may stand in a pager. Who waits for what is not there yet
/// may wait for ever.
const STALL_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// What goes on in a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Traffic {
    /// How many requests have come.
    pub(super) requests: u64,
    /// Requests whose answers are not sent.
    pub(super) open: usize,
    /// Those among them of whose answers the client does not take the piece that is next.
    pub(super) untaken: usize,
    /// Whether the client reads nothing of what is sent.
    pub(super) blocked: bool,
    /// Whether the client asked for a log or a stream.
    pub(super) patient: bool,
    /// Whether the connection is a stream by now.
    pub(super) upgraded: bool,
}

impl Traffic {
    /// How long it may stay as it is.
    fn limit(self) -> Option<Duration> {
        let reader = if self.patient { STALL_LIMIT } else { IDLE_LIMIT };
        match self {
            Self { blocked: true, .. } => Some(reader),
            Self { upgraded: true, .. } => None,
            Self { requests: 0, .. } => Some(FIRST_LIMIT),
            Self { open: 0, .. } => Some(IDLE_LIMIT),
            Self { open, untaken, .. } => (open == untaken).then_some(reader),
        }
    }
}

/// Ends when nothing has moved for too long.
pub(super) async fn stuck(traffic: &watch::Sender<Traffic>) {
    let mut changes = traffic.subscribe();
    loop {
        let limit = changes.borrow_and_update().limit();
        let limit = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel-safe; the sender is the caller's, so it cannot fail.
            _ = changes.changed() => {}
            () = limit => return,
        }
    }
}

/// Tells when the client does not read, and takes heads of requests as far as there is room. It belongs below TLS, which
/// would hide how much the client reads.
pub(super) struct TrafficWatch {
    traffic: watch::Sender<Traffic>,
    blocked: bool,
    head: Head,
}

impl TrafficWatch {
    pub(super) fn new(traffic: watch::Sender<Traffic>, heads: Heads) -> Self {
        Self { traffic, blocked: false, head: Head::new(heads) }
    }
}

impl serving::Watch for TrafficWatch {
    fn arrived(&mut self, bytes: usize) -> io::Result<()> {
        let traffic = *self.traffic.borrow();
        self.head.arrived(bytes, traffic)
    }

    fn wrote(&mut self, _: &mut Context<'_>, waits: bool) -> io::Result<()> {
        if self.blocked != waits {
            self.blocked = waits;
            self.traffic.send_modify(|traffic| traffic.blocked = waits);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_others_wait_is_waited_for_the_shorter_the_less_is_known_of_them() {
        let nothing = Traffic::default();
        let begun = Traffic { requests: 1, ..nothing };
        let answering = Traffic { open: 2, ..begun };
        let reading = Traffic { patient: true, ..answering };
        let stream = Traffic { open: 0, upgraded: true, ..reading };
        for (what, traffic, limit) in [
            ("no request yet", nothing, Some(FIRST_LIMIT)),
            ("between requests", begun, Some(IDLE_LIMIT)),
            ("the agent is to say something", answering, None),
            ("one answer is not read", Traffic { untaken: 1, ..answering }, None),
            ("no answer is read", Traffic { untaken: 2, ..answering }, Some(IDLE_LIMIT)),
            ("nothing is read", Traffic { blocked: true, ..answering }, Some(IDLE_LIMIT)),
            ("a log has nothing new", reading, None),
            ("no log is read on", Traffic { untaken: 2, ..reading }, Some(STALL_LIMIT)),
            ("nothing of a log is read", Traffic { blocked: true, ..reading }, Some(STALL_LIMIT)),
            (
                "the last of a log is not read",
                Traffic { open: 0, blocked: true, ..reading },
                Some(STALL_LIMIT),
            ),
            ("a stream is silent", stream, None),
            ("a stream is not read", Traffic { blocked: true, ..stream }, Some(STALL_LIMIT)),
        ] {
            assert_eq!(traffic.limit(), limit, "{what}");
        }
    }
}
