//! The proxy of bytes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Background;
use crate::env::port::ReservedPort;

/// What the way to the server is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Everything gets through.
    Open,
    /// Each piece of data arrives this much later, one after the other, both ways.
    Slow(Duration),
    /// Connections are accepted and stay, and nothing gets through; what was sent meanwhile arrives afterwards.
    Silent,
    /// Connections are reset, and new ones refused.
    Down,
}

/// What has gone through a [`TcpProxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were accepted.
    pub connections: u64,
    /// Bytes from clients to the server.
    pub sent: u64,
    /// Bytes from the server to clients.
    pub received: u64,
}

/// A proxy in front of one address, on a port of 127.0.0.1 that stays its own while it refuses connections.
#[derive(Debug)]
pub struct TcpProxy {
    background: Background,
    port: ReservedPort,
    listening: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: watch::Sender<State>,
    /// How many bytes of the server are still let through before the connection that carries them is reset.
    allowed: Mutex<Option<u64>>,
    connections: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct State {
    link: Link,
    /// How often all connections were cut.
    cuts: u64,
    /// How many connections, counted from the first, are frozen.
    frozen: u64,
}

impl TcpProxy {
    /// Starts a proxy, with its [`Link`] open.
    ///
    /// # Errors
    /// When there is no port or no thread to be had.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let shared = Shared {
            upstream,
            state: watch::Sender::new(State { link: Link::Open, cuts: 0, frozen: 0 }),
            allowed: Mutex::new(None),
            connections: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        };
        let mut proxy = Self {
            background: Background::new()?,
            port: ReservedPort::new()?,
            listening: None,
            shared: Arc::new(shared),
        };
        proxy.listen()?;
        Ok(proxy)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The same as a URL, for TLS all the way through: certificates are for addresses, whatever the port.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// Changes the link, for the connections that there are and for new ones; in force when this returns.
    ///
    /// # Errors
    /// When it was down and cannot listen again.
    pub fn set(&mut self, link: Link) -> io::Result<()> {
        if link == Link::Down {
            self.refuse();
            self.cut();
        }
        self.shared.state.send_modify(|state| state.link = link);
        if link != Link::Down && self.listening.is_none() {
            self.listen()?;
        }
        Ok(())
    }

    /// Resets all connections that there are; new ones are served.
    pub fn cut(&self) {
        self.shared.state.send_modify(|state| state.cuts += 1);
    }

    /// Lets nothing more through the connections that there are, as a firewall that has forgotten them; they stay
    /// until either side gives up, and new ones are served.
    pub fn freeze(&self) {
        let frozen = self.shared.connections.load(Relaxed);
        self.shared.state.send_modify(|state| state.frozen = frozen);
    }

    /// Lets so many more bytes come from the server, whichever connection carries them, then resets that
    /// connection; once.
    pub fn reset_after(&self, bytes: u64) {
        *self.shared.allowed.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
    }

    /// What has gone through up to now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Shared { connections, sent, received, .. } = &*self.shared;
        Counts {
            connections: connections.load(Relaxed),
            sent: sent.load(Relaxed),
            received: received.load(Relaxed),
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        let listener = self.port.listen()?;
        listener.set_nonblocking(true)?;
        self.listening = self.background.spawn(accept(listener, Arc::clone(&self.shared)));
        Ok(())
    }

    /// Stops listening, and waits until that has come about.
    fn refuse(&mut self) {
        if let Some(task) = self.listening.take() {
            task.abort();
            // It runs on the proxy's thread and never for long.
            while !task.is_finished() {
                std::thread::yield_now();
            }
        }
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Relaxed);
        // Here, not in the task: a cut that comes before it first runs is meant for it, too.
        let cuts = shared.state.borrow().cuts;
        tokio::spawn(serve(client, number, cuts, Arc::clone(&shared)));
    }
}

/// Carries one connection until either side ends it, or resets both sides.
async fn serve(mut client: TcpStream, number: u64, cuts: u64, shared: Arc<Shared>) {
    let mut state = shared.state.subscribe();
    let Ok(mut server) = TcpStream::connect(shared.upstream).await else {
        let _ = client.set_zero_linger();
        return;
    };
    // A proxy that waits for acknowledgements would make everything 40 ms later.
    let _best_effort = (client.set_nodelay(true), server.set_nodelay(true));
    let whole = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(&shared, number, Direction::ToServer, from_client, to_server);
        let down = pump(&shared, number, Direction::ToClient, from_server, to_client);
        tokio::select! {
            done = async { tokio::try_join!(up, down) } => done.is_ok(),
            _ = state.wait_for(|state| state.cuts != cuts) => false,
        }
    };
    if !whole {
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// Carries one direction to its end.
async fn pump(
    shared: &Shared,
    number: u64,
    direction: Direction,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut state = shared.state.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        let link = state
            .wait_for(|state| state.link != Link::Silent && state.frozen <= number)
            .await
            .map(|state| state.link);
        if let Ok(Link::Slow(delay)) = link {
            tokio::time::sleep(delay).await;
        }
        if count == 0 {
            return to.shutdown().await;
        }
        let allowed = if direction == Direction::ToClient { shared.allow(count) } else { count };
        to.write_all(&buffer[..allowed]).await?;
        let counter = if direction == Direction::ToClient { &shared.received } else { &shared.sent };
        counter.fetch_add(allowed as u64, Relaxed);
        if allowed < count {
            return Err(ErrorKind::ConnectionReset.into());
        }
    }
}

impl Shared {
    /// How many of the server's next `count` bytes may pass; with fewer than all, the limit is used up.
    fn allow(&self, count: usize) -> usize {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        match *allowed {
            Some(left) if left < count as u64 => {
                *allowed = None;
                usize::try_from(left).unwrap_or(count)
            }
            Some(left) => {
                *allowed = Some(left - count as u64);
                count
            }
            None => count,
        }
    }
}

#[cfg(test)]
mod tests;
