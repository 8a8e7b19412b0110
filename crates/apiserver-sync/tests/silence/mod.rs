//! A connection that dies without a word, as behind a firewall that forgot it. It takes 45 seconds to be sure of
//! that, so it is among the tests that `cargo xtask test` runs apart.

use std::time::{Duration, Instant};

use apiserver_sync::client::{Limit, RestConfig};
use futures::StreamExt as _;
use kube::api::{Api, WatchParams};
use kube_model::core::Pod;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::server::Server;

/// Passes bytes on to `port` until told to stop, and then holds the old connections open; new ones pass.
async fn relay(port: u16) -> (u16, watch::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let (freeze, frozen) = watch::channel(());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut frozen = frozen.clone();
            frozen.mark_unchanged();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => return,
                    _ = frozen.changed() => {}
                }
                std::future::pending::<()>().await;
            });
        }
    });
    (own, freeze)
}

#[tokio::test]
async fn a_watch_on_a_dead_connection_ends_and_the_next_request_takes_another() {
    let mut server = Server::start().await;
    let (port, freeze) = relay(server.port()).await;
    let access = server.access_with(&json!({"server": format!("https://localhost:{port}")}), &json!({}));
    let pods: Api<Pod> = Api::all(access.client(RestConfig::limited(Limit::new(50, 100))));
    let params = WatchParams::default();
    let (watch, _stream) = tokio::join!(pods.watch(&params, "1"), async { server.api.next().await.stream() });
    let mut watch = Box::pin(watch.unwrap());
    freeze.send_replace(());
    let start = Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    assert!(
        start.elapsed() > Duration::from_secs(30),
        "by a ping, not by the network: {:?}",
        start.elapsed()
    );

    let list =
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []});
    let params = kube::api::ListParams::default();
    let (listed, ()) = tokio::join!(pods.list(&params), async { server.api.next().await.json(200, &list) });
    assert!(listed.unwrap().items.is_empty());
    assert_eq!(server.connections(), 2);
}
