use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

fn start() -> Healthz {
    Healthz::bind("127.0.0.1:0".parse().unwrap()).unwrap().serve().unwrap()
}

/// The status line and the body of the answer to `request`.
fn ask(healthz: &Healthz, request: &str) -> (String, String) {
    answer_of(send(healthz.address(), request))
}

fn send(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn answer_of(mut stream: TcpStream) -> (String, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn healthz_answers_get_and_nothing_else() {
    let healthz = start();
    for (request, status, body) in [
        ("GET /healthz", "200 OK", "ok"),
        ("GET /healthz?verbose", "200 OK", "ok"),
        ("GET /healthz/ping", "200 OK", "ok"),
        ("HEAD /healthz", "200 OK", ""),
        ("POST /healthz", "405 Method Not Allowed", "only GET is served here\n"),
        ("GET /", "404 Not Found", "404 page not found\n"),
        ("GET /pods", "404 Not Found", "404 page not found\n"),
    ] {
        let (line, text) = ask(&healthz, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(
            (line.as_str(), text.as_str()),
            (format!("HTTP/1.1 {status}").as_str(), body),
            "{request}"
        );
    }
}

#[test]
fn a_request_names_one_host() {
    let healthz = start();
    for headers in ["", "Host: x\r\nHost: x\r\n", "Host: x y\r\n"] {
        let (line, _) = ask(&healthz, &format!("GET /healthz HTTP/1.1\r\n{headers}\r\n"));
        assert_eq!(line, "HTTP/1.1 400 Bad Request", "{headers:?}");
    }
    assert_eq!(ask(&healthz, "GET /healthz HTTP/1.0\r\n\r\n").1, "ok");
}

#[test]
fn who_asks_before_it_is_served_waits() {
    let bound = Healthz::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut early = send(bound.address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    early.set_nonblocking(true).unwrap();
    assert_eq!(early.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    early.set_nonblocking(false).unwrap();
    let _healthz = bound.serve().unwrap();
    assert_eq!(answer_of(early).1, "ok");
}

#[test]
fn a_taken_address_is_an_error_that_names_it() {
    let healthz = start();
    let error = Healthz::bind(healthz.address()).unwrap_err();
    assert_eq!(error.to_string(), format!("listening on {} for /healthz", healthz.address()));
    assert_eq!(
        std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap().kind(),
        io::ErrorKind::AddrInUse
    );
}

#[test]
fn silent_clients_make_room_for_others() {
    let healthz = start();
    let silent: Vec<_> =
        (0..MOST_CONNECTIONS + 8).map(|_| TcpStream::connect(healthz.address()).unwrap()).collect();
    // All places are taken, so this is answered once the silent ones were thrown out.
    let (line, body) = ask(&healthz, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((line.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "ok"));
    drop(silent);
}

#[test]
fn the_address_is_free_again_after_the_end() {
    let healthz = start();
    let address = healthz.address();
    drop(healthz);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    Healthz::bind(address).unwrap();
}

#[test]
fn a_check_is_counted_when_all_are_asked_for() {
    let checks = Arc::<HealthChecks>::default();
    let bound = Healthz::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let healthz = bound.counting(Arc::clone(&checks)).serve().unwrap();
    ask(&healthz, "GET /healthz HTTP/1.0\r\n\r\n");
    ask(&healthz, "GET /healthz/ping HTTP/1.0\r\n\r\n");
    let mut out = crate::metrics::Text::default();
    checks.write(&mut out);
    let line = "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 1\n";
    assert!(out.finish().ends_with(line));
}

#[test]
fn work_that_waits_for_a_thread_for_ever_is_told() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.max_blocking_threads(1).build().unwrap();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
    runtime.spawn_blocking(move || released.recv());
    let checks = Arc::new(HealthChecks::impatient(runtime.handle().clone()));
    let bound = Healthz::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let healthz = bound.counting(checks).serve().unwrap();
    let get = |path: &str| ask(&healthz, &format!("GET {path} HTTP/1.0\r\n\r\n"));
    assert_eq!(get("/healthz").1, "ok", "what it has put to the queue may begin yet");
    let failed = "HTTP/1.0 500 Internal Server Error";
    let (line, body) = get("/healthz");
    let want = "[+]ping ok\n[-]blocking-work failed: reason withheld\nhealthz check failed\n";
    assert_eq!((line.as_str(), body.as_str()), (failed, want));
    let (line, body) = get("/healthz/blocking-work");
    let want = "internal server error: no blocking work has begun for 0 s: all threads wait for files\n";
    assert_eq!((line.as_str(), body.as_str()), (failed, want));
    assert_eq!(get("/healthz/ping").1, "ok");
    drop(release);
}
