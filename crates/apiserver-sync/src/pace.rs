//! A client that leaves time between its requests: kube's watcher asks a server at once again that ends each watch as
//! soon as it began, and would use up what the client allows to pods.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tower::service_fn;

/// Least time from one request to the next.
const PACE: Duration = Duration::from_millis(500);

/// `client`, with [`PACE`] between the beginnings of its requests.
pub(crate) fn paced(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let free = Arc::new(Mutex::new(Instant::now()));
    let service = service_fn(move |request| {
        let (client, free) = (client.clone(), Arc::clone(&free));
        async move {
            let mut free = free.lock().await;
            sleep_until(*free).await;
            *free = Instant::now() + PACE;
            drop(free);
            client.send(request).await
        }
    });
    Client::new(service, namespace)
}
