//! Taking connections from a listener.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::task::JoinSet;

use crate::{ConnectionSlots, Slot};

/// Pause after the system had no connection for us.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves each of `incoming`, with its peer's address, with `serve`, at most `most` at once: a new one may have the slot
/// of one that is idle, or waits. Goes on until it is dropped; then `connections` has those that are open.
pub async fn serve_all<C, Fut>(
    mut incoming: impl Stream<Item = io::Result<(C, Option<IpAddr>)>> + Unpin,
    most: usize,
    connections: &mut JoinSet<()>,
    serve: impl Fn(C, Arc<Slot>) -> Fut,
) where
    Fut: Future<Output = ()> + Send + 'static,
{
    let slots = ConnectionSlots::new(most);
    loop {
        // Both arms are cancel-safe: a stream's `next` and `join_next` lose nothing when dropped.
        tokio::select! {
            Some(_) = connections.join_next() => {}
            Some(accepted) = incoming.next() => match accepted {
                Ok((connection, peer)) => {
                    let slot = slots.enter(peer).await;
                    let served = serve(connection, Arc::clone(&slot));
                    connections.spawn(async move {
                        tokio::select! {
                            () = served => {}
                            // It is idle: nothing that was asked for has been done without an answer.
                            () = slot.evicted() => {}
                        }
                    });
                }
                Err(error) => {
                    // A client that went away, or no file descriptors left: both pass.
                    tracing::warn!(error = %util::causes(&error), "Cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            else => return,
        }
    }
}
