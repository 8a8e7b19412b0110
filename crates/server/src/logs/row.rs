//! The CRI log format: `<RFC 3339 time> <stdout|stderr> <P|F>[:more tags] <text>`, a row a line. `P` rows are
//! parts of one line. Bytes go in as they are read, in pieces of any size; output comes out at once, so a row of
//! any length costs no memory. Pure.

use kube_model::Timestamp;

use super::LogOptions;

/// The longest head of a row that can be one: times have 35 bytes, and there may be tags.
const LONGEST_HEAD: usize = 256;

/// What came first is not in the CRI format. Displays as the kubelet words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to get parse function: unsupported log format: {0:?}")]
pub(crate) struct UnsupportedFormat(String);

/// Turns rows into output.
#[derive(Debug)]
pub(super) struct Rows {
    since: Option<Timestamp>,
    timestamps: bool,
    remaining: u64,
    /// The head of a row, as far as it was read.
    head: Vec<u8>,
    /// The row whose text is being read.
    row: Option<Row>,
    /// Whether any row was understood.
    seen: bool,
    /// Whether output stands at the beginning of a line.
    line_begins: bool,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    wanted: bool,
    partial: bool,
}

impl Rows {
    pub(super) fn new(options: &LogOptions) -> Self {
        Self {
            since: options.since,
            timestamps: options.timestamps,
            remaining: options.limit_bytes.unwrap_or(u64::MAX),
            head: Vec::new(),
            row: None,
            seen: false,
            line_begins: true,
        }
    }

    /// Whether as much was given out as was wanted.
    pub(super) fn is_full(&self) -> bool {
        self.remaining == 0
    }

    /// Another file begins. What was not ended in the last one never will be.
    pub(super) fn new_file(&mut self) {
        self.head.clear();
        self.row = None;
    }

    /// Takes in bytes and adds what they become to `out`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), UnsupportedFormat> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.is_full() {
                break;
            }
            let Some(row) = self.row else {
                bytes = rest;
                self.head.push(byte);
                let whole = byte == b' ' && self.head.iter().filter(|byte| **byte == b' ').count() == 3;
                if whole || byte == b'\n' || self.head.len() >= LONGEST_HEAD {
                    self.begin(byte, out)?;
                }
                continue;
            };
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or(bytes);
            bytes = bytes.get(text.len()..).unwrap_or_default();
            if !text.is_empty() {
                self.line_begins = false;
            }
            if row.wanted {
                self.put(text, out);
            }
            if end.is_some() {
                bytes = bytes.get(1..).unwrap_or_default();
                self.row = None;
                if !row.partial {
                    self.line_begins = true;
                    if row.wanted {
                        self.put(b"\n", out);
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn finish(&self) -> Result<(), UnsupportedFormat> {
        if self.head.is_empty() || self.seen { Ok(()) } else { Err(self.unsupported()) }
    }

    /// A head was read up to `last`.
    fn begin(&mut self, last: u8, out: &mut Vec<u8>) -> Result<(), UnsupportedFormat> {
        let head = std::str::from_utf8(&self.head).ok().and_then(Head::parse);
        let Some(head) = head else {
            if !self.seen {
                return Err(self.unsupported());
            }
            // As the kubelet does: what is no row is left out.
            tracing::debug!(row = %self.head.escape_ascii(), "Not a row of the CRI log format");
            self.head.clear();
            self.row = (last != b'\n').then_some(Row { wanted: false, partial: true });
            return Ok(());
        };
        let wanted = self.since.is_none_or(|since| head.time >= since);
        let prefix = (wanted && self.timestamps && self.line_begins).then(|| nine_digits(head.written));
        self.row = Some(Row { wanted, partial: head.partial });
        // A row without text still begins a line.
        self.line_begins = true;
        self.seen = true;
        self.head.clear();
        if let Some(prefix) = prefix {
            self.put(prefix.as_bytes(), out);
        }
        Ok(())
    }

    fn put(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let text = text.get(..most).unwrap_or(text);
        out.extend_from_slice(text);
        self.remaining -= text.len() as u64;
    }

    fn unsupported(&self) -> UnsupportedFormat {
        UnsupportedFormat(String::from_utf8_lossy(&self.head).into_owned())
    }
}

/// The part of a row before its text.
struct Head<'a> {
    written: &'a str,
    time: Timestamp,
    partial: bool,
}

impl<'a> Head<'a> {
    fn parse(head: &'a str) -> Option<Self> {
        let mut parts = head.strip_suffix(' ')?.split(' ');
        let (written, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        let time = written.parse().ok()?;
        let partial = tags.split(':').next() == Some("P");
        matches!(stream, "stdout" | "stderr").then_some(Self { written, time, partial })
    }
}

/// The time with all nine digits of its fraction, as the kubelet prints it, and a blank. The zone stays.
fn nine_digits(time: &str) -> String {
    let zone =
        time.get(11..).and_then(|clock| clock.find(['Z', 'z', '+', '-'])).map_or(time.len(), |at| at + 11);
    let (clock, zone) = time.split_at_checked(zone).unwrap_or((time, ""));
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    format!("{seconds}.{fraction:0<9.9}{zone} ")
}

#[cfg(test)]
mod tests;
