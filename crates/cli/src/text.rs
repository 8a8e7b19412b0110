//! Text from elsewhere, made fit for a terminal: a container's words must not move the cursor.

/// `text` without control characters; each line after the first is indented by `indent`.
pub(crate) fn lines(text: &str, indent: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.trim_end().lines().enumerate() {
        if index > 0 {
            out.push('\n');
            out.push_str(indent);
        }
        out.extend(line.chars().map(printable));
    }
    out
}

/// `text` in one line, without control characters.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(printable).collect()
}

fn printable(c: char) -> char {
    if c == '\t' {
        ' '
    } else if c.is_control() {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}
