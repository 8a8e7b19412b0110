//! The tree of nodes that a text becomes, each with its place. An alias shares the node of its anchor, so the
//! tree is never larger than the text; what it would be written out is counted and bounded here.

use std::sync::Arc;

use super::scalar::Scalar;
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
    pub(super) unquoted: Option<Box<str>>,
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

/// Makes nodes, and keeps the whole within its bounds.
#[derive(Debug, Default)]
pub(super) struct Builder {
    values: usize,
    text: usize,
}

/// What was read before a list or mapping began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    values: usize,
    text: usize,
}

impl Builder {
    fn charge(&mut self, size: Size, depth: usize, at: Position) -> Result<(), Error> {
        self.values += size.values;
        self.text += size.text;
        if self.values > MAX_VALUES {
            return Err(Error::TooManyValues(at));
        }
        if self.text > MAX_TEXT_BYTES {
            return Err(Error::TooMuchText(at));
        }
        if depth + size.height > MAX_DEPTH { Err(Error::TooDeep(at)) } else { Ok(()) }
    }

    /// Counts an alias of `node`, `depth` levels down.
    pub(super) fn alias(&mut self, node: &Node, depth: usize, at: Position) -> Result<Node, Error> {
        self.charge(node.size, depth, at)?;
        Ok(node.clone())
    }

    /// A scalar of `bytes` bytes of text.
    pub(super) fn scalar(
        &mut self,
        scalar: ScalarNode,
        bytes: usize,
        depth: usize,
        at: Position,
    ) -> Result<Node, Error> {
        let size = Size { values: 1, text: bytes, height: 0 };
        self.charge(size, depth, at)?;
        Ok(Node { position: at, kind: Kind::Scalar(Arc::new(scalar)), size })
    }

    /// Begins a list or a mapping.
    pub(super) fn open(&mut self, depth: usize, at: Position) -> Result<Before, Error> {
        let before = Before { values: self.values, text: self.text };
        self.charge(Size { values: 1, text: 0, height: 0 }, depth, at)?;
        Ok(before)
    }

    pub(super) fn sequence(&self, items: Vec<Node>, before: Before, at: Position) -> Node {
        let height = items.iter().map(|item| item.size.height + 1).max().unwrap_or(0);
        self.close(Kind::Sequence(items.into()), height, before, at)
    }

    pub(super) fn mapping(&self, pairs: Vec<(Node, Node)>, before: Before, at: Position) -> Node {
        let height = |(key, value): &(Node, Node)| key.size.height.max(value.size.height) + 1;
        let height = pairs.iter().map(height).max().unwrap_or(0);
        self.close(Kind::Mapping(pairs.into()), height, before, at)
    }

    fn close(&self, kind: Kind, height: usize, before: Before, position: Position) -> Node {
        let size = Size { values: self.values - before.values, text: self.text - before.text, height };
        Node { position, kind, size }
    }
}
