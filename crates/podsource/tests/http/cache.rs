//! The last good document on disk.

use std::fs;
use std::path::Path;

use super::*;

fn cached(server: &Server, dir: &Path) -> Settings {
    Settings { cache_dir: Some(dir.to_owned()), ..settings(server) }
}

#[tokio::test]
async fn a_restart_while_the_server_is_down_ends_no_pod() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server.answers_text(list(&[("a", "one"), ("b", "two")]));
    let settings = cached(&server, &dir.path().join("http"));
    let mut source = Source::with(settings.clone());
    let before = source.until_images(&["one", "two"]).await;
    drop((source, server));

    let mut source = Source::with(settings);
    let first = source.until("the pods at once", |state| state.seen).await;
    assert_eq!(images(&first), ["one", "two"]);
    let state = source.until_problem("can not connect to ").await;
    assert!(state.seen && state.problems.len() == 1, "{state:?}");
    assert!(problems(&state)[0].ends_with("; the pods that came from it stay"), "{state:?}");
    let uids =
        |state: &SourceState| state.pods.iter().map(|pod| pod.metadata.uid.clone()).collect::<Vec<_>>();
    assert_eq!(uids(&state), uids(&before));
    assert_eq!(state.read_at, None);
}

#[tokio::test]
async fn what_is_kept_runs_until_the_server_answers_and_with_a_new_password() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server.answers_text(pod("a", "one"));
    let settings = cached(&server, dir.path());
    let mut source = Source::with(settings.clone());
    source.until_images(&["one"]).await;
    drop(source);

    server.stalls_after(b"");
    let url = format!("http://me:secret@{}/pods", server.address);
    let mut source = Source::with(Settings { url, ..settings.clone() });
    let kept = source.until_images(&["one"]).await;
    drop(source);
    server.answers_text(pod("a", "two"));
    let mut source = Source::with(settings);
    let new = source.until_images(&["two"]).await;
    assert_ne!(kept.pods[0].metadata.uid, new.pods[0].metadata.uid);
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert!(!fs::read_to_string(&files[0]).unwrap().contains("secret"));
}

#[tokio::test]
async fn what_is_kept_of_another_url_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server.answers_text(pod("a", "one"));
    let mut source = Source::with(cached(&server, dir.path()));
    source.until_images(&["one"]).await;
    drop(source);
    server.answers(|_| status(500, &[]));
    let mut source = Source::with(Settings { url: url(&server, "/other"), ..cached(&server, dir.path()) });
    let state = source.until_problem("500").await;
    assert!(!state.seen && state.pods.is_empty());
}

#[tokio::test]
async fn that_no_pods_are_wanted_is_kept_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut source = Source::with(cached(&server, dir.path()));
    source.until("the answer", |state| state.seen).await;
    drop(source);
    server.answers(|_| status(500, &[]));
    let mut source = Source::with(cached(&server, dir.path()));
    assert!(source.until_problem("500").await.seen);
}

#[tokio::test]
async fn a_document_that_can_not_be_kept_runs_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("http");
    fs::write(&place, "a file in its place").unwrap();
    let server = Server::start().await;
    server.answers(|request| match request.header("if-none-match") {
        Some(_) => status(304, &[]),
        None => {
            let mut answer = text(pod("a", "one"));
            answer.headers_mut().insert("etag", "\"1\"".parse().unwrap());
            answer
        }
    });
    let mut source = Source::with(cached(&server, &place));
    let state = source.until_problem("can not be kept in ").await;
    assert_eq!(images(&state), ["one"]);
    fs::remove_file(&place).unwrap();
    source.poll();
    source.until_images(&["one"]).await;
    drop(source);
    server.answers(|_| status(500, &[]));
    let mut source = Source::with(cached(&server, &place));
    assert_eq!(images(&*source.until_problem("500").await), ["one"]);
}

#[tokio::test]
async fn damage_on_disk_is_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server.answers_text(pod("a", "one"));
    let mut source = Source::with(cached(&server, dir.path()));
    source.until_images(&["one"]).await;
    drop(source);
    let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "{").unwrap();
    fs::write(dir.path().join("half.tmp"), "{").unwrap();
    let mut source = Source::with(cached(&server, dir.path()));
    source.until_images(&["one"]).await;
    assert!(!dir.path().join("half.tmp").exists());
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains("image: one"), "written anew: {kept}");
}
