//! The connections: one with HTTP/2 for everything, until its streams are used up.
//!
//! A server allows so many streams on a connection (Go: 100) and hyper would let further requests wait for one
//! to end, which a watch does not. So the streams are counted, and one more connection is opened before that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use rustls::ClientConfig;

use super::identity::Identity;
use super::kubeconfig::Target;

/// Requests at once on one connection. Go's servers allow 100, and 250 before 2023.
pub(super) const STREAMS: usize = 90;

/// As Go's dialer: connecting, and probes of an idle connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// HTTP/2 pings when nothing came for so long, and how long the answer may take: a connection that died without
/// a word is noticed within the two. As `client-go` (`HTTP2_READ_IDLE_TIMEOUT_SECONDS` and its companion).
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

type Http = Client<HttpsConnector<HttpConnector>, Body>;

/// Connections under one identity. With another certificate new ones are opened; what runs on the old ones ends
/// there.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Connections>);

#[derive(Debug, Default)]
struct Connections {
    tls: Option<Arc<ClientConfig>>,
    open: Vec<(Http, Stream)>,
}

/// Held by each request until its answer is read to the end.
pub(super) type Stream = Arc<()>;

impl Pool {
    /// A connection with room for one more request.
    pub(super) fn take(&self, target: &Target, identity: &Identity) -> (Http, Stream) {
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.tls.as_ref().is_none_or(|tls| !Arc::ptr_eq(tls, &identity.tls)) {
            connections.tls = Some(Arc::clone(&identity.tls));
            connections.open.clear();
        }
        // The first with room, so that the later ones fall idle and are closed.
        let roomy = connections.open.iter().find(|(_, streams)| Arc::strong_count(streams) <= STREAMS);
        if let Some((http, streams)) = roomy {
            return (http.clone(), Arc::clone(streams));
        }
        let new = (connect(target, &identity.tls), Stream::default());
        connections.open.push(new.clone());
        new
    }

    /// Opens new connections from now on; what runs on those that there are ends there.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open.clear();
    }
}

fn connect(target: &Target, tls: &Arc<ClientConfig>) -> Http {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(CONNECT_TIMEOUT));
    let builder = HttpsConnectorBuilder::new().with_tls_config(ClientConfig::clone(tls)).https_or_http();
    let https = match &target.server_name {
        Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
        None => builder,
    };
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(https.enable_all_versions().wrap_connector(tcp))
}
