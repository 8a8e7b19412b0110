use http::Method;
use tokio::io::{DuplexStream, duplex};

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let header = |(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value));
    pairs.iter().copied().map(header).collect()
}

const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };

#[test]
fn what_the_runtime_speaks_itself_is_not_translated() {
    for (pairs, session, ports) in [
        (&[("upgrade", "websocket"), ("sec-websocket-protocol", "v5.channel.k8s.io")][..], true, false),
        (
            &[("upgrade", "WebSocket"), ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io")],
            true,
            false,
        ),
        (&[("upgrade", "websocket"), ("sec-websocket-protocol", "v4.channel.k8s.io")], false, false),
        (&[("upgrade", "websocket"), ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")], false, true),
        (&[("upgrade", "SPDY/3.1"), ("sec-websocket-protocol", "v5.channel.k8s.io")], false, false),
        (&[("upgrade", "websocket")], false, false),
    ] {
        let headers = headers(pairs);
        assert_eq!(Translation::of_session(&headers, ALL), session.then_some(Translation::Channels(ALL)));
        assert_eq!(Translation::of_ports(&headers), ports.then_some(Translation::Tunnel), "{pairs:?}");
    }
}

#[test]
fn a_handshake_is_answered_or_refused() {
    let mut request = Request::new(());
    *request.headers_mut() = headers(&[
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ]);
    let answer = Translation::Channels(ALL).accept(&request).unwrap();
    assert_eq!(answer.status(), 101);
    // The example of RFC 6455.
    assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    *request.method_mut() = Method::POST;
    assert!(Translation::Channels(ALL).accept(&request).is_err());
}

/// A client, and a runtime's server that has taken all streams.
async fn session(wanted: Streams) -> (WebSocketStream<DuplexStream>, DuplexStream) {
    let (client, ours) = duplex(1 << 20);
    let (theirs, mut runtime) = duplex(1 << 20);
    tokio::spawn(Translation::Channels(wanted).carry(ours, theirs));
    let streams = Opened::new(wanted).streams();
    let mut opened = vec![0; spdy::open(&streams).len()];
    runtime.read_exact(&mut opened).await.unwrap();
    assert_eq!(opened, spdy::open(&streams));
    for (id, _) in streams {
        runtime.write_all(&[0x80, 3, 0, 2, 0, 0, 0, 4]).await.unwrap();
        runtime.write_u32(id).await.unwrap();
    }
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let first = if wanted.stdout { STDOUT } else { STATUS };
    assert_eq!(next(&mut client).await, [first], "an empty message first");
    (client, runtime)
}

async fn next(client: &mut WebSocketStream<DuplexStream>) -> Vec<u8> {
    match client.next().await.unwrap().unwrap() {
        Message::Binary(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn streams_and_channels_are_the_same_to_both_ends() {
    let (mut client, mut runtime) = session(ALL).await;
    for message in [&[0, b'i', b'n'][..], &[1, b'x'], &[7], &[], &[255, 4], &[255, 0]] {
        client.send(Message::Binary(message.to_vec().into())).await.unwrap();
    }
    client.send(Message::Text(Utf8Bytes::from_static("no channel"))).await.unwrap();
    let data = |stream, bytes: &[u8], ended| Frame::Data { stream, bytes: bytes.to_vec(), ended };
    assert_eq!(spdy::read(&mut runtime).await.unwrap(), data(3, b"in", false));
    assert_eq!(spdy::read(&mut runtime).await.unwrap(), data(3, b"", true));

    // A ping is answered, what belongs to no channel is dropped, and the end of all is the status.
    runtime.write_all(&spdy::pong(2)).await.unwrap();
    assert_eq!(spdy::read(&mut runtime).await.unwrap(), Frame::Ping(2));
    for frame in [
        spdy::data(5, b"out", false),
        spdy::data(9, b"whose?", false),
        spdy::data(1, b"{\"status\":", false),
        spdy::data(7, b"err", true),
        // Whole, though its end is not told.
        spdy::data(1, b"1}", false),
        spdy::data(5, b"late", true),
    ] {
        runtime.write_all(&frame).await.unwrap();
    }
    for expected in [&b"\x01out"[..], b"\x02err", b"\x01late", b"\x03{\"status\":1}"] {
        assert_eq!(next(&mut client).await, expected);
    }
    assert_eq!(client.next().await.unwrap().unwrap(), goodbye());
}

#[tokio::test]
async fn an_end_without_a_word_is_success_and_a_cut_is_told() {
    let only = Streams { stdin: false, stdout: true, stderr: false, tty: false };
    let (mut client, mut runtime) = session(only).await;
    runtime.write_all(&spdy::data(3, b"", true)).await.unwrap();
    runtime.write_all(&spdy::data(1, b"", true)).await.unwrap();
    assert_eq!(next(&mut client).await, b"\x03{\"metadata\":{},\"status\":\"Success\"}");

    let (mut client, runtime) = session(only).await;
    drop(runtime);
    let said = String::from_utf8(next(&mut client).await).unwrap();
    assert!(said.starts_with('\u{3}') && said.contains("\"reason\":\"InternalError\""), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_status_is_the_end_though_the_runtime_ends_no_stream() {
    let (mut client, mut runtime) = session(ALL).await;
    runtime.write_all(&spdy::data(5, b"out", false)).await.unwrap();
    runtime.write_all(&spdy::data(1, b"{}", false)).await.unwrap();
    assert_eq!(next(&mut client).await, b"\x01out");
    assert_eq!(next(&mut client).await, b"\x03{}");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_runtimes_leg() {
    let (client, mut runtime) = session(ALL).await;
    drop(client);
    assert!(spdy::read(&mut runtime).await.is_err());
}

#[tokio::test]
async fn a_tunnel_carries_bytes_as_they_are() {
    let (client, ours) = duplex(1 << 20);
    let (theirs, mut runtime) = duplex(1 << 20);
    tokio::spawn(Translation::Tunnel.carry(ours, theirs));
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    client.send(Message::Binary(b"there".to_vec().into())).await.unwrap();
    let mut bytes = [0; 5];
    runtime.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"there");
    runtime.write_all(b"back").await.unwrap();
    assert_eq!(next(&mut client).await, b"back");
    drop(runtime);
    assert_eq!(client.next().await.unwrap().unwrap(), goodbye());
}
