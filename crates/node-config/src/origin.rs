//! Where values came from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kube_model::yaml::Position;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A flag, by its name without dashes.
    Flag(&'static str),
    /// The file given with `--config`.
    File(Location),
    /// A file under `--config-dir`, named relative to that folder.
    DropIn(Location),
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: Arc<str>,
    /// Where in it; `None`: the whole.
    pub position: Option<Position>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::File(location) => write!(f, "file {location}"),
            Self::DropIn(location) => write!(f, "drop-in {location}"),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file.escape_debug().to_string())?;
        match self.position {
            Some(position) => write!(f, " line {}", position.line),
            None => Ok(()),
        }
    }
}

/// Where each value that somebody set came from, by its path: `evictionHard[memory.available]`,
/// `registerWithTaints[0].effect`; for flags without a field in the configuration `--root-dir`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Where the value at `path` came from: what was noted for it or for the nearest thing that it is in.
    pub fn of(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(origin) = self.0.get(path) {
                return origin.clone();
            }
            match parent(path) {
                Some(outer) => path = outer,
                None => return Origin::Default,
            }
        }
    }

    /// All that was set, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(path, origin)| (path.as_str(), origin))
    }

    /// Notes that `path` was set as a whole.
    pub(crate) fn set(&mut self, path: &str, origin: Origin) {
        self.unset(path);
        self.0.insert(path.to_owned(), origin);
    }

    /// Notes that a part of something was set, where the rest stays.
    pub(crate) fn add(&mut self, path: &str, origin: Origin) {
        self.0.insert(path.to_owned(), origin);
    }

    /// Forgets `path` and what is in it.
    pub(crate) fn unset(&mut self, path: &str) {
        self.0.retain(|other, _| !is_within(other, path));
    }
}

/// Whether `path` is `outer` or in it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// `a.b` for `a.b.c` and `a.b[c.d]`.
fn parent(path: &str) -> Option<&str> {
    let end = if path.ends_with(']') {
        path.find('[').map(|first| path.rfind("][").map_or(first, |at| at + 1))
    } else {
        path.rfind('.')
    };
    end.map(|end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_noted_came_from_what_it_is_in() {
        let mut origins = Origins::default();
        origins.add("a", Origin::Flag("a"));
        origins.add("a.b", Origin::Flag("b"));
        origins.add("m[x.y/z]", Origin::Flag("m"));
        origins.add("l[0]", Origin::Flag("l"));
        for (path, expected) in [
            ("a", Origin::Flag("a")),
            ("a.b.c", Origin::Flag("b")),
            ("a.c", Origin::Flag("a")),
            ("ab", Origin::Default),
            ("m", Origin::Default),
            ("m[x.y/z]", Origin::Flag("m")),
            ("m[x.y]", Origin::Default),
            ("l[0].effect", Origin::Flag("l")),
            ("l[0][k.k]", Origin::Flag("l")),
        ] {
            assert_eq!(origins.of(path), expected, "{path}");
        }
        origins.set("a", Origin::Flag("z"));
        assert_eq!(origins.of("a.b"), Origin::Flag("z"));
    }

    #[test]
    fn origins_are_written_for_people() {
        let location =
            |line| Location { file: "/etc/k.yaml".into(), position: Some(Position { line, column: 1 }) };
        for (origin, text) in [
            (Origin::Default, "default"),
            (Origin::Flag("eviction-hard"), "flag --eviction-hard"),
            (Origin::File(location(12)), "file /etc/k.yaml line 12"),
            (Origin::DropIn(Location { file: "20-x.conf".into(), position: None }), "drop-in 20-x.conf"),
        ] {
            assert_eq!(origin.to_string(), text);
        }
    }
}
