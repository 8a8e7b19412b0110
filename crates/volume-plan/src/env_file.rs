//! Files that a container's variables come from (`fileKeyRef`, KEP-3721): a strict part of what a shell reads, each value
//! in single quotes (upstream `pkg/kubelet/util/env/env_util.go`).

/// Why a file is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid environment variable format {} line {line}: {what}", if *.what == UNCLOSED { "starting at" } else { "at" })]
pub struct EnvFileError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

const UNCLOSED: &str = "unclosed single quote";

/// The first value of `key`; `None` if it has none, or an empty one. What follows it is not looked at.
///
/// # Errors
/// The first line before that which cannot be read.
pub fn value(text: &[u8], key: &str) -> Result<Option<Vec<u8>>, EnvFileError> {
    let mut lines = lines(text);
    while let Some((line, text)) = lines.next() {
        let wrong = |what| EnvFileError { line, what };
        let text = trim_start(text);
        if text.is_empty() || text[0] == b'#' {
            continue;
        }
        let equals = text.iter().position(|byte| *byte == b'=').ok_or_else(|| wrong("missing '='"))?;
        let (name, rest) = (&text[..equals], &text[equals + 1..]);
        let found = name == key.as_bytes();
        match name.last() {
            None => return Err(wrong("empty variable name")),
            Some(b' ' | b'\t') if name.iter().all(is_blank) => return Err(wrong("empty variable name")),
            Some(b' ' | b'\t') => return Err(wrong("whitespace before '=' is not allowed")),
            Some(_) => {}
        }
        let mut rest = match rest.split_first() {
            // As for a shell the value is empty, and the rest a command.
            Some((b' ' | b'\t', _)) if found => return Ok(None),
            Some((b' ' | b'\t', _)) => continue,
            Some((b'\'', rest)) => rest,
            _ => return Err(wrong("value must be enclosed in single quotes")),
        };
        let mut value = Vec::new();
        let (line, behind) = loop {
            let last = lines.number;
            if let Some(end) = rest.iter().position(|byte| *byte == b'\'') {
                value.extend_from_slice(&rest[..end]);
                break (last, trim_start(&rest[end + 1..]));
            }
            value.extend_from_slice(rest);
            value.push(b'\n');
            (_, rest) = lines.next().ok_or_else(|| wrong(UNCLOSED))?;
        };
        if !matches!(behind.first(), None | Some(b'#')) {
            return Err(EnvFileError { line, what: "unexpected content after closing quote" });
        }
        if found {
            return Ok((!value.is_empty()).then_some(value));
        }
    }
    Ok(None)
}

/// Lines as Go's `bufio.ScanLines` has them: without the end, and without a carriage return before it; what follows the
/// last end is a line if there is anything.
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

fn lines(text: &[u8]) -> Lines<'_> {
    Lines { rest: text, number: 0 }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = match self.rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        self.number += 1;
        Some((self.number, line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim_start(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_in_single_quotes_and_the_first_one_counts() {
        for (case, text, key, want) in [
            ("one of several", "A='1'\n\tB='2'\n  C='3'", "B", Ok(Some("2"))),
            ("comments and blank lines", "# c\n\n \t\n  # d\nA='1' # e\nB='2'#f", "B", Ok(Some("2"))),
            ("nothing in it means anything", r#"A='$X "y" # \n z=1'"#, "A", Ok(Some(r#"$X "y" # \n z=1"#))),
            ("several lines", "A='x\n  y\n\nz' \nB='2'", "A", Ok(Some("x\n  y\n\nz"))),
            ("behind several lines", "A='x\ny'\nB='2'", "B", Ok(Some("2"))),
            ("lines as Windows has them", "A='x\r\ny'\r\nB='2'\r\n", "A", Ok(Some("x\ny"))),
            ("the first", "A='1'\nA='2'", "A", Ok(Some("1"))),
            ("an empty one is none", "A=''\nA='2'", "A", Ok(None)),
            ("not there", "A='1'\n", "B", Ok(None)),
            ("an empty file", "", "A", Ok(None)),
            ("a space makes it empty", "A= '1'", "A", Ok(None)),
            ("also of another", "A= '1'\nB='2'", "B", Ok(Some("2"))),
            ("what follows is not looked at", "A='1'\nwrong", "A", Ok(Some("1"))),
            ("names are not judged", "a.b-c='1'", "a.b-c", Ok(Some("1"))),
            ("no equals", "A='1'\nwrong", "B", Err("at line 2: missing '='")),
            ("no name", "='1'", "A", Err("at line 1: empty variable name")),
            ("space before", "\n\nA ='1'", "A", Err("at line 3: whitespace before '=' is not allowed")),
            ("no quotes", "A=1", "A", Err("at line 1: value must be enclosed in single quotes")),
            ("nothing", "A=", "A", Err("at line 1: value must be enclosed in single quotes")),
            ("double quotes", "A=\"1\"", "A", Err("at line 1: value must be enclosed in single quotes")),
            ("no end", "B='2'\nA='1\n2\n", "A", Err("starting at line 2: unclosed single quote")),
            ("more behind", "A='1\n2'3", "A", Err("at line 2: unexpected content after closing quote")),
            ("more quotes behind", "A='1''2'", "A", Err("at line 1: unexpected content after closing quote")),
        ] {
            let found = value(text.as_bytes(), key);
            let found = found.map(|value| value.map(|value| String::from_utf8(value).unwrap()));
            let want = want.map(|value| value.map(str::to_owned));
            let want = want.map_err(|end| format!("invalid environment variable format {end}"));
            assert_eq!(found.map_err(|error| error.to_string()), want, "{case}");
        }
        assert_eq!(value(b"A='\xff\0'", "A"), Ok(Some(b"\xff\0".to_vec())));
    }
}
