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

/// A search path of a resolver: a name of DNS whose labels may have underscores.
pub(super) fn dns_search(text: &str) -> Option<String> {
    let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        edges(label, letter) && label.bytes().all(|c| letter(c) || c == b'-' || c == b'_')
    };
    if text.len() > 253 {
        Some("must be no more than 253 characters".to_owned())
    } else if text.split('.').all(label) {
        None
    } else {
        Some("must be lower case letters, digits, '-', '_' or '.', and end with a letter or digit".to_owned())
    }
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

/// Names of iSCSI targets and initiators.
pub(super) fn iscsi_name(text: &str) -> Option<String> {
    let coded = |length: usize| {
        text.chars().count() == "eui.".len() + length
            && text.bytes().skip(4).all(|c| c.is_ascii_alphanumeric())
    };
    let valid = match text.get(..3) {
        // It may be preceded by other text, as upstream has no anchor there.
        Some("iqn") => text.match_indices("iqn.").any(|(at, _)| is_iqn(&text[at + 4..])),
        Some("eui") => coded(16),
        Some("naa") => coded(32),
        _ => return Some("must be valid format starting with iqn, eui, or naa".to_owned()),
    };
    (!valid).then(|| "must be valid format".to_owned())
}

/// `2024-01.org.example:target`: year and month, whose domain it is, and its own name.
fn is_iqn(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked("0000-00.".len()) else { return false };
    let dated = date.bytes().zip(b"0000-00.").all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte == *form,
    });
    let Some((domain, name)) = rest.split_once(':') else { return false };
    dated
        && !domain.is_empty()
        && domain.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'.')
        && !name.is_empty()
        && !name.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n', '\r', '\u{c}'])
}

/// Whether the text is `host:port`, as Go's `net.SplitHostPort` sees it: any host, any port.
pub(super) fn is_host_and_port(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(host, port)| {
            !host.contains('[') && port.starts_with(':') && !port[1..].contains([':', '[', ']'])
        }),
        None => text
            .split_once(':')
            .is_some_and(|(host, port)| !(port.contains([':', '[', ']']) || host.contains(['[', ']']))),
    }
}
