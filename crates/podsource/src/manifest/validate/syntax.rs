//! The syntax of Kubernetes' names. Each check gives its complaint, or nothing.

/// A label of DNS (RFC 1123): names of containers, volumes and namespaces.
pub(super) fn dns_label(text: &str) -> Option<String> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if text.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    if !edges(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit()) || !text.bytes().all(inner) {
        return Some(
            "must be lower case letters, digits or '-', and begin and end with a letter or digit".to_owned(),
        );
    }
    None
}

/// A name of DNS (RFC 1123): labels with dots between them. Names of pods.
pub(super) fn dns_subdomain(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some("must be no more than 253 characters".to_owned());
    }
    let part = |part: &str| {
        edges(part, |c| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    if text.split('.').all(part) {
        return None;
    }
    Some(
        "must be lower case letters, digits, '-' or '.', and begin and end with a letter or digit".to_owned(),
    )
}

/// Keys of labels and annotations, names of extended resources: `[prefix/]name`.
pub(super) fn qualified_name(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(why) = prefix.and_then(dns_subdomain) {
        return Some(format!("prefix part {why}"));
    }
    if name.is_empty() {
        return Some("name part must not be empty".to_owned());
    }
    label_text(name).map(|why| format!("name part {why}"))
}

/// Values of labels.
pub(super) fn label_value(text: &str) -> Option<String> {
    if text.is_empty() { None } else { label_text(text) }
}

fn label_text(text: &str) -> Option<String> {
    let inner = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if text.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    if !edges(text, |c| c.is_ascii_alphanumeric()) || !text.bytes().all(inner) {
        return Some(
            "must be letters, digits, '-', '_' or '.', and begin and end with a letter or digit".to_owned(),
        );
    }
    None
}

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
