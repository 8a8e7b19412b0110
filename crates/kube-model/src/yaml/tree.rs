//! From text to a tree of nodes that keeps the place of each. An alias shares the node of its anchor, so the
//! tree is never larger than the text; what it would be written out is counted and bounded here.

use std::collections::BTreeMap;
use std::str;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::scalar::{self, Refused, Scalar};
use super::{Error, MAX_DEPTH, MAX_TEXT_BYTES, MAX_VALUES, Position};

/// A value and where it begins. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) kind: Kind,
    size: Size,
}

/// Size of a node with its aliases written out.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    values: usize,
    text: usize,
    /// Levels below it.
    height: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Scalar(Arc<ScalarNode>),
    Sequence(Arc<[Node]>),
    Mapping(Arc<[(Node, Node)]>),
}

#[derive(Debug)]
pub(super) struct ScalarNode {
    pub(super) scalar: Scalar,
    /// The text, if it is unquoted and means something else than itself.
    unquoted: Option<Box<str>>,
}

impl Node {
    pub(super) fn unquoted(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.unquoted.as_deref(),
            Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }

    pub(super) fn is_merge(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(s) if s.scalar == Scalar::Merge)
    }
}

/// Checks encoding and characters: what Go's reader refuses before it parses.
pub(super) fn readable(text: &[u8]) -> Result<&str, Error> {
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err(Error::Utf16);
    }
    let text = match str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let (good, _) = text.split_at(error.valid_up_to());
            return Err(Error::NotUtf8(end_of(str::from_utf8(good).unwrap_or_default())));
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let forbidden = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || c > '\u{fffd}' && c < '\u{10000}'
    };
    if let Some((at, c)) = text.char_indices().find(|(_, c)| forbidden(*c)) {
        return Err(Error::ControlCharacter { position: end_of(&text[..at]), character: c });
    }
    let directives =
        text.lines().enumerate().take_while(|(_, l)| l.starts_with(['%', '#']) || l.trim().is_empty());
    for (index, line) in directives {
        if line.strip_prefix("%YAML").is_some_and(|v| v.split('#').next().is_some_and(|v| v.trim() != "1.1"))
        {
            return Err(Error::Version(Position { line: count(index + 1), column: 1 }));
        }
    }
    Ok(text)
}

/// The root of the first document, and where a second one with something in it begins.
pub(super) fn first_document(text: &str) -> Result<(Option<Node>, Option<Position>), Error> {
    let mut reader =
        Reader { text, parser: Parser::new_from_str(text), anchors: BTreeMap::new(), read: Size::default() };
    let root = loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => return Ok((None, None)),
            (event, span) => break reader.node(event, span, 0)?,
        }
    };
    let trailing = |error: ScanError| Error::Trailing(position(*error.marker()));
    reader.parser.next_event().transpose().map_err(trailing)?; // the end of the document
    let next = match reader.parser.next_event().transpose().map_err(trailing)? {
        Some((Event::DocumentStart(_), span)) => match reader.parser.next_event() {
            Some(Ok((Event::Scalar(text, ScalarStyle::Plain, _, None), _))) if text.is_empty() => None,
            _ => Some(position(span.start)),
        },
        _ => None,
    };
    Ok((Some(root), next))
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// Anchors whose node is complete.
    anchors: BTreeMap<usize, Node>,
    /// All that was read so far; its height is not used.
    read: Size,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Error> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn syntax(&self, error: &ScanError) -> Error {
        // Where a tab ends a plain text the parser names the beginning of that text, lines before the tab.
        let tab = |(index, line): (usize, &str)| {
            let indent = &line[..line.len() - line.trim_start().len()];
            indent.find('\t').map(|at| Position { line: count(index + 1), column: count(at + 1) })
        };
        let lines = || self.text.lines().enumerate().skip(error.marker().line().saturating_sub(1));
        match error.info().contains("tab").then(|| lines().find_map(tab)).flatten() {
            Some(tab) => Error::Tab(tab),
            None => Error::Syntax(position(*error.marker()), error.info().to_owned()),
        }
    }

    /// Counts what was read, at a place `depth` levels down.
    fn charge(&mut self, size: Size, depth: usize, at: Position) -> Result<(), Error> {
        self.read.values += size.values;
        self.read.text += size.text;
        if self.read.values > MAX_VALUES {
            return Err(Error::TooManyValues(at));
        }
        if self.read.text > MAX_TEXT_BYTES {
            return Err(Error::TooMuchText(at));
        }
        if depth + size.height > MAX_DEPTH { Err(Error::TooDeep(at)) } else { Ok(()) }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Error> {
        let at = position(span.start);
        let before = self.read;
        let mut height = 0;
        let (anchor, kind) = match event {
            Event::Alias(id) => {
                // The parser knows the anchor; when its node is not complete, the alias stands inside it.
                let node = self.anchors.get(&id).cloned().ok_or(Error::RecursiveAlias(at))?;
                self.charge(node.size, depth, at)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(Size { values: 1, text: text.len(), height }, depth, at)?;
                (anchor, scalar_node(&text, style == ScalarStyle::Plain, tag.as_deref(), at)?)
            }
            Event::SequenceStart(anchor, _) => {
                self.charge(Size { values: 1, text: 0, height }, depth, at)?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                height = items.iter().map(|item| item.size.height + 1).max().unwrap_or(0);
                (anchor, Kind::Sequence(items.into()))
            }
            Event::MappingStart(anchor, _) => {
                self.charge(Size { values: 1, text: 0, height }, depth, at)?;
                let mut pairs = Vec::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => break,
                        (event, span) => self.node(event, span, depth + 1)?,
                    };
                    let (event, span) = self.next()?;
                    let value = self.node(event, span, depth + 1)?;
                    height = height.max(key.size.height + 1).max(value.size.height + 1);
                    pairs.push((key, value));
                }
                (anchor, Kind::Mapping(pairs.into()))
            }
            event => return Err(Error::Syntax(at, format!("unexpected {event:?}"))),
        };
        let size =
            Size { values: self.read.values - before.values, text: self.read.text - before.text, height };
        let node = Node { position: at, kind, size };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}

fn scalar_node(text: &str, plain: bool, tag: Option<&Tag>, at: Position) -> Result<Kind, Error> {
    let tag = tag.map(|tag| match tag.handle.as_str() {
        "tag:yaml.org,2002:" => format!("!!{}", tag.suffix),
        handle => format!("{handle}{}", tag.suffix),
    });
    let scalar = scalar::resolve(text, plain, tag.as_deref()).map_err(|refused| match refused {
        Refused::NotFinite => Error::Number(at, text.to_owned()),
        Refused::Tag(tag) => Error::Tag { position: at, text: text.to_owned(), tag },
    })?;
    let means_itself = matches!(&scalar, Scalar::Value(v) if v.is_string());
    let unquoted = (plain && !means_itself).then(|| text.into());
    Ok(Kind::Scalar(Arc::new(ScalarNode { scalar, unquoted })))
}

fn position(marker: Marker) -> Position {
    Position { line: count(marker.line()), column: count(marker.col() + 1) }
}

/// The place right after `text`.
fn end_of(text: &str) -> Position {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Position { line: count(line), column: count(column) }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
