//! A client that tells when the server accepts a request: kube's watcher says nothing when a watch goes on after
//! a failure.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};
use tower::service_fn;

/// Least time from one request to the next. A server that ends each watch as soon as it began is asked again at
/// once by kube's watcher.
const PACE: Duration = Duration::from_millis(100);

/// `client`, and what changes each time the server answers with success.
pub(super) fn client(client: Client) -> (Client, watch::Receiver<()>) {
    let (accept, accepted) = watch::channel(());
    let namespace = client.default_namespace().to_owned();
    let free = Arc::new(Mutex::new(Instant::now()));
    let service = service_fn(move |request| {
        let (client, accept, free) = (client.clone(), accept.clone(), Arc::clone(&free));
        async move {
            let mut free = free.lock().await;
            sleep_until(*free).await;
            *free = Instant::now() + PACE;
            drop(free);
            let answer = client.send(request).await?;
            if answer.status().is_success() {
                accept.send_replace(());
            }
            Ok::<_, kube::Error>(answer)
        }
    });
    (Client::new(service, namespace), accepted)
}
