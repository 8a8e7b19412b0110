//! YAML and JSON the way the kubelet reads them: a text that begins with `{` is JSON, any other YAML by the rules of
//! Go's `sigs.k8s.io/yaml` (YAML 1.1 booleans and octals, `<<` merges, first document only, the last of two equal keys
//! wins), with the line and column of every field, so that any later error can name its place.
//! Rule: upstream `k8s.io/apimachinery/pkg/util/yaml` `ToJSON`.
//!
//! Owns the rules of the text. Must not know what a pod is, nor files: the caller limits the size of the text.

mod error;
mod json;
mod json_text;
mod locate;
mod readable;
mod scalar;
#[cfg(test)]
mod tests;
mod tree;
mod yaml_text;

use serde_json::Value;

pub use error::{Error, Position};
use tree::Node;

/// Most values that one document may hold once its aliases are written out. The largest real pods have a few
/// thousand; an alias bomb has billions.
pub const MAX_VALUES: usize = 200_000;
/// Most bytes of text in the keys and values of one document once its aliases are written out.
pub const MAX_TEXT_BYTES: usize = 32 << 20;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 100;

/// The first document of a text.
#[derive(Debug)]
pub struct Document {
    /// Its value; `null` for a text without any.
    pub value: Value,
    /// Keys that stand twice in one mapping. The last one wins, as in Go.
    pub duplicates: Vec<Duplicate>,
    /// Where a second document that is not empty begins. Go ignores it without a word.
    pub next_document: Option<Position>,
    root: Option<Node>,
}

/// A key that was given before in the same mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Path of the key: `spec.containers[0].image`.
    pub path: String,
    /// Where the later one stands.
    pub position: Position,
}

/// Reads `text`: the value that it is in JSON, or the first document that it has in YAML.
///
/// # Errors
/// YAML that is not UTF-8 or has control characters, broken syntax, what Go refuses as well (unknown anchors,
/// keys that are no scalars, `.inf`, `.nan`, `%YAML` other than 1.1), and a document over [`MAX_VALUES`],
/// [`MAX_TEXT_BYTES`] or [`MAX_DEPTH`]. Stricter than Go in one point: text after the end of the document that
/// begins no further document is an error.
pub fn parse(text: &[u8]) -> Result<Document, Error> {
    if json_text::is_json(text) { document(Some(json_text::value(text)?), None) } else { parse_yaml(text) }
}

/// Reads `text` as YAML, also if it begins with `{`.
fn parse_yaml(text: &[u8]) -> Result<Document, Error> {
    let (root, next_document) = yaml_text::first_document(readable::yaml(text)?)?;
    document(root, next_document)
}

fn document(root: Option<Node>, next_document: Option<Position>) -> Result<Document, Error> {
    let Some(root) = root else {
        return Ok(Document { value: Value::Null, duplicates: Vec::new(), next_document, root: None });
    };
    let (value, duplicates) = json::from_tree(&root)?;
    Ok(Document { value, duplicates, next_document, root: Some(root) })
}

impl Document {
    /// Where `path` (`spec.containers[0].image`, `metadata.labels[a.b/c]`) stands: the key of a field, the
    /// beginning of a list item. When there is no such field, its nearest parent that is there.
    pub fn locate(&self, path: &str) -> Option<Position> {
        let root = self.root.as_ref()?;
        Some(locate::find(root, path).position)
    }

    /// The text of the value at `path` as it stands in the file, if it is written without quotes and yet is
    /// not a string: `y`, which is a boolean, or `0644`, which is 420.
    pub fn unquoted(&self, path: &str) -> Option<&str> {
        let found = locate::find(self.root.as_ref()?, path);
        found.exact.and_then(Node::unquoted)
    }
}
