//! The syntax of Kubernetes' names. Each check gives its complaint, or nothing.

pub(super) use kube_model::syntax::{dns_label, dns_subdomain, label_value, qualified_name};

/// Names of ports (IANA).
pub(super) fn port_name(text: &str) -> Option<String> {
    let why = if text.len() > 15 {
        "must be no more than 15 characters"
    } else if !text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') {
        "must contain only lower case letters, digits and '-'"
    } else if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        "must contain at least one letter"
    } else if text.contains("--") || !edges(text, |c| c != b'-') {
        "must not contain two '-' in a row, nor begin or end with one"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// A port number.
pub(super) fn port(number: i32) -> Option<String> {
    if (1..=65535).contains(&number) {
        None
    } else {
        Some("must be between 1 and 65535, inclusive".to_owned())
    }
}

/// Names of environment variables.
pub(super) fn env_name(text: &str) -> Option<String> {
    let fine = text.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=');
    (!fine).then(|| "must consist of printable ASCII characters other than '='".to_owned())
}

/// Names of HTTP headers.
pub(super) fn header_name(text: &str) -> Option<String> {
    let fine = !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    (!fine).then(|| "must be letters, digits or '-'".to_owned())
}

/// A path below a folder, which must not lead out of it.
pub(super) fn inner_path(text: &str) -> Option<String> {
    if text.starts_with('/') {
        return Some("must be a relative path".to_owned());
    }
    no_dot_dot(text)
}

/// A path without a part `..`.
pub(super) fn no_dot_dot(text: &str) -> Option<String> {
    text.split('/').any(|part| part == "..").then(|| "must not contain '..'".to_owned())
}

fn edges(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|c| allowed(*c)) && bytes.last().is_some_and(|c| allowed(*c))
}
