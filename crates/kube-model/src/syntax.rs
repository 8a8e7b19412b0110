//! The syntax of Kubernetes' names. Each check gives its complaint, or nothing. Rules: upstream
//! `apimachinery/pkg/util/validation`.

/// A label of DNS (RFC 1123): names of containers, volumes and namespaces.
pub fn dns_label(text: &str) -> Option<String> {
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
pub fn dns_subdomain(text: &str) -> Option<String> {
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
pub fn qualified_name(text: &str) -> Option<String> {
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
pub fn label_value(text: &str) -> Option<String> {
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

fn edges(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|c| allowed(*c)) && bytes.last().is_some_and(|c| allowed(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_or_refused_as_upstream_does() {
        let long = "a".repeat(64);
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
        let too_long = format!("{longest}a");
        type Check = fn(&str) -> Option<String>;
        let cases: [(Check, &[&str], &[&str]); 4] = [
            (dns_label, &["a", "a-b", "0", &long[..63]], &["", "a.b", "-a", "a-", "A", &long]),
            (dns_subdomain, &["a", "a.b-c.0", &longest], &["", "a..b", ".a", "a.", "A.b", "a_b", &too_long]),
            (
                qualified_name,
                &["a", "A_b.c-D", "example.com/a", &long[..63]],
                &["", "/a", "a/", "a/b/c", "Example.com/a", "-a", "a b", &long],
            ),
            (label_value, &["", "A_b.c-D", &long[..63]], &["-a", "a/b", "a b", &long]),
        ];
        for (index, (check, good, bad)) in cases.into_iter().enumerate() {
            for text in good {
                assert_eq!(check(text), None, "check {index}: {text:?}");
            }
            for text in bad {
                assert!(check(text).is_some(), "check {index}: {text:?}");
            }
        }
    }
}
