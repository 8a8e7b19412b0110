//! WebSockets straight to 10250, with all protocols that clients of the last years speak.

use serde_json::{Value, json};
use testkit::env::Line;

use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::SOON;
use super::direct::{Direct, Socket, block_on, node_with_box, receive, send};

/// All output by channel up to the status, and the status.
async fn until_status(socket: &mut Socket) -> ([Vec<u8>; 3], Value) {
    let mut output = [vec![], vec![], vec![]];
    loop {
        let (channel, bytes) = receive(socket).await;
        match channel {
            3 => return (output, serde_json::from_slice(&bytes).unwrap()),
            other => output[usize::from(other)].extend(bytes),
        }
    }
}

fn exec(script: &str) -> String {
    let script = form_urlencoded::byte_serialize(script.as_bytes()).collect::<String>();
    format!("/exec/default/box/app?command=sh&command=-c&command={script}&input=1&output=1&error=1")
}

/// What the status says of exit code 9.
fn is_nine(status: &Value) -> bool {
    status["reason"] == "NonZeroExitCode"
        && status["details"]["causes"][0] == json!({"reason": "ExitCode", "message": "9"})
}

fn websockets_reach_into_containers(line: Line) {
    let node = node_with_box(line);
    let direct = Direct::new(&node);
    block_on(async {
        let path = exec("head -c 300000 | sha256sum; echo err >&2; exit 9");
        let mut socket = direct.websocket(&path, "v4.channel.k8s.io").await.unwrap();
        for _ in 0..3 {
            send(&mut socket, 0, &[7; 100_000]).await;
        }
        let ([_, out, err], status) = until_status(&mut socket).await;
        let sum = "08f166476de183f7a1b2874d544d37912aaf8d19b92013e1aafe233ba231024a  -\n";
        assert_eq!((String::from_utf8_lossy(&out).as_ref(), err.as_slice()), (sum, &b"err\n"[..]));
        assert!(is_nine(&status), "{status}");

        // A terminal hears of its size.
        for protocol in ["v4.channel.k8s.io", "v5.channel.k8s.io"] {
            let path = "/exec/default/box/app?command=sh&input=1&output=1&tty=1";
            let mut socket = direct.websocket(path, protocol).await.unwrap();
            send(&mut socket, 4, br#"{"Width": 77, "Height": 33}"#).await;
            send(&mut socket, 0, b"until stty size | grep '33 77'; do usleep 50000; done; exit\n").await;
            let ([_, out, _], status) = until_status(&mut socket).await;
            assert!(String::from_utf8_lossy(&out).contains("33 77\r\n"), "{out:?}");
            assert_eq!(status["status"], "Success");
        }

        // A port: data and errors are a channel each, and begin with the port.
        let path = "/portForward/default/box?port=7000";
        let mut socket = direct.websocket(path, "v4.channel.k8s.io").await.unwrap();
        send(&mut socket, 0, b"echo me").await;
        let mut data = vec![];
        while data.len() < 2 + 7 {
            let (channel, bytes) = receive(&mut socket).await;
            if channel == 0 {
                data.extend(bytes);
            }
        }
        assert_eq!(data, [&7000_u16.to_le_bytes()[..], b"echo me"].concat());

        ends_are_told_one_by_one(&direct).await;
        spdy_goes_through_messages(&direct).await;
    });
}

#[test]
fn websockets_reach_into_containers_of_containerd_1_6() {
    websockets_reach_into_containers(Line::V1_6);
}

#[test]
fn websockets_reach_into_containers_of_containerd_2_1() {
    websockets_reach_into_containers(Line::V2_1);
}

/// Version 5: the end of stdin is heard while the way back is open.
async fn ends_are_told_one_by_one(direct: &Direct) {
    let v5 = "v5.channel.k8s.io";
    let socket = direct.websocket(&exec("cat; echo err >&2; exit 9"), v5).await.unwrap();
    let body: Vec<u8> = (0..4_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut into, mut from) = socket.split();
    let sent = async {
        for piece in body.chunks(100_000) {
            into.send(Message::Binary([&[0], piece].concat().into())).await.unwrap();
        }
        into.send(Message::Binary(vec![255, 0].into())).await.unwrap();
    };
    let received = async {
        let mut output = [vec![], vec![], vec![], vec![]];
        while let Some(Ok(message)) = from.next().await {
            match message {
                Message::Binary(bytes) => output[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
                // The server is the first to part, after the status.
                Message::Close(Some(goodbye)) if goodbye.code == CloseCode::Normal => break,
                other => panic!("{other:?}"),
            }
        }
        output
    };
    let both = async { tokio::join!(sent, received) };
    let ((), [_, out, err, status]) = tokio::time::timeout(SOON, both).await.unwrap();
    assert!(out == body, "{} of {} bytes came back", out.len(), body.len());
    assert_eq!(err, b"err\n");
    assert!(is_nine(&serde_json::from_slice(&status).unwrap()), "{status:?}");

    // Output alone, and what cannot be run.
    let path = "/exec/default/box/app?command=echo&command=hello&output=1";
    let mut socket = direct.websocket(path, v5).await.unwrap();
    let ([_, out, _], status) = until_status(&mut socket).await;
    assert_eq!((out.as_slice(), &status["status"]), (&b"hello\n"[..], &json!("Success")));
    let path = "/exec/default/box/app?command=no-such-program&output=1&error=1";
    let (_, status) = until_status(&mut direct.websocket(path, v5).await.unwrap()).await;
    assert!(status["status"] == "Failure" && status.to_string().contains("no-such-program"), "{status}");

    // What is not there is told before anything is switched.
    let refused = direct.websocket("/exec/default/nope/app?command=id&output=1", v5).await;
    assert!(matches!(&refused, Err(Error::Http(response)) if response.status() == 404), "{refused:?}");
}

/// A SPDY frame that opens a stream with these headers.
fn syn_stream(id: u32, first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
    let mut pairs = (headers.len() as u32).to_be_bytes().to_vec();
    headers.iter().for_each(|(name, value)| pairs.extend([text(name), text(value)].concat()));
    let length = pairs.len() as u16;
    let zlib: &[u8] = if first { &[0x78, 1] } else { &[] };
    let block = [zlib, &[0], &length.to_le_bytes(), &(!length).to_le_bytes(), &pairs, &[0, 0, 0, 0xff, 0xff]]
        .concat();
    let length = (block.len() as u32 + 10).to_be_bytes();
    [&[0x80, 3, 0, 1], &length, &id.to_be_bytes(), &[0; 6][..], &block].concat()
}

/// The way of newer kubectls to forward ports.
async fn spdy_goes_through_messages(direct: &Direct) {
    let mut socket =
        direct.websocket("/portForward/default/box", "SPDY/3.1+portforward.k8s.io").await.unwrap();
    for (id, kind) in [(1, "error"), (3, "data")] {
        let headers = [("streamtype", kind), ("port", "7000"), ("requestid", "0")];
        let frame = syn_stream(id, id == 1, &headers);
        socket.send(Message::Binary(frame.into())).await.unwrap();
    }
    let mut seen = vec![];
    let count = |seen: &[u8], wanted: &[u8]| seen.windows(wanted.len()).filter(|at| *at == wanted).count();
    let mut until = async |socket: &mut Socket, wanted: &[u8], times: usize| {
        while count(&seen, wanted) < times {
            match tokio::time::timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap() {
                Message::Binary(bytes) => seen.extend_from_slice(&bytes),
                other => panic!("{other:?} after {seen:?}"),
            }
        }
    };
    // Both are taken.
    until(&mut socket, &[0x80, 3, 0, 2], 2).await;
    let data = [&3_u32.to_be_bytes()[..], &7_u32.to_be_bytes(), b"echo me"].concat();
    socket.send(Message::Binary(data.clone().into())).await.unwrap();
    until(&mut socket, &data, 1).await;
}
