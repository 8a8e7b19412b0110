//! Names of images: checked as the kubelet checks them, and completed by the tag `latest`.

use std::borrow::Cow;

/// Why a text is no image name, in the kubelet's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {image:?}: {why}")]
pub struct InvalidName {
    image: String,
    why: Cow<'static, str>,
}

/// The image with `:latest` where it has neither tag nor digest; otherwise as it is, so a short name stays short.
///
/// # Errors
/// When it is no image name. Rule: upstream `pkg/util/parsers`, `distribution/reference`.
pub fn with_default_tag(image: &str) -> Result<Cow<'_, str>, InvalidName> {
    match tag_and_digest(image) {
        Ok((None, None)) => Ok(Cow::Owned(format!("{image}:latest"))),
        Ok(_) => Ok(Cow::Borrowed(image)),
        Err(why) => Err(InvalidName { image: image.to_owned(), why }),
    }
}

/// What every image of Docker Hub has in front of its [`repository`].
pub(crate) const DOCKER_HUB_PREFIX: &str = "docker.io/";

/// Where the image lies, in full and without tag and digest: `busybox` is `docker.io/library/busybox`.
/// Rule: `ParseNormalizedNamed` of `distribution/reference`.
pub(crate) fn repository(image: &str) -> String {
    let (domain, rest) = split_domain(image);
    let path = rest.split([':', '@']).next().unwrap_or_default();
    match domain {
        "docker.io" | "index.docker.io" if !path.contains('/') => {
            format!("{DOCKER_HUB_PREFIX}library/{path}")
        }
        "index.docker.io" => format!("{DOCKER_HUB_PREFIX}{path}"),
        domain => format!("{domain}/{path}"),
    }
}

fn split_domain(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        _ => ("docker.io", image),
    }
}

type Parts<'a> = (Option<&'a str>, Option<&'a str>);

fn tag_and_digest(image: &str) -> Result<Parts<'_>, Cow<'static, str>> {
    const FORMAT: Cow<'static, str> = Cow::Borrowed("invalid reference format");
    if image.len() == 64 && image.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        let why = format!("invalid repository name ({image}), cannot specify 64-byte hexadecimal strings");
        return Err(why.into());
    }
    let (domain, rest) = split_domain(image);
    let path = rest.split(':').next().unwrap_or_default();
    if path.chars().any(char::is_uppercase) {
        return Err(format!("invalid reference format: repository name ({path}) must be lowercase").into());
    }
    let (name, digest) = rest.split_once('@').map_or((rest, None), |(n, d)| (n, Some(d)));
    // A colon before the last slash would be a port, and that can only stand in the domain.
    let (name, tag) = name.split_once(':').map_or((name, None), |(n, t)| (n, Some(t)));
    if !valid_domain(domain) || !name.split('/').all(valid_component) || !tag.is_none_or(valid_tag) {
        return Err(FORMAT);
    }
    if name.len() > 255 {
        return Err("repository name must not be more than 255 characters".into());
    }
    digest.map_or(Ok(()), check_digest)?;
    Ok((tag, digest))
}

/// Whether the first part names a registry rather than a folder on Docker Hub.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase)
}

fn valid_domain(domain: &str) -> bool {
    let port = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    if let Some((address, after)) = domain.strip_prefix('[').and_then(|d| d.split_once(']')) {
        let hex = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        return hex && (after.is_empty() || after.strip_prefix(':').is_some_and(port));
    }
    let (host, after) = domain.split_once(':').map_or((domain, None), |(h, p)| (h, Some(p)));
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.split('.').all(label) && after.is_none_or(port)
}

/// Lowercase letters and digits; between them a dot, one or two underscores, or dashes.
fn valid_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = component.bytes();
    let (Some(first), last) = (bytes.next(), component.bytes().next_back()) else { return false };
    word(first)
        && last.is_some_and(word)
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn valid_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !tag.starts_with(['.', '-'])
}

fn check_digest(digest: &str) -> Result<(), Cow<'static, str>> {
    let (algorithm, hex) = digest.split_once(':').ok_or("invalid reference format")?;
    let named = algorithm.split(['-', '_', '+', '.']).all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    if !named || hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("invalid reference format".into());
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("unsupported digest algorithm".into()),
    };
    if hex.len() != length {
        return Err("invalid checksum digest length".into());
    }
    if hex.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("invalid checksum digest format".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_tag_or_digest_is_the_latest() {
        let sha = "0".repeat(64);
        for (image, want) in [
            ("busybox", Some("busybox:latest")),
            ("busybox:1.37", None),
            ("library/busybox", Some("library/busybox:latest")),
            ("host:5000/a/b", Some("host:5000/a/b:latest")),
            ("host:5000/a/b:v1", None),
            ("localhost/a", Some("localhost/a:latest")),
            ("[::1]:5000/a", Some("[::1]:5000/a:latest")),
            ("a__b/c.d/e--f_g", Some("a__b/c.d/e--f_g:latest")),
            ("Host/a", Some("Host/a:latest")),
            (&format!("a@sha256:{sha}"), None),
            (&format!("a:v1@sha256:{sha}"), None),
        ] {
            let got = with_default_tag(image);
            assert_eq!(got, Ok(Cow::Borrowed(want.unwrap_or(image))), "{image}");
        }
    }

    #[test]
    fn a_repository_is_named_in_full() {
        for (image, want) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.37@sha256:0", "docker.io/library/busybox"),
            ("team/app", "docker.io/team/app"),
            ("index.docker.io/app:v1", "docker.io/library/app"),
            ("docker.io/team/app", "docker.io/team/app"),
            ("host:5000/a/b:v1", "host:5000/a/b"),
            ("localhost/a@sha256:0", "localhost/a"),
        ] {
            assert_eq!(repository(image), want, "{image}");
        }
    }

    #[test]
    fn what_is_no_image_name_is_told_in_the_kubelets_words() {
        let (hex, long) = ("a".repeat(64), "a".repeat(256));
        let wrong = "invalid reference format";
        for (image, why) in [
            ("Not A Valid//Name", "invalid reference format: repository name (/Name) must be lowercase"),
            ("Busybox", "invalid reference format: repository name (Busybox) must be lowercase"),
            (&hex, &format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings")),
            ("", wrong),
            (":v1", wrong),
            ("a b", wrong),
            ("a/", wrong),
            ("a//b", wrong),
            ("-a", wrong),
            ("a_", wrong),
            ("a___b", wrong),
            ("a..b/c", wrong),
            ("a:", wrong),
            ("a:.b", wrong),
            ("a:b:c", wrong),
            (&format!("a:{}", "t".repeat(129)), wrong),
            ("host:port/a", wrong),
            ("-.b/a", wrong),
            ("a@sha256:abc", wrong),
            ("ä", wrong),
            ("https://host/a", wrong),
            (&long, "repository name must not be more than 255 characters"),
            (&format!("a@md5:{}", "0".repeat(32)), "unsupported digest algorithm"),
            (&format!("a@sha256:{}", "0".repeat(40)), "invalid checksum digest length"),
            (&format!("a@sha256:{}", "A".repeat(64)), "invalid checksum digest format"),
        ] {
            let got = with_default_tag(image).map_err(|e| e.to_string());
            assert_eq!(got, Err(format!("couldn't parse image name {image:?}: {why}")));
        }
    }
}
