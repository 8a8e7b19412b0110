//! One object that belongs to no namespace, as the server has it. Of this node's own what others write into it, a cordon or
//! the verdict that the node is gone, is heard of at once (upstream `pkg/kubelet/kubelet.go`).

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use kube_model::k8s_openapi::ClusterResourceScope;
use kube_model::k8s_openapi::serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::pace::paced;
use crate::retry_after::retry_after;

/// Watches the object of this name until `cancel` is cancelled; `None` while there is none, or it is not known.
/// A change of `reached` ends the pause after a failure. Must be called within a tokio runtime.
pub fn watch<K>(
    client: Client,
    name: &str,
    reached: watch::Receiver<()>,
    cancel: CancellationToken,
) -> watch::Receiver<Option<Arc<K>>>
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (publish, known) = watch::channel(None);
    // From the server's cache: with pages kube would leave out that it is meant.
    let config = watcher::Config { page_size: None, ..watcher::Config::default().any_semantic() };
    let config = config.fields(&format!("metadata.name={name}"));
    let (api, what) = (Api::<K>::all(paced(client)), format!("{} {name}", K::kind(&())));
    let events = move || watcher(api.clone(), config.clone()).default_backoff().boxed();
    tokio::spawn(async move { cancel.run_until_cancelled(follow(events, &what, reached, publish)).await });
    known
}

async fn follow<K, S>(
    begin: impl Fn() -> S,
    what: &str,
    mut reached: watch::Receiver<()>,
    publish: watch::Sender<Option<Arc<K>>>,
) where
    S: Stream<Item = Result<Event<K>, watcher::Error>> + Unpin,
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
            Ok(Event::InitApply(object)) => listed = Some(Arc::new(object)),
            Ok(Event::InitDone) => {
                publish.send_replace(listed.take());
            }
            Ok(Event::Apply(object)) => {
                publish.send_replace(Some(Arc::new(object)));
            }
            Ok(Event::Delete(_)) => {
                publish.send_replace(None);
            }
            Err(error) => {
                let text = util::causes(&error);
                if text != complaint {
                    tracing::warn!("{what} can not be watched: {text}; what is known of it stays");
                    complaint = text;
                }
                continue;
            }
        }
        complaint.clear();
    }
}
