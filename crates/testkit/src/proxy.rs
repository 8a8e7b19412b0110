//! Proxies that stand between an agent and an API server and bring about what a network and a server at odds do.
//!
//! - [`TcpProxy`] knows bytes and connections: slow, silent, cut, refused, reset in mid-stream.
//! - [`HttpProxy`] ends TLS with a certificate of the cluster's own authority and knows requests: answers of its
//!   own (429, 500), late answers, answers that are cut short, break off or fall silent. It notes every request.
//!
//! Each has a thread of its own, so a test may block. A `TcpProxy` can stand in front of an `HttpProxy`.
//!
//! Must not know what is proxied beyond HTTP: no Kubernetes objects, except the `Status` of an error.

mod body;
mod http;
mod tcp;

pub use http::{Exchange, Fault, HttpProxy};
pub use tcp::{Counts, Link, TcpProxy};

use tokio::runtime::{Builder, Runtime};

/// One thread that carries all connections of a proxy.
#[derive(Debug)]
struct Background(Option<Runtime>);

impl Background {
    fn new() -> std::io::Result<Self> {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()
            .map(Some)
            .map(Self)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<tokio::task::JoinHandle<()>> {
        self.0.as_ref().map(|runtime| runtime.spawn(task))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Waiting for the thread is forbidden where an async test drops a proxy.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
