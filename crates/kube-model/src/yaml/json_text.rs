//! From JSON text to a tree. serde_json says whether it is JSON and where it is not; what has passed it is walked
//! here once more for the place of each value.
//!
//! As in Go bytes that are not UTF-8 and halves of surrogate pairs become U+FFFD, and the fraction of `1.0` stays: it
//! is no integer, other than in YAML.

use std::str;

use serde::de::IgnoredAny;
use serde_json::{Number, Value};

use super::readable::{count, end_of};
use super::scalar::Scalar;
use super::tree::{Builder, Node, ScalarNode};
use super::{Error, MAX_DEPTH, Position};

/// Whether the kubelet takes the text for JSON: it begins with `{`.
pub(super) fn is_json(text: &[u8]) -> bool {
    match str::from_utf8(text) {
        Ok(text) => text.trim_start().starts_with('{'),
        Err(_) => text.trim_ascii_start().starts_with(b"{"),
    }
}

/// The value that the text is.
pub(super) fn value(text: &[u8]) -> Result<Node, Error> {
    let text = &*String::from_utf8_lossy(text);
    // Blanks of Unicode may stand before it, and only there.
    let json = text.trim_start();
    let start = end_of(&text[..text.len() - json.len()]);
    serde_json::from_str::<IgnoredAny>(json).map_err(|error| wrong(json, start, &error))?;
    let mut walker = Walker { rest: json, at: start, builder: Builder::default() };
    walker.value(0)
}

fn wrong(json: &str, start: Position, error: &serde_json::Error) -> Error {
    let within = |line: u32, column: u32| Position {
        line: start.line + line - 1,
        column: if line == 1 { start.column + column - 1 } else { column },
    };
    // A text that is cut off may first of all be too deep.
    if let Some(deep) = too_deep(json) {
        let Position { line, column } = end_of(&json[..deep]);
        return Error::TooDeep(within(line, column));
    }
    // The column is one of bytes, and that of the last one read.
    let line = error.line().max(1);
    let text = json.lines().nth(line - 1).unwrap_or_default();
    let before = text.floor_char_boundary(error.column().saturating_sub(1));
    let at = within(count(line), count(text[..before].chars().count() + 1));
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    if message.starts_with("trailing characters") {
        return Error::Trailing(at);
    }
    Error::Syntax(at, format!("{message}; a text that begins with {{ is read as JSON"))
}

/// The byte where `json` nests deeper than is allowed.
fn too_deep(json: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    json.bytes().position(|byte| {
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = quoted && byte == b'\\' && !escaped;
        // The outermost value is on no level.
        depth > MAX_DEPTH + 1
    })
}

/// Walks a text that is JSON.
struct Walker<'a> {
    rest: &'a str,
    /// Where `rest` begins.
    at: Position,
    builder: Builder,
}

impl<'a> Walker<'a> {
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        match skipped.rfind('\n') {
            Some(last) => {
                self.at.line += count(skipped.matches('\n').count());
                self.at.column = count(skipped[last + 1..].chars().count() + 1);
            }
            None => self.at.column += count(skipped.chars().count()),
        }
        skipped
    }

    fn blanks(&mut self) {
        let blanks = self.rest.find(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')).unwrap_or(self.rest.len());
        self.skip(blanks);
    }

    /// Whether `text` is next; skips it if so.
    fn eat(&mut self, text: char) -> bool {
        self.blanks();
        let next = self.rest.starts_with(text);
        if next {
            self.skip(text.len_utf8());
        }
        next
    }

    fn value(&mut self, depth: usize) -> Result<Node, Error> {
        self.blanks();
        let at = self.at;
        match self.rest.as_bytes().first() {
            Some(b'{') => {
                self.skip(1);
                let before = self.builder.open(depth, at)?;
                let mut pairs = Vec::new();
                while !self.eat('}') {
                    let key = self.value(depth + 1)?;
                    self.eat(':');
                    pairs.push((key, self.value(depth + 1)?));
                    self.eat(',');
                }
                Ok(self.builder.mapping(pairs, before, at))
            }
            Some(b'[') => {
                self.skip(1);
                let before = self.builder.open(depth, at)?;
                let mut items = Vec::new();
                while !self.eat(']') {
                    items.push(self.value(depth + 1)?);
                    self.eat(',');
                }
                Ok(self.builder.sequence(items, before, at))
            }
            Some(b'"') => {
                let text = string(self.skip(end_of_string(self.rest))).ok_or_else(|| malformed(at))?;
                let bytes = text.len();
                let scalar = ScalarNode { scalar: Scalar::Value(text.into()), unquoted: None };
                self.builder.scalar(scalar, bytes, depth, at)
            }
            _ => {
                let end = |c: char| matches!(c, ',' | ']' | '}' | ' ' | '\t' | '\r' | '\n');
                let text = self.skip(self.rest.find(end).unwrap_or(self.rest.len()));
                let value = match text {
                    "null" => Value::Null,
                    "true" => true.into(),
                    "false" => false.into(),
                    // Out of the range of a double: nothing takes it, but for quantities as a text.
                    number => match number.parse::<Number>() {
                        Ok(number) => Value::Number(number),
                        Err(_) => return Err(Error::Number(at, number.to_owned())),
                    },
                };
                let scalar = ScalarNode { scalar: Scalar::Value(value), unquoted: Some(text.into()) };
                self.builder.scalar(scalar, text.len(), depth, at)
            }
        }
    }
}

/// The length of the string that `text` begins with, quotes included.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    let inside = text.bytes().skip(1).position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    });
    inside.map_or(text.len(), |inside| inside + 2)
}

/// What a string in its quotes means.
fn string(quoted: &str) -> Option<String> {
    if !quoted.contains('\\') {
        return Some(quoted.get(1..quoted.len() - 1)?.to_owned());
    }
    match serde_json::from_str(quoted) {
        Ok(text) => Some(text),
        // As bytes the halves of surrogate pairs are let pass: ED, then A0 to BF.
        Err(_) => {
            let mut bytes = serde_json::from_str::<Bytes>(quoted).ok()?.0;
            for at in 0..bytes.len().saturating_sub(2) {
                if bytes[at] == 0xed && bytes[at + 1] >= 0xa0 {
                    bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
                }
            }
            String::from_utf8(bytes).ok()
        }
    }
}

struct Bytes(Vec<u8>);

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

fn malformed(at: Position) -> Error {
    Error::Syntax(at, "not a string of JSON".to_owned())
}
