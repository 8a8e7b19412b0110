//! The path of a request, as authorisation and routing both see it: decoded once, without `.`, `..` and `//`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a path may show as it is.
pub(crate) const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is to be done with a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Path<'p> {
    /// It is clean.
    Clean(Cow<'p, str>),
    /// The client is sent to this path, encoded again.
    Redirect(String),
    /// It is no text.
    Invalid,
}

/// Decodes `raw`.
pub(crate) fn read(raw: &str) -> Path<'_> {
    let Ok(decoded) = percent_decode_str(raw).decode_utf8() else { return Path::Invalid };
    let clean = clean(&decoded);
    if clean == decoded {
        Path::Clean(decoded)
    } else {
        Path::Redirect(utf8_percent_encode(&clean, ESCAPED).to_string())
    }
}

/// As Go's `ServeMux` cleans paths: a slash at the end stays.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for part in &parts {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once_and_either_clean_or_redirected() {
        for (raw, expected) in [
            ("/pods", Path::Clean("/pods".into())),
            ("/pods/", Path::Clean("/pods/".into())),
            ("/", Path::Clean("/".into())),
            ("/exec/ns/a%2Fb/c", Path::Clean("/exec/ns/a/b/c".into())),
            ("/pods%2525", Path::Clean("/pods%25".into())),
            ("/logs/../../etc/passwd", Path::Redirect("/etc/passwd".into())),
            ("/logs/%2e%2e/%2E%2E/etc/passwd", Path::Redirect("/etc/passwd".into())),
            ("//pods", Path::Redirect("/pods".into())),
            ("/metrics/../exec/a/b/c", Path::Redirect("/exec/a/b/c".into())),
            ("/./a%0d%0aSet-Cookie:x", Path::Redirect("/a%0D%0ASet-Cookie%3Ax".into())),
            ("", Path::Redirect("/".into())),
            ("/%ff", Path::Invalid),
        ] {
            assert_eq!(read(raw), expected, "{raw}");
        }
    }
}
