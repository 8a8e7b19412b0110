//! What can be wrong with a text, and where.

use super::{MAX_DEPTH, MAX_TEXT_BYTES, MAX_VALUES};

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
}

/// Why a text is not YAML, or not the YAML that Go would take. The message does not repeat the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes that are not UTF-8.
    #[error("the text is not valid UTF-8")]
    NotUtf8(Position),
    /// A byte order mark of UTF-16.
    #[error("the text is UTF-16; save it as UTF-8")]
    Utf16,
    /// A character that YAML does not allow unescaped, NUL for example.
    #[error("control character U+{code:04X} is not allowed", code = u32::from(*character))]
    ControlCharacter {
        /// Where.
        position: Position,
        /// Which.
        character: char,
    },
    /// `%YAML` with another version than 1.1.
    #[error("only YAML 1.1 is read, as by the kubelet: remove the %YAML line")]
    Version(Position),
    /// The scanner or parser gave up.
    #[error("{1}")]
    Syntax(Position, String),
    /// A tab at the beginning of a line.
    #[error("a tab can not indent: use spaces")]
    Tab(Position),
    /// Something follows the end of the document that is no further document.
    #[error("the document ends before this text: wrong indentation, or text left over")]
    Trailing(Position),
    /// An alias to an anchor that contains it.
    #[error("the anchor contains itself")]
    RecursiveAlias(Position),
    /// A mapping key that is a list, a mapping, null or a number from 2^63 on.
    #[error("a key must be a string, a number below 2^63 or a boolean")]
    Key(Position),
    /// `<<` with something that is no mapping.
    #[error("the value of << must be a mapping or a list of mappings")]
    Merge(Position),
    /// `.inf` or `.nan`.
    #[error("{1} can not be expressed in JSON")]
    Number(Position, String),
    /// `!!int abc`.
    #[error("{text:?} is not a {tag}")]
    Tag {
        /// Where.
        position: Position,
        /// The value.
        text: String,
        /// What it is tagged as.
        tag: String,
    },
    /// More than [`MAX_VALUES`].
    #[error("the document has more than {MAX_VALUES} values (its aliases written out)")]
    TooManyValues(Position),
    /// More than [`MAX_TEXT_BYTES`].
    #[error("the document has more than {MAX_TEXT_BYTES} bytes of text (its aliases written out)")]
    TooMuchText(Position),
    /// More than [`MAX_DEPTH`].
    #[error("the document is nested deeper than {MAX_DEPTH} levels")]
    TooDeep(Position),
}

impl Error {
    /// Where it is; `None` when the whole text is meant.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Utf16 => None,
            Self::NotUtf8(at)
            | Self::ControlCharacter { position: at, .. }
            | Self::Version(at)
            | Self::Syntax(at, _)
            | Self::Tab(at)
            | Self::Trailing(at)
            | Self::RecursiveAlias(at)
            | Self::Key(at)
            | Self::Merge(at)
            | Self::Number(at, _)
            | Self::Tag { position: at, .. }
            | Self::TooManyValues(at)
            | Self::TooMuchText(at)
            | Self::TooDeep(at) => Some(*at),
        }
    }
}
