//! As much of SPDY/3.1 as a client of the runtime's streaming server needs: it opens all streams, sends data and
//! ends, and of what comes it wants data, ends and pings. Neither side uses flow control: TCP's is enough.
//!
//! Headers go out in blocks of deflate that are stored, not compressed; what comes in headers is of no interest.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The first bytes of a control frame: SPDY version 3.
const CONTROL: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const HEADERS: u16 = 8;

/// The flag of a sender's last frame of a stream.
const FIN: u8 = 1;

/// Most bytes of data a frame.
pub(super) const MOST_DATA: usize = 1 << 20;

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// It has taken a stream.
    Reply(u32),
    Data {
        stream: u32,
        bytes: Vec<u8>,
        ended: bool,
    },
    /// A stream is over, with headers or a reset.
    Ended(u32),
    /// To be sent back.
    Ping(u32),
    /// Nothing that matters.
    Other,
}

/// Opens the streams of one connection. Its frames are sent in the order in which they were made: all headers of a
/// connection are one zlib stream.
#[derive(Debug, Default)]
pub(super) struct Opener {
    has_begun: bool,
}

impl Opener {
    /// The frame that opens a stream with these headers, names in lower case and all of it at most some kilobytes.
    pub(super) fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut pairs = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            pairs.extend((text.len() as u32).to_be_bytes());
            pairs.extend(text.as_bytes());
        }
        // Go's reader gives out a block once it has seen the empty one behind it, which is what a flush writes.
        let mut block = if self.has_begun { vec![] } else { vec![0x78, 0x01] };
        self.has_begun = true;
        stored(&mut block, &pairs);
        stored(&mut block, &[]);
        // The ID, that of no other stream, priority and slot.
        let body = [&stream.to_be_bytes()[..], &[0; 6], &block].concat();
        control(SYN_STREAM, &body)
    }
}

/// The frames that open these streams, in order: an ID, and what the header `streamtype` says.
pub(super) fn open(streams: &[(u32, &str)]) -> Vec<u8> {
    let mut opener = Opener::default();
    streams.iter().flat_map(|(id, kind)| opener.open(*id, &[("streamtype", kind)])).collect()
}

/// A deflate block that is not compressed, and not the last.
fn stored(out: &mut Vec<u8>, bytes: &[u8]) {
    // The few headers that there are have some dozen bytes.
    let length = bytes.len() as u16;
    out.push(0);
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(bytes);
}

fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let head = [CONTROL.to_be_bytes(), kind.to_be_bytes()].concat();
    [&head, &(body.len() as u32).to_be_bytes()[..], body].concat()
}

/// A frame of data, at most [`MOST_DATA`].
pub(super) fn data(stream: u32, bytes: &[u8], ended: bool) -> Vec<u8> {
    let flags = if ended { u32::from(FIN) << 24 } else { 0 };
    [&stream.to_be_bytes(), &(flags | bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// The answer to a ping.
pub(super) fn pong(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// The next frame; an end in between two of them is an error, too: streams end before their connection.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let (first, second) = (from.read_u32().await?, from.read_u32().await?);
    let (flags, length) = ((second >> 24) as u8, second & 0x00ff_ffff);
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    let ended = flags & FIN != 0;
    if first & 0x8000_0000 == 0 {
        return Ok(Frame::Data { stream: first, bytes, ended });
    }
    let id = bytes.first_chunk().map(|id| u32::from_be_bytes(*id) & 0x7fff_ffff);
    Ok(match ((first & 0xffff) as u16, id) {
        (SYN_REPLY | HEADERS, Some(id)) if ended => Frame::Ended(id),
        (SYN_REPLY, Some(id)) => Frame::Reply(id),
        (RST_STREAM, Some(id)) => Frame::Ended(id),
        // The server's have even numbers; the others are our own, sent back.
        (PING, Some(id)) if id.is_multiple_of(2) => Frame::Ping(id),
        _ => Frame::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_opened_as_go_reads_it() {
        let opened = open(&[(1, "error"), (3, "stdin")]);
        let pairs =
            |kind: &str| [b"\0\0\0\x01\0\0\0\x0astreamtype\0\0\0\x05".as_slice(), kind.as_bytes()].concat();
        let block = |kind: &str| [b"\0\x1b\0\xe4\xff", &*pairs(kind), b"\0\0\0\xff\xff"].concat();
        let first =
            [b"\x80\x03\0\x01\0\0\0\x31\0\0\0\x01\0\0\0\0\0\0\x78\x01".as_slice(), &block("error")].concat();
        let second = [b"\x80\x03\0\x01\0\0\0\x2f\0\0\0\x03\0\0\0\0\0\0".as_slice(), &block("stdin")].concat();
        assert_eq!(opened, [first, second].concat());
    }

    #[tokio::test]
    async fn frames_are_read_one_by_one() {
        let sent = [
            data(5, b"hello", false),
            data(5, b"", true),
            pong(8),
            control(SYN_REPLY, b"\0\0\0\x09whatever"),
            control(RST_STREAM, b"\0\0\0\x05\0\0\0\x01"),
            control(4, b"\0\0\0\0"),
            data(1, b"cut", false)[..9].to_vec(),
        ]
        .concat();
        let mut from = sent.as_slice();
        for expected in [
            Frame::Data { stream: 5, bytes: b"hello".to_vec(), ended: false },
            Frame::Data { stream: 5, bytes: vec![], ended: true },
            Frame::Ping(8),
            Frame::Reply(9),
            Frame::Ended(5),
            Frame::Other,
        ] {
            assert_eq!(read(&mut from).await.unwrap(), expected);
        }
        assert_eq!(read(&mut from).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
