//! From the tree to a JSON value: aliases written out, `<<` merged, keys made strings. The tree has been
//! checked for size and depth.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Map, Value};

use super::locate::{key_of, push_key};
use super::scalar::Scalar;
use super::tree::{Kind, Node};
use super::{Duplicate, Error, Position};

pub(super) fn from_tree(root: &Node) -> Result<(Value, Vec<Duplicate>), Error> {
    let mut writer = Writer::default();
    let value = writer.value(root)?;
    let duplicates = writer.duplicates.into_iter();
    Ok((value, duplicates.map(|(position, path)| Duplicate { path, position }).collect()))
}

#[derive(Default)]
struct Writer {
    path: String,
    /// By position, so that one in an anchor is told once however often its alias is used.
    duplicates: BTreeMap<Position, String>,
}

impl Writer {
    fn value(&mut self, node: &Node) -> Result<Value, Error> {
        Ok(match &node.kind {
            Kind::Scalar(scalar) => match &scalar.scalar {
                Scalar::Merge => "<<".into(),
                Scalar::Value(value) => value.clone(),
            },
            Kind::Sequence(items) => {
                let mut list = Vec::with_capacity(items.len());
                let length = self.path.len();
                for (index, item) in items.iter().enumerate() {
                    let _ = write!(self.path, "[{index}]");
                    list.push(self.value(item)?);
                    self.path.truncate(length);
                }
                Value::Array(list)
            }
            Kind::Mapping(pairs) => {
                let mut map = Map::new();
                self.fill(&mut map, pairs)?;
                Value::Object(map)
            }
        })
    }

    /// Puts `pairs` into `map`. Of equal keys the later one wins, merged or written, as in Go; a duplicate is
    /// one that is written twice.
    fn fill(&mut self, map: &mut Map<String, Value>, pairs: &[(Node, Node)]) -> Result<(), Error> {
        let mut written = BTreeSet::new();
        let length = self.path.len();
        for (key_node, value_node) in pairs {
            if key_node.is_merge() {
                self.merge(map, value_node)?;
                continue;
            }
            let key = key_of(key_node).ok_or(Error::Key(key_node.position))?;
            push_key(&mut self.path, &key);
            let value = self.value(value_node)?;
            if !written.insert(key.clone()) {
                self.duplicates.insert(key_node.position, self.path.clone());
            }
            self.path.truncate(length);
            map.insert(key.into_owned(), value);
        }
        Ok(())
    }

    fn merge(&mut self, map: &mut Map<String, Value>, node: &Node) -> Result<(), Error> {
        let mut from = |node: &Node| match &node.kind {
            Kind::Mapping(pairs) => self.fill(map, pairs),
            Kind::Scalar(_) | Kind::Sequence(_) => Err(Error::Merge(node.position)),
        };
        match &node.kind {
            Kind::Sequence(nodes) => nodes.iter().rev().try_for_each(from),
            Kind::Mapping(_) | Kind::Scalar(_) => from(node),
        }
    }
}
