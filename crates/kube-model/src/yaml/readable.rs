//! Encoding and characters: what Go's reader refuses before it parses.

use std::borrow::Cow;
use std::str;

use super::{Error, Position};

/// The text of a YAML file.
pub(super) fn yaml(text: &[u8]) -> Result<&str, Error> {
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
    match text.char_indices().find(|(_, c)| forbidden(*c)) {
        Some((at, c)) => Err(Error::ControlCharacter { position: end_of(&text[..at]), character: c }),
        None => Ok(text),
    }
}

/// Two escapes of double-quoted texts that Go's YAML and the parser take differently: Go takes `\'`, and refuses `\/`.
/// The parser is given a text in which another character stands for their backslash, one that the text does not have;
/// where it turns up in what is not double-quoted, it is a backslash.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Escapes {
    apostrophe: Option<char>,
    slash: Option<char>,
}

impl Escapes {
    /// The text for the parser.
    pub(super) fn hide(text: &str) -> (Cow<'_, str>, Self) {
        let mut free = ('\u{fdd0}'..='\u{fdef}').filter(|c| !text.contains(*c));
        let mut stand_in = |escape: &str| text.contains(escape).then(|| free.next()).flatten();
        let escapes = Self { apostrophe: stand_in("\\'"), slash: stand_in("\\/") };
        if escapes.apostrophe.is_none() && escapes.slash.is_none() {
            return (text.into(), escapes);
        }
        let mut hidden = String::with_capacity(text.len() + 64);
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            let stand_in = match (c, characters.peek()) {
                ('\\', Some('\'')) => escapes.apostrophe,
                ('\\', Some('/')) => escapes.slash,
                _ => None,
            };
            hidden.push(stand_in.unwrap_or(c));
            // The second half of an escape begins no other one.
            if c == '\\' && stand_in.is_none() {
                hidden.extend(characters.next());
            }
        }
        (hidden.into(), escapes)
    }

    /// What the parser read as `text`; `None` for an escape that Go does not know.
    pub(super) fn show(self, text: String, double_quoted: bool) -> Option<String> {
        let is_in = |text: &str, stand_in: Option<char>| stand_in.filter(|c| text.contains(*c));
        let mut text = text;
        if let Some(stand_in) = is_in(&text, self.slash) {
            if double_quoted {
                return None;
            }
            text = text.replace(stand_in, "\\");
        }
        if let Some(stand_in) = is_in(&text, self.apostrophe) {
            text = text.replace(stand_in, if double_quoted { "" } else { "\\" });
        }
        Some(text)
    }
}

/// The place right after `text`.
pub(super) fn end_of(text: &str) -> Position {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Position { line: count(line), column: count(column) }
}

pub(super) fn count(n: impl TryInto<u32>) -> u32 {
    n.try_into().unwrap_or(u32::MAX)
}
