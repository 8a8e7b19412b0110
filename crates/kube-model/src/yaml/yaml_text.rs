//! From YAML text to a tree. The parser is a port of libyaml, as Go's is: the two agree on what is YAML and where its
//! parts begin, also in what the specification says otherwise.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libyaml_safer::{Encoding, Event, EventData, Mark, Parser, ScalarStyle};

use super::readable::{Escapes, count};
use super::scalar::{self, Refused, Scalar};
use super::tree::{Builder, Node, ScalarNode};
use super::{Error, Position};

/// The root of the first document, and where a second one with something in it begins.
pub(super) fn first_document(text: &str) -> Result<(Option<Node>, Option<Position>), Error> {
    let (hidden, escapes) = Escapes::hide(text);
    let mut bytes = hidden.as_bytes();
    let mut parser = Parser::new();
    parser.set_encoding(Encoding::Utf8);
    parser.set_input_string(&mut bytes);
    let (anchors, builder, last) = (BTreeMap::new(), Builder::default(), position(Mark::default()));
    let mut reader = Reader { text, escapes, parser, last, anchors, builder };
    let root = loop {
        let event = reader.next()?;
        match event.data {
            EventData::StreamStart { .. } => {}
            EventData::DocumentStart { version_directive, .. } => {
                if version_directive.is_some_and(|version| (version.major, version.minor) != (1, 1)) {
                    return Err(Error::Version(position(event.start_mark)));
                }
            }
            EventData::StreamEnd | EventData::DocumentEnd { .. } => return Ok((None, None)),
            _ => break reader.node(event, 0)?,
        }
    };
    reader.next()?; // the end of the document
    let next = reader.parse()?.map_err(|error| Error::Trailing(mark_of(&error)))?;
    let next = match next.data {
        EventData::DocumentStart { .. } => match reader.parse()? {
            Ok(Event {
                data: EventData::Scalar { value, style: ScalarStyle::Plain, tag: None, .. }, ..
            }) if value.is_empty() => None,
            _ => Some(position(next.start_mark)),
        },
        _ => None,
    };
    Ok((Some(root), next))
}

struct Reader<'a, R> {
    text: &'a str,
    escapes: Escapes,
    parser: Parser<R>,
    /// The end of the last event.
    last: Position,
    /// Each anchor with its node, `None` while that is not complete.
    anchors: BTreeMap<String, Option<Node>>,
    builder: Builder,
}

impl<R: std::io::BufRead> Reader<'_, R> {
    fn next(&mut self) -> Result<Event, Error> {
        self.parse()?.map_err(|error| self.syntax(&error))
    }

    /// The parser panics on some texts that are no YAML, such as `[!a,b]` and a `"` before a backslash at the end.
    fn parse(&mut self) -> Result<Result<Event, libyaml_safer::Error>, Error> {
        let event = catch_unwind(AssertUnwindSafe(|| self.parser.parse()))
            .map_err(|_| Error::Syntax(self.last, "what follows cannot be read".to_owned()))?;
        if let Ok(event) = &event {
            self.last = position(event.end_mark);
        }
        Ok(event)
    }

    fn syntax(&self, error: &libyaml_safer::Error) -> Error {
        let at = mark_of(error);
        let line = self.text.lines().nth(at.line as usize - 1).unwrap_or_default();
        let before = line.chars().take(at.column as usize - 1);
        if line.chars().nth(at.column as usize - 1) == Some('\t') && before.clone().all(char::is_whitespace) {
            let column = before.take_while(|c| *c != '\t').count() + 1;
            return Error::Tab(Position { column: count(column), ..at });
        }
        let context = error.context().map(|context| format!(" {context}")).unwrap_or_default();
        Error::Syntax(at, format!("{}{context}", error.problem()))
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Node, Error> {
        let at = position(event.start_mark);
        match event.data {
            EventData::Alias { anchor } => match self.anchors.get(&anchor) {
                Some(Some(node)) => self.builder.alias(node, depth, at),
                Some(None) => Err(Error::RecursiveAlias(at)),
                None => Err(Error::Syntax(at, format!("the anchor {anchor:?} is not there"))),
            },
            EventData::Scalar { anchor, tag, value, style, .. } => {
                let Some(text) = self.escapes.show(value, style == ScalarStyle::DoubleQuoted) else {
                    return Err(Error::Syntax(
                        at,
                        "found the unknown escape \\/: a slash needs none".to_owned(),
                    ));
                };
                let scalar = scalar_node(&text, style == ScalarStyle::Plain, tag.as_deref(), at)?;
                let node = self.builder.scalar(scalar, text.len(), depth, at)?;
                self.complete(anchor, &node);
                Ok(node)
            }
            EventData::SequenceStart { anchor, .. } => {
                let before = self.builder.open(depth, at)?;
                self.begin(anchor.as_ref());
                let mut items = Vec::new();
                loop {
                    let event = self.next()?;
                    if event.data == EventData::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, depth + 1)?);
                }
                let node = self.builder.sequence(items, before, at);
                self.complete(anchor, &node);
                Ok(node)
            }
            EventData::MappingStart { anchor, .. } => {
                let before = self.builder.open(depth, at)?;
                self.begin(anchor.as_ref());
                let mut pairs = Vec::new();
                loop {
                    let event = self.next()?;
                    if event.data == EventData::MappingEnd {
                        break;
                    }
                    let key = self.node(event, depth + 1)?;
                    let event = self.next()?;
                    pairs.push((key, self.node(event, depth + 1)?));
                }
                let node = self.builder.mapping(pairs, before, at);
                self.complete(anchor, &node);
                Ok(node)
            }
            event => Err(Error::Syntax(at, format!("unexpected {event:?}"))),
        }
    }

    fn begin(&mut self, anchor: Option<&String>) {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.clone(), None);
        }
    }

    fn complete(&mut self, anchor: Option<String>, node: &Node) {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, Some(node.clone()));
        }
    }
}

fn scalar_node(text: &str, plain: bool, tag: Option<&str>, at: Position) -> Result<ScalarNode, Error> {
    let tag = tag.map(|tag| match tag.strip_prefix("tag:yaml.org,2002:") {
        Some(short) => format!("!!{short}"),
        None => tag.to_owned(),
    });
    let scalar = scalar::resolve(text, plain, tag.as_deref()).map_err(|refused| match refused {
        Refused::NotFinite => Error::Number(at, text.to_owned()),
        Refused::Tag(tag) => Error::Tag { position: at, text: text.to_owned(), tag },
    })?;
    let means_itself = matches!(&scalar, Scalar::Value(v) if v.is_string());
    Ok(ScalarNode { unquoted: (plain && !means_itself).then(|| text.into()), scalar })
}

fn mark_of(error: &libyaml_safer::Error) -> Position {
    position(error.problem_mark().unwrap_or_default())
}

fn position(mark: Mark) -> Position {
    Position { line: count(mark.line.saturating_add(1)), column: count(mark.column.saturating_add(1)) }
}
