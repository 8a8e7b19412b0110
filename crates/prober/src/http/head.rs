//! The head of an HTTP/1 answer as Go's client reads it: servers that pods run are older and odder than what hyper takes,
//! and there may be ten megabytes of header lines. Of them only what says where to go and how the body ends is kept, and
//! handed on in a plain form.
//! Rule: Go's `net/http` (`response.go`, `transfer.go`, `transport.go`) and `net/textproto` (`reader.go`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of the heads of an answer, those of `100 Continue` and its like with it.
const MAX_BYTES: usize = 10 << 20;

/// Why something is no answer. In the words of Go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum HeadError {
    #[error("malformed HTTP response {0:?}")]
    Response(String),
    #[error("malformed HTTP version {0:?}")]
    Version(String),
    #[error("malformed HTTP status code {0:?}")]
    Status(String),
    #[error("malformed MIME header line: {0}")]
    Line(String),
    #[error("unsupported transfer encoding: {0:?}")]
    Encoding(String),
    #[error("bad Content-Length {0:?}")]
    Length(String),
    #[error("http: message cannot contain multiple Content-Length headers")]
    Lengths,
    #[error("net/http: server response headers exceeded {MAX_BYTES} bytes; aborted")]
    TooLarge,
}

/// Reads heads as they come, piece by piece.
#[derive(Debug, Default)]
struct Head {
    read: usize,
    /// The line that is not whole yet.
    line: Vec<u8>,
    status: Option<Status>,
    /// A header that the next line may go on with.
    field: Option<Vec<u8>>,
    location: Option<Vec<u8>>,
    lengths: Vec<Vec<u8>>,
    encodings: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Status {
    /// Whether the version is 1.1 or later.
    modern: bool,
    code: u16,
}

impl Head {
    /// Takes what came. Once the head is whole: how much of it was taken, and the head in its plain form.
    fn feed(&mut self, bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, HeadError> {
        let mut taken = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            taken += line.len();
            self.read += line.len();
            if self.read > MAX_BYTES {
                return Err(HeadError::TooLarge);
            }
            self.line.extend_from_slice(line);
            let Some(whole) = self.line.strip_suffix(b"\n") else { break };
            let whole = whole.strip_suffix(b"\r").unwrap_or(whole).to_vec();
            self.line.clear();
            if let Some(head) = self.take(&whole)? {
                return Ok(Some((taken, head)));
            }
        }
        Ok(None)
    }

    /// Takes one line, without its end.
    fn take(&mut self, line: &[u8]) -> Result<Option<Vec<u8>>, HeadError> {
        let Some(status) = self.status else {
            self.status = Some(status(line)?);
            return Ok(None);
        };
        if let [b' ' | b'\t', ..] = line {
            let field = self.field.as_mut().ok_or_else(|| HeadError::Line(text(line)))?;
            field.push(b' ');
            field.extend_from_slice(trim(line));
            return Ok(None);
        }
        if let Some(field) = self.field.take() {
            self.note(&field)?;
        }
        if !line.is_empty() {
            if !line.contains(&b':') {
                return Err(HeadError::Line(text(line)));
            }
            self.field = Some(trim(line).to_vec());
            return Ok(None);
        }
        if matches!(status.code, 100..=199) && status.code != 101 {
            // Not the answer yet.
            *self = Self { read: self.read, ..Self::default() };
            return Ok(None);
        }
        self.plain(status).map(Some)
    }

    /// Takes note of one header.
    fn note(&mut self, field: &[u8]) -> Result<(), HeadError> {
        let malformed = || HeadError::Line(text(field));
        let colon = field.iter().position(|byte| *byte == b':').ok_or_else(malformed)?;
        let (name, value) = (&field[..colon], trim(&field[colon + 1..]));
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b" !#$%&'*+-.^_`|~".contains(byte);
        let is_value = |byte: &u8| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
        if name.is_empty() || !name.iter().all(is_name) || !value.iter().all(is_value) {
            return Err(malformed());
        }
        // One with a blank in its name is another header.
        if name.eq_ignore_ascii_case(b"Location") {
            self.location.get_or_insert_with(|| value.to_vec());
        } else if name.eq_ignore_ascii_case(b"Content-Length") {
            // They must all be the same: two tell that they are not.
            if self.lengths.len() < 2 && !self.lengths.iter().any(|length| length == value) {
                self.lengths.push(value.to_vec());
            }
        } else if name.eq_ignore_ascii_case(b"Transfer-Encoding") && self.encodings.len() < 2 {
            self.encodings.push(value.to_vec());
        }
        Ok(())
    }

    /// The head with nothing but what counts.
    fn plain(&self, status: Status) -> Result<Vec<u8>, HeadError> {
        let chunked = match &self.encodings[..] {
            _ if !status.modern => false,
            [] => false,
            [one] if one.eq_ignore_ascii_case(b"chunked") => true,
            all => return Err(HeadError::Encoding(text(&all.join(&b", "[..])))),
        };
        let version = if status.modern { "1.1" } else { "1.0" };
        let mut head = format!("HTTP/{version} {} \r\n", status.code).into_bytes();
        let mut add = |name: &str, value: &[u8]| {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        };
        if chunked {
            add("Transfer-Encoding", b"chunked");
        } else {
            let length = match &self.lengths[..] {
                [] => None,
                [one] => Some(length(one).ok_or_else(|| HeadError::Length(text(one)))?),
                _ => return Err(HeadError::Lengths),
            };
            if let Some(length) = length.filter(|_| !matches!(status.code, 101 | 204 | 304)) {
                add("Content-Length", length.to_string().as_bytes());
            }
        }
        if let Some(location) = &self.location {
            add("Location", location);
        }
        head.extend_from_slice(b"\r\n");
        Ok(head)
    }
}

/// `HTTP/1.1 200 OK`: any version of one digit and one digit, a code of three digits, and what it means or not.
fn status(line: &[u8]) -> Result<Status, HeadError> {
    let blank = line.iter().position(|byte| *byte == b' ').ok_or_else(|| HeadError::Response(text(line)))?;
    let (version, rest) = (&line[..blank], &line[blank + 1..]);
    let code = rest.trim_ascii_start().split(|byte| *byte == b' ').next().unwrap_or_default();
    let bad_code = || HeadError::Status(text(code));
    let code = match code {
        digits @ [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9'] => digits,
        _ => return Err(bad_code()),
    };
    let modern = match version {
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => {
            (major, minor) >= (&b'1', &b'1')
        }
        _ => return Err(HeadError::Version(text(version))),
    };
    let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    if code < 100 { Err(bad_code()) } else { Ok(Status { modern, code }) }
}

fn length(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()?
        .parse()
        .ok()
        .filter(|length| digits && *length <= i64::MAX.unsigned_abs())
}

/// Without blanks and tabs around.
fn trim(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(start, |at| at + 1);
    &bytes[start..end]
}

/// For a message: not the megabytes that it may be.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

/// A connection whose answer begins with a head in its plain form.
#[derive(Debug)]
pub(super) struct PlainHead<S> {
    inner: S,
    /// `None` behind the head.
    head: Option<Head>,
    /// What is to be given before anything is read.
    ready: Vec<u8>,
    given: usize,
}

impl<S> PlainHead<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, head: Some(Head::default()), ready: Vec::new(), given: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PlainHead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.given < this.ready.len() {
                let piece = &this.ready[this.given..];
                let piece = &piece[..piece.len().min(buf.remaining())];
                buf.put_slice(piece);
                this.given += piece.len();
                return Poll::Ready(Ok(()));
            }
            let Some(head) = &mut this.head else { return Pin::new(&mut this.inner).poll_read(cx, buf) };
            let mut space = [0; 8 << 10];
            let mut piece = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut piece))?;
            let piece = piece.filled();
            if piece.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some((taken, plain)) = head.feed(piece).map_err(io::Error::other)? {
                (this.head, this.ready) = (None, plain);
                this.ready.extend_from_slice(&piece[taken..]);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PlainHead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed on of an answer, the head and what follows, whether it comes at once or byte by byte.
    fn plain(answer: &str) -> Result<String, String> {
        let whole = read(answer.as_bytes(), answer.len());
        assert_eq!(read(answer.as_bytes(), 1), whole, "{answer:?}");
        whole
    }

    fn read(answer: &[u8], pieces: usize) -> Result<String, String> {
        let mut head = Head::default();
        let mut fed = 0;
        for piece in answer.chunks(pieces.max(1)) {
            if let Some((taken, mut plain)) = head.feed(piece).map_err(|error| error.to_string())? {
                plain.extend_from_slice(&answer[fed + taken..]);
                return Ok(String::from_utf8(plain).unwrap().replace("\r\n", "|"));
            }
            fed += piece.len();
        }
        Err("unfinished".to_owned())
    }

    #[test]
    fn what_gos_client_takes_is_taken() {
        for (answer, expected) in [
            (
                "HTTP/1.1 200 OK\r\nServer : old\r\nContent-Length: 2\r\n\r\nok",
                "HTTP/1.1 200 |Content-Length: 2||ok",
            ),
            (
                "HTTP/1.1 200 OK\r\nX-A: b\r\n\tc\r\nContent-Length:\r\n 2\r\n\r\nok",
                "HTTP/1.1 200 |Content-Length: 2||ok",
            ),
            ("HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 |Content-Length: 2||ok"),
            ("HTTP/1.0 200\r\n\r\nrest", "HTTP/1.0 200 ||rest"),
            ("HTTP/1.1   404   Not Found\r\n\r\n", "HTTP/1.1 404 ||"),
            ("HTTP/1.1 200 OK\nServer: x\r\nContent-Length: 2\n\nok", "HTTP/1.1 200 |Content-Length: 2||ok"),
            ("HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 ||"),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n", "HTTP/1.1 101 ||"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "HTTP/1.1 200 |Transfer-Encoding: chunked||0||",
            ),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 200 ||"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\n",
                "HTTP/1.1 200 |Content-Length: 2||",
            ),
            ("HTTP/1.1 302 Found\r\nlocation: /a \r\nLocation: /b\r\n\r\n", "HTTP/1.1 302 |Location: /a||"),
            // Another header than the one it looks like.
            ("HTTP/1.1 200 OK\r\nContent-Length : 99\r\n\r\n", "HTTP/1.1 200 ||"),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 204 ||"),
        ] {
            assert_eq!(plain(answer).as_deref(), Ok(expected), "{answer:?}");
        }
    }

    #[test]
    fn what_it_refuses_is_refused() {
        for (answer, why) in [
            ("ICY 200 OK\r\n\r\n", "malformed HTTP version \"ICY\""),
            ("HTTP/1.1\r\n\r\n", "malformed HTTP response \"HTTP/1.1\""),
            ("HTTP/1.10 200 OK\r\n\r\n", "malformed HTTP version \"HTTP/1.10\""),
            ("HTTP/1.1 2000 OK\r\n\r\n", "malformed HTTP status code \"2000\""),
            ("HTTP/1.1 200 OK\r\n: novalue\r\n\r\n", "malformed MIME header line: : novalue"),
            ("HTTP/1.1 200 OK\r\nServer: x\r\r\n\r\n", "malformed MIME header line: Server: x\r"),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "malformed MIME header line: no colon"),
            ("HTTP/1.1 200 OK\r\n X: y\r\n\r\n", "malformed MIME header line:  X: y"),
            ("HTTP/1.1 200 OK\r\nX(: y\r\n\r\n", "malformed MIME header line: X(: y"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n", "bad Content-Length \"2, 2\""),
            ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n", "bad Content-Length \"+2\""),
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "bad Content-Length \"\""),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
                "http: message cannot contain multiple Content-Length headers",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unsupported transfer encoding: \"gzip\""),
        ] {
            assert_eq!(plain(answer), Err(why.to_owned()), "{answer:?}");
        }
    }

    #[test]
    fn ten_megabytes_of_lines_are_taken_and_not_kept() {
        let with = |bytes: usize| {
            let line = b"X-Filler: v\r\n";
            let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
            while answer.len() + line.len() + 2 <= bytes {
                answer.extend_from_slice(line);
            }
            answer.extend_from_slice(b"\r\n");
            read(&answer, 8 << 10)
        };
        assert_eq!(with(MAX_BYTES).as_deref(), Ok("HTTP/1.1 200 ||"));
        let refused = with(MAX_BYTES + 100).unwrap_err();
        assert_eq!(refused, "net/http: server response headers exceeded 10485760 bytes; aborted");
    }
}
