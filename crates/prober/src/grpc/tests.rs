//! Against real servers on loopback.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIMIT: Duration = Duration::from_secs(20);

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Serves these routes; keeps the headers of the last request.
async fn serve(routes: Routes) -> (u16, Arc<Mutex<HeaderMap>>, AbortOnDropHandle<()>) {
    let (listener, port) = listen().await;
    let headers = Arc::new(Mutex::new(HeaderMap::new()));
    let seen = headers.clone();
    let layer = tower::util::MapRequestLayer::new(move |request: http::Request<_>| {
        *seen.lock().unwrap() = request.headers().clone();
        request
    });
    let server = Server::builder().layer(layer).add_routes(routes);
    let task = tokio::spawn(async move {
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    (port, headers, AbortOnDropHandle::new(task))
}

async fn health() -> (HealthReporter, Routes) {
    let (reporter, service) = tonic_health::server::health_reporter();
    (reporter, Routes::new(service))
}

fn failure(text: impl Into<String>) -> Verdict {
    Verdict::Failure(text.into())
}

#[tokio::test]
async fn serving_is_a_success_and_everything_else_a_failure() {
    let (reporter, routes) = health().await;
    let (port, headers, _server) = serve(routes).await;
    assert_eq!(probe(HERE, port, "", LIMIT).await, Verdict::Success, "the whole server");
    let agent = headers.lock().unwrap()["user-agent"].to_str().unwrap().to_owned();
    assert!(agent.starts_with("kube-probe/1.36"), "{agent}");

    reporter.set_service_status("db", tonic_health::ServingStatus::NotServing).await;
    let expected = failure("service unhealthy (responded with \"NOT_SERVING\")");
    assert_eq!(probe(HERE, port, "db", LIMIT).await, expected);
    reporter.set_service_status("db", tonic_health::ServingStatus::Unknown).await;
    let expected = failure("service unhealthy (responded with \"UNKNOWN\")");
    assert_eq!(probe(HERE, port, "db", LIMIT).await, expected);
    reporter.set_service_status("db", tonic_health::ServingStatus::Serving).await;
    assert_eq!(probe(HERE, port, "db", LIMIT).await, Verdict::Success);

    let Verdict::Failure(text) = probe(HERE, port, "nobody", LIMIT).await else { panic!("no such service") };
    let expected = "error: health rpc probe failed: rpc error: code = NotFound desc = ";
    assert!(text.starts_with(expected), "{text}");
}

#[tokio::test]
async fn a_server_without_the_health_service_fails() {
    let (port, _, _server) = serve(Routes::default()).await;
    let Verdict::Failure(text) = probe(HERE, port, "", LIMIT).await else { panic!("no health service") };
    let expected = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ";
    assert!(text.starts_with(expected), "{text}");
}

#[tokio::test]
async fn a_closed_port_fails() {
    let (listener, port) = listen().await;
    drop(listener);
    let address = format!("127.0.0.1:{port}");
    let expected = format!(
        "error: failed to connect service at \"{address}\": dial tcp {address}: connect: connection refused"
    );
    assert_eq!(probe(HERE, port, "", LIMIT).await, failure(expected));
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let (listener, port) = listen().await;
    let _server = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }));
    let expected = "timeout: health rpc did not complete within 2s";
    assert_eq!(probe(HERE, port, "", Duration::from_secs(2)).await, failure(expected));
}

#[tokio::test]
async fn garbage_fails() {
    let (listener, port) = listen().await;
    let _server = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }));
    let Verdict::Failure(text) = probe(HERE, port, "", LIMIT).await else { panic!("no gRPC there") };
    assert!(text.starts_with("error: health rpc probe failed: rpc error: code = "), "{text}");
}
