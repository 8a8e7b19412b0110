//! Paths as Kubernetes writes them, `spec.containers[0].image` and `metadata.labels[a.b/c]`, and the way from
//! a path to its node.

use std::borrow::Cow;

use serde_json::Value;

use super::Position;
use super::scalar::Scalar;
use super::tree::{Kind, Node};

/// Appends `key` to `path`, in brackets when it could be mistaken for more than one part.
pub(super) fn push_key(path: &mut String, key: &str) {
    let simple = !key.is_empty() && !key.contains(['.', '[', ']']);
    if simple {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    } else {
        path.push('[');
        path.push_str(key);
        path.push(']');
    }
}

/// The string that a key becomes; `None` for lists, mappings, null and numbers from 2^63 on.
pub(super) fn key_of(node: &Node) -> Option<Cow<'_, str>> {
    match &node.kind {
        Kind::Scalar(scalar) => match &scalar.scalar {
            Scalar::Merge => Some("<<".into()),
            Scalar::Value(Value::String(text)) => Some(text.as_str().into()),
            Scalar::Value(Value::Bool(value)) => Some(value.to_string().into()),
            // As Go prints it, which has no keys above its `int64`.
            Scalar::Value(Value::Number(number)) if number.is_i64() || number.is_f64() => {
                let float = |text: &str| text.starts_with('-') && text.contains(['.', 'e', 'E']);
                let minus_zero = number.as_i64() == Some(0) && node.unquoted().is_some_and(float);
                Some(if minus_zero { "-0".into() } else { number.to_string().into() })
            }
            Scalar::Value(_) => None,
        },
        Kind::Sequence(_) | Kind::Mapping(_) => None,
    }
}

/// What stands at a path.
pub(super) struct Found<'a> {
    /// Where the path stands, or the nearest parent that is there.
    pub(super) position: Position,
    /// The value, if the whole path is there.
    pub(super) exact: Option<&'a Node>,
}

pub(super) fn find<'a>(root: &'a Node, path: &str) -> Found<'a> {
    let mut found = Found { position: root.position, exact: Some(root) };
    let mut node = root;
    for part in parts(path) {
        let next = match &node.kind {
            Kind::Scalar(_) => None,
            Kind::Sequence(items) => {
                part.parse().ok().and_then(|index: usize| items.get(index)).map(|item| (item.position, item))
            }
            Kind::Mapping(pairs) => entry(pairs, part),
        };
        let Some((position, next)) = next else {
            found.exact = None;
            return found;
        };
        found = Found { position, exact: Some(next) };
        node = next;
    }
    found
}

/// The pair that won: the last one, whether written here or merged.
fn entry<'a>(pairs: &'a [(Node, Node)], name: &str) -> Option<(Position, &'a Node)> {
    pairs.iter().rev().find_map(|(key, value)| {
        if !key.is_merge() {
            return (key_of(key)? == name).then_some((key.position, value));
        }
        match &value.kind {
            Kind::Mapping(merged) => entry(merged, name),
            Kind::Sequence(list) => list.iter().find_map(|node| match &node.kind {
                Kind::Mapping(merged) => entry(merged, name),
                Kind::Scalar(_) | Kind::Sequence(_) => None,
            }),
            Kind::Scalar(_) => None,
        }
    })
}

/// Splits at dots and brackets; what is in brackets is one part, dots and all.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let (part, after) = inner.split_once(']').unwrap_or((inner, ""));
            rest = after;
            return Some(part);
        }
        let (part, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
        rest = after;
        Some(part)
    })
}
