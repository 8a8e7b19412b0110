//! `node-agent port-forward`: each connection to a port here has a connection of its own to the pod, so that one that
//! is slow or fails is no other's trouble, and the agent may be started anew in between.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kube_model::view::PodView;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{CommandError, Target, block_on, target};
use crate::client::Client;

/// The only version there is.
const PROTOCOL: &str = "portforward.k8s.io";

/// Bytes at once.
const BLOCK: usize = 32 * 1024;

/// A port here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalPort {
    /// This one.
    Number(u16),
    /// The same as the pod's.
    Same,
    /// Any that is free.
    Free,
}

/// A port of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemotePort<'a> {
    /// Its number.
    Number(u16),
    /// Its name in the spec of a container.
    Name(&'a str),
}

/// One port to forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward<'a> {
    /// Where connections are taken.
    pub local: LocalPort,
    /// Where they go.
    pub remote: RemotePort<'a>,
}

/// What `node-agent port-forward` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PortForwardRequest<'a> {
    /// The pod.
    pub pod: Target<'a>,
    /// Where to listen: addresses of this machine, or `localhost` for those of the loopback.
    pub addresses: &'a [String],
    /// Which ports.
    pub forwards: &'a [Forward<'a>],
}

/// What connections have to say.
enum Message {
    Out(String),
    Err(String),
}

/// Forwards until the process is ended. Writes to `out` where it listens and which connections come, to `err` what is
/// wrong with them.
///
/// # Errors
/// When no agent answers, the pod is not known or does not run, or an address or port cannot be had.
pub fn port_forward(
    request: PortForwardRequest<'_>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), CommandError> {
    block_on(async {
        let client = Client::new(request.pod.root_dir);
        let snapshot = client.snapshot().await?;
        let pod = target::pod(&snapshot, &request.pod)?;
        let phase = kube_model::summary::phase(&pod.pod, &pod.status);
        if phase != "Running" {
            return Err(CommandError::NoPorts { pod: target::shown(pod), phase: phase.to_owned() });
        }
        let mut listeners = Vec::new();
        for forward in request.forwards {
            listeners.extend(listen(pod, request.addresses, *forward).await?);
        }
        let path = format!("/portForward/{}", target::shown(pod));
        let (messages, mut received) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        for (listener, remote) in listeners {
            let local = listener.local_addr()?;
            writeln!(out, "Forwarding from {local} -> {remote}")?;
            tasks.spawn(accept(listener, remote, client.clone(), path.clone(), messages.clone()));
        }
        out.flush()?;
        while let Some(message) = received.recv().await {
            match message {
                Message::Out(line) => writeln!(out, "{line}").and_then(|()| out.flush())?,
                Message::Err(line) => writeln!(err, "{line}")?,
            }
        }
        Ok(())
    })
}

/// Listeners for one port, and the pod's port.
async fn listen(
    pod: &PodView,
    addresses: &[String],
    forward: Forward<'_>,
) -> Result<Vec<(TcpListener, u16)>, CommandError> {
    let remote = match forward.remote {
        RemotePort::Number(port) => port,
        RemotePort::Name(name) => target::named_port(pod, name)?,
    };
    let mut port = match forward.local {
        LocalPort::Number(port) => port,
        LocalPort::Same => remote,
        LocalPort::Free => 0,
    };
    let mut listeners = Vec::new();
    for address in addresses {
        // Machines without IPv6 have a localhost, too.
        let both: &[(IpAddr, bool)] = match (address.as_str(), address.parse()) {
            ("localhost", _) => &[(Ipv4Addr::LOCALHOST.into(), true), (Ipv6Addr::LOCALHOST.into(), false)],
            (_, Ok(ip)) => &[(ip, true)],
            (_, Err(error)) => {
                let source = io::Error::new(io::ErrorKind::InvalidInput, error);
                return Err(CommandError::Listen { address: address.clone(), source });
            }
        };
        for &(ip, needed) in both {
            let address = SocketAddr::new(ip, port);
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    // One free port is the same for all addresses.
                    port = listener.local_addr()?.port();
                    listeners.push((listener, remote));
                }
                Err(_) if !needed => {}
                Err(source) => return Err(CommandError::Listen { address: address.to_string(), source }),
            }
        }
    }
    Ok(listeners)
}

async fn accept(
    listener: TcpListener,
    remote: u16,
    client: Client,
    path: String,
    messages: mpsc::Sender<Message>,
) {
    let local = listener.local_addr().map_or(0, |address| address.port());
    let mut connections = JoinSet::new();
    loop {
        // Both are cancel-safe.
        let stream = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely; they come back.
                    let line = format!("cannot accept a connection on port {local}: {error}");
                    let _ended = messages.send(Message::Err(line)).await;
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (client, path, messages) = (client.clone(), path.clone(), messages.clone());
        connections.spawn(async move {
            // Nobody reads any more when the command is about to end.
            let _ended = messages.send(Message::Out(format!("Handling connection for {local}"))).await;
            if let Err(error) = carry(stream, remote, &client, &path).await {
                let line =
                    format!("an error occurred forwarding {local} -> {remote}: {}", util::causes(&error));
                let _ended = messages.send(Message::Err(line)).await;
            }
        });
    }
}

/// One connection from its beginning to its end. Each direction ends by itself.
async fn carry(mut stream: TcpStream, remote: u16, client: &Client, path: &str) -> Result<(), CommandError> {
    let mut session = client.upgrade(path, PROTOCOL).await?;
    let port = remote.to_string();
    let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", "0")];
    let lost = |_| CommandError::Lost;
    let (error, mut errors) = session.open(&headers("error")).await.map_err(lost)?;
    error.finish().await.map_err(lost)?;
    let (to_pod, mut from_pod) = session.open(&headers("data")).await.map_err(lost)?;
    let (mut read, mut write) = stream.split();
    let there = async {
        let mut bytes = vec![0; BLOCK];
        // When either end is gone, that shows in the other direction.
        while let Ok(length @ 1..) = read.read(&mut bytes).await {
            if to_pod.send(&bytes[..length]).await.is_err() {
                return;
            }
        }
        let _gone = to_pod.finish().await;
    };
    // Whether it was the pod that ended it.
    let back = async {
        while let Some(piece) = from_pod.recv().await {
            if write.write_all(&piece).await.is_err() {
                return false;
            }
        }
        true
    };
    // A pod that has nothing more to say ends the connection, whatever the client might still send.
    let ended = tokio::select! {
        ended = back => ended,
        () = async { there.await; std::future::pending().await } => false,
    };
    let mut text = Vec::new();
    // What went wrong was said before the end.
    while ended && let Some(piece) = errors.recv().await {
        text.extend_from_slice(&piece);
    }
    if text.is_empty() {
        return Ok(());
    }
    Err(CommandError::Failed(String::from_utf8_lossy(&text).trim().to_owned()))
}
