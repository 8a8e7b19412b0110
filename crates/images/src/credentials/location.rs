//! Where credentials are good: a registry's host and port, perhaps with the beginning of a path. Parts of the host
//! may be patterns as Go's `filepath.Match` has them.

/// Sorted so that the more specific of two that begin alike comes later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    /// Host, perhaps with a port.
    authority: String,
    /// Empty, or from the first slash on.
    path: String,
}

impl Location {
    /// `docker login` writes Docker Hub as `https://index.docker.io/v1/`.
    pub(super) fn docker_hub() -> Self {
        Self { authority: "index.docker.io".to_owned(), path: String::new() }
    }

    /// Of `example.com/team` or `https://example.com/v2/`; `None` if that names no host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text =
            ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        let text = text.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        // The version of the registry's API is no part of an image's name.
        let path = match path.get(..4) {
            Some("/v1/" | "/v2/") => &path[3..],
            _ => path,
        };
        let path = if path == "/" { "" } else { path };
        (!authority.is_empty()).then(|| Self { authority: authority.to_owned(), path: path.to_owned() })
    }

    /// Whether `image`, of which nothing is a pattern, lies here. The path is a beginning, not a folder: `/team`
    /// holds `/teams/a` too.
    pub(super) fn matches(&self, image: &Self) -> bool {
        let (host, port) = split_port(&self.authority);
        let (image_host, image_port) = split_port(&image.authority);
        port == image_port
            && image.path.starts_with(&self.path)
            && host.split('.').count() == image_host.split('.').count()
            && host.split('.').zip(image_host.split('.')).all(|(pattern, part)| matches(pattern, part))
    }
}

/// Host and port; the host without the brackets of an IPv6 address, which would be a pattern.
fn split_port(authority: &str) -> (&str, &str) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).filter(|a| a.contains(':'));
    (address.unwrap_or(host), port)
}

/// A sign of a pattern.
#[derive(Debug)]
enum Sign {
    /// `*`
    Any,
    /// `?`
    One,
    Char(char),
    /// `[a-z]`, `[^a-z]`
    Range {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Sign {
    fn accepts(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Char(own) => *own == c,
            Self::Range { negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated
            }
        }
    }
}

/// A pattern that is none matches nothing.
fn matches(pattern: &str, text: &str) -> bool {
    let Some(signs) = signs(pattern) else { return false };
    let text: Vec<char> = text.chars().collect();
    // Where the last `*` stands, and up to where in the text it reaches: going back to that one is enough.
    let mut star: Option<(usize, usize)> = None;
    let (mut at, mut sign) = (0, 0);
    while at < text.len() {
        match signs.get(sign) {
            Some(Sign::Any) => {
                star = Some((sign, at));
                sign += 1;
            }
            Some(other) if other.accepts(text[at]) => {
                at += 1;
                sign += 1;
            }
            _ => {
                let Some((star_sign, reaches)) = star else { return false };
                star = Some((star_sign, reaches + 1));
                (at, sign) = (reaches + 1, star_sign + 1);
            }
        }
    }
    signs[sign..].iter().all(|sign| matches!(sign, Sign::Any))
}

fn signs(pattern: &str) -> Option<Vec<Sign>> {
    let mut rest = pattern.chars().peekable();
    let mut signs = Vec::new();
    while let Some(c) = rest.next() {
        signs.push(match c {
            '*' => Sign::Any,
            '?' => Sign::One,
            '\\' => Sign::Char(rest.next()?),
            '[' => {
                let negated = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while rest.next_if_eq(&']').is_none() {
                    let from = range_end(&mut rest)?;
                    let to = if rest.next_if_eq(&'-').is_some() { range_end(&mut rest)? } else { from };
                    ranges.push((from, to));
                }
                if ranges.is_empty() {
                    return None;
                }
                Sign::Range { negated, ranges }
            }
            c => Sign::Char(c),
        });
    }
    Some(signs)
}

fn range_end(rest: &mut impl Iterator<Item = char>) -> Option<char> {
    match rest.next()? {
        '\\' => rest.next(),
        '-' => None,
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_host_matches_as_in_go() {
        let long = "a".repeat(63);
        let stars = format!("{}b", "*a".repeat(30));
        for (pattern, text, want) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*-prod", "a-prod-prod", true),
            ("a**b", "ab", true),
            ("r?g", "reg", true),
            ("r?g", "rg", false),
            ("r[0-9]", "r7", true),
            ("r[0-9]", "rx", false),
            ("r[^0-9]", "rx", true),
            ("r[ac-e]", "rd", true),
            ("*[0-9]", "abc1", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"[\-x]", "-", true),
            // No patterns at all.
            ("[", "[", false),
            ("[]a]", "]", false),
            ("[-x]", "x", false),
            ("a\\", "a", false),
            ("[a", "a", false),
            // In a time that does not explode.
            (&stars, &long, false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn a_location_is_read_from_urls_and_names() {
        for (text, authority, path) in [
            ("example.com", "example.com", ""),
            ("https://example.com/", "example.com", ""),
            ("http://example.com:5000/v2/", "example.com:5000", ""),
            ("https://index.docker.io/v1/", "index.docker.io", ""),
            ("example.com/v1/team", "example.com", "/team"),
            ("example.com/v1", "example.com", "/v1"),
            ("example.com/team/a", "example.com", "/team/a"),
            ("https://me:pw@example.com/x?y#z", "example.com", "/x"),
            ("[::1]:5000/a", "[::1]:5000", "/a"),
        ] {
            let want = Location { authority: authority.to_owned(), path: path.to_owned() };
            assert_eq!(Location::parse(text), Some(want), "{text}");
        }
        for text in ["", "https://", "/a", "https:///a"] {
            assert_eq!(Location::parse(text), None, "{text}");
        }
    }
}
