use std::sync::Arc;

use server::View as _;
use server::local::LocalSocket;
use server::testing::{FakeView, pod, pod_streams, running, snapshot};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::*;

fn serve(view: &Arc<FakeView>) -> (TempDir, JoinHandle<()>) {
    let folder = tempfile::tempdir().unwrap();
    let served = LocalSocket::bind(folder.path()).unwrap().serve(pod_streams(view));
    (folder, tokio::spawn(async { served.await.unwrap() }))
}

#[tokio::test]
async fn what_the_agent_sees_arrives_as_it_is_and_after_each_change() {
    let view = FakeView::new(snapshot(vec![pod("web", running())]));
    let (folder, server) = serve(&view);
    let client = Client::new(folder.path());
    assert_eq!(client.snapshot().await.unwrap(), view.snapshot());
    assert_eq!(client.sources().await.unwrap(), view.sources());
    let mut watch = client.watch().await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Some(view.snapshot()));
    view.set(snapshot(vec![]));
    assert_eq!(watch.next().await.unwrap(), Some(snapshot(vec![])));
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(matches!(watch.next().await, Ok(None) | Err(ClientError::Broken { .. })));
}

#[tokio::test]
async fn no_agent_is_said_with_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().display();
    let expected = format!("no agent runs with --root-dir {shown} (nobody listens on {shown}/agent.sock)");
    let client = Client::new(folder.path());
    assert_eq!(client.snapshot().await.unwrap_err().to_string(), expected);
    // The socket of an agent that is dead.
    drop(UnixListener::bind(socket_path(folder.path())).unwrap());
    assert_eq!(client.snapshot().await.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_agent() {
    let (folder, _server) = serve(&FakeView::new(snapshot(vec![])));
    let error = Client::new(folder.path()).get("/v1/nothing").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused { status, .. } if *status == StatusCode::NOT_FOUND),
        "{error}"
    );
    assert!(error.to_string().contains("refused: 404 Not Found: only /v1/pods,"), "{error}");
}
