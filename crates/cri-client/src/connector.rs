//! How a connection comes about: a unix socket, or what a caller gives.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::endpoint::Endpoint;

/// A byte stream to a runtime.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens connections to one endpoint.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) endpoint: Arc<Endpoint>,
    connect: Arc<dyn Fn() -> Connecting + Send + Sync>,
}

impl Connector {
    pub(crate) fn new<C, F, S>(endpoint: Endpoint, connect: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connect = Arc::new(move || -> Connecting {
            let stream = connect();
            Box::pin(async { Ok(Box::new(stream.await?) as Box<dyn Stream>) })
        });
        Self { endpoint: Arc::new(endpoint), connect }
    }

    pub(crate) fn unix(endpoint: Endpoint) -> Self {
        let path = endpoint.path().map(ToOwned::to_owned).unwrap_or_default();
        Self::new(endpoint, move || UnixStream::connect(path.clone()))
    }

    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        (self.connect)().await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.endpoint).finish()
    }
}
