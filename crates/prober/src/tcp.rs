//! TCP probes: a connection that opens is a success.

use std::time::Duration;

use tokio::time::timeout;

use crate::attempt::Verdict;
use crate::dial::dial;
use crate::error::chain;

/// Opens a connection and closes it. `limit` covers the lookup of a name too.
pub async fn probe(host: &str, port: u16, limit: Duration) -> Verdict {
    match timeout(limit, dial(host, port)).await {
        Ok(Ok(_)) => Verdict::Success,
        Ok(Err(e)) => Verdict::Failure(chain(&e)),
        Err(_) => Verdict::Failure(format!("dial tcp {}: i/o timeout", crate::http::authority(host, port))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Longer than a resolver tries to reach a server that does not answer.
    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_listening_port_succeeds_and_a_closed_one_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe("127.0.0.1", port, LIMIT).await, Verdict::Success);
        assert_eq!(probe("localhost", port, LIMIT).await, Verdict::Success);
        drop(listener);
        let expected = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(probe("127.0.0.1", port, LIMIT).await, Verdict::Failure(expected));
    }

    #[tokio::test]
    async fn an_unanswered_connection_times_out() {
        // A listener whose backlog is full leaves further connections unanswered.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _filler = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut verdict = Verdict::Success;
        for _ in 0..4 {
            verdict = probe("127.0.0.1", port, Duration::from_millis(200)).await;
        }
        assert_eq!(verdict, Verdict::Failure(format!("dial tcp 127.0.0.1:{port}: i/o timeout")));
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_fails() {
        let Verdict::Failure(text) = probe("no-such-host.invalid", 80, LIMIT).await else {
            panic!("a name under .invalid resolved")
        };
        assert!(text.starts_with("dial tcp: lookup no-such-host.invalid: "), "{text}");
    }
}
