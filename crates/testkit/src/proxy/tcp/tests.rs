use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A server that sends everything back, and ends when its client does.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    address
}

fn proxy() -> TcpProxy {
    TcpProxy::start(echo()).unwrap()
}

fn connect(proxy: &TcpProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends a word and reads it back.
fn say(stream: &mut TcpStream, word: &str) -> io::Result<String> {
    stream.write_all(word.as_bytes())?;
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

/// How reading ends.
fn end(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut data = Vec::new();
    let end = stream.read_to_end(&mut data).err().map(|error| error.kind());
    (data, end)
}

#[test]
fn an_open_link_carries_everything_to_its_end_and_counts_it() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    stream.write_all(&vec![7; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (data, ended) = end(&mut stream);
    assert_eq!((data.len(), ended), (100_000, None));
    let expected = Counts { connections: 1, sent: 100_000, received: 100_000 };
    // The last bytes are counted a moment after they have arrived.
    crate::env::until("everything is counted", SOON, || {
        let counts = proxy.counts();
        if counts == expected { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .unwrap();
}

#[test]
fn a_silent_link_lets_nothing_through_until_it_opens() {
    let mut proxy = proxy();
    let mut old = connect(&proxy);
    assert_eq!(say(&mut old, "before").unwrap(), "before");
    proxy.set(Link::Silent).unwrap();
    let mut new = connect(&proxy);
    for stream in [&mut old, &mut new] {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = say(stream, "kept").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        stream.set_read_timeout(Some(SOON)).unwrap();
    }
    proxy.set(Link::Open).unwrap();
    for stream in [&mut old, &mut new] {
        let mut late = [0; 4];
        stream.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"kept");
    }
}

#[test]
fn a_link_that_is_down_resets_and_refuses_and_comes_back_on_its_port() {
    let mut proxy = proxy();
    let mut old = connect(&proxy);
    assert_eq!(say(&mut old, "before").unwrap(), "before");
    let address = proxy.address();
    for _ in 0..20 {
        proxy.set(Link::Down).unwrap();
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        proxy.set(Link::Open).unwrap();
        assert_eq!(say(&mut connect(&proxy), "after").unwrap(), "after");
    }
    assert_eq!(proxy.address(), address);
    assert_eq!(end(&mut old), (Vec::new(), Some(ErrorKind::ConnectionReset)));
}

#[test]
fn a_cut_resets_what_there_is_and_nothing_else() {
    let proxy = proxy();
    let mut old = connect(&proxy);
    assert_eq!(say(&mut old, "before").unwrap(), "before");
    proxy.cut();
    assert_eq!(end(&mut old), (Vec::new(), Some(ErrorKind::ConnectionReset)));
    assert_eq!(say(&mut connect(&proxy), "after").unwrap(), "after");
}

#[test]
fn what_is_frozen_stays_so_and_new_connections_are_served() {
    let mut proxy = proxy();
    let mut old = connect(&proxy);
    assert_eq!(say(&mut old, "before").unwrap(), "before");
    proxy.freeze();
    old.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(say(&mut old, "lost").unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(say(&mut connect(&proxy), "after").unwrap(), "after");
    proxy.set(Link::Open).unwrap();
    assert_eq!(say(&mut old, "lost").unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_reset_comes_after_exactly_so_many_bytes_and_once() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    assert_eq!(say(&mut stream, "before").unwrap(), "before");
    proxy.reset_after(10);
    assert_eq!(say(&mut stream, "1234").unwrap(), "1234");
    stream.write_all(b"567890abc").unwrap();
    assert_eq!(end(&mut stream), (b"567890".to_vec(), Some(ErrorKind::ConnectionReset)));
    assert_eq!(say(&mut connect(&proxy), "longer than ten").unwrap(), "longer than ten");
}

#[test]
fn a_slow_link_delays_both_ways() {
    let mut proxy = proxy();
    let mut stream = connect(&proxy);
    let delay = Duration::from_millis(50);
    proxy.set(Link::Slow(delay)).unwrap();
    let start = Instant::now();
    assert_eq!(say(&mut stream, "late").unwrap(), "late");
    assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());
}

#[test]
fn a_server_that_is_not_there_is_a_reset() {
    let nowhere = ReservedPort::new().unwrap();
    let proxy = TcpProxy::start(nowhere.address()).unwrap();
    // The reset may come before the client knows that it was connected.
    let ended = match TcpStream::connect(proxy.address()) {
        Ok(mut stream) => end(&mut stream),
        Err(error) => (Vec::new(), Some(error.kind())),
    };
    assert_eq!(ended, (Vec::new(), Some(ErrorKind::ConnectionReset)));
}
