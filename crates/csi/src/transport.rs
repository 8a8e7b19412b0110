//! A connection to a unix socket.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// gRPC carries error messages in headers; the usual 16 KiB would turn a long one into a broken stream.
const MAX_HEADERS: u32 = 1 << 20;

/// Connects with the first call. Within a tokio runtime.
pub(crate) fn channel(socket: &Path) -> Channel {
    let socket: Arc<Path> = socket.into();
    let dial = tower::service_fn(move |_: Uri| {
        let socket = Arc::clone(&socket);
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(&socket).await?)) }
    });
    // The authority that the kubelet sends.
    Endpoint::from_static("http://localhost")
        .http2_max_header_list_size(MAX_HEADERS)
        .connect_with_connector_lazy(dial)
}
