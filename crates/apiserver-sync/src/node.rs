//! This node's object as the server has it: what others write into it, a cordon or the verdict that the node is gone,
//! is heard of at once. Rule: upstream `pkg/kubelet/kubelet.go`.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use kube_model::core::Node;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::pace::paced;
use crate::retry_after::retry_after;

/// Watches the Node of this name until `cancel` is cancelled; `None` while there is none, or it is not known.
/// A change of `reached` ends the pause after a failure. Must be called within a tokio runtime.
pub fn watch(
    client: Client,
    name: &str,
    reached: watch::Receiver<()>,
    cancel: CancellationToken,
) -> watch::Receiver<Option<Arc<Node>>> {
    let (publish, known) = watch::channel(None);
    // From the server's cache: with pages kube would leave out that it is meant.
    let config = watcher::Config { page_size: None, ..watcher::Config::default().any_semantic() };
    let config = config.fields(&format!("metadata.name={name}"));
    let api = Api::all(paced(client));
    let events = move || watcher(api.clone(), config.clone()).default_backoff().boxed();
    tokio::spawn(async move { cancel.run_until_cancelled(follow(events, reached, publish)).await });
    known
}

async fn follow<S>(
    begin: impl Fn() -> S,
    mut reached: watch::Receiver<()>,
    publish: watch::Sender<Option<Arc<Node>>>,
) where
    S: Stream<Item = Result<Event<Node>, watcher::Error>> + Unpin,
{
    let mut events = begin();
    let (mut listed, mut pause, mut complaint) = (None, None, String::new());
    loop {
        // All arms are cancel-safe: a stream keeps what it has not delivered, and so does `changed`; what is left of a
        // pause does not matter once the server can be reached again.
        let event = tokio::select! {
            event = async { sleep(pause.unwrap_or_default()).await; events.next().await } => event,
            Ok(()) = reached.changed(), if pause.is_some() => {
                (events, pause) = (begin(), None);
                continue;
            }
        };
        let Some(event) = event else { return };
        // kube's own pause comes behind the one that the server wants.
        pause = event.as_ref().err().map(|error| retry_after(error));
        match event {
            Ok(Event::Init) => {
                // Only the beginning of a try.
                listed = None;
                continue;
            }
            Ok(Event::InitApply(node)) => listed = Some(Arc::new(node)),
            Ok(Event::InitDone) => {
                publish.send_replace(listed.take());
            }
            Ok(Event::Apply(node)) => {
                publish.send_replace(Some(Arc::new(node)));
            }
            Ok(Event::Delete(_)) => {
                publish.send_replace(None);
            }
            Err(error) => {
                let text = util::causes(&error);
                if text != complaint {
                    tracing::warn!("the node can not be watched: {text}; what is known of it stays");
                    complaint = text;
                }
                continue;
            }
        }
        complaint.clear();
    }
}
