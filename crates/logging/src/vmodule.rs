//! `logging.vmodule`: verbosities of single source files. klog's rules: `internal/verbosity`.

/// Patterns for the names of source files, without folder and ending, and the verbosity of each.
#[derive(Debug, Default)]
pub(super) struct VModule(pub(super) Vec<(String, u32)>);

impl VModule {
    /// Of the first pattern that the file matches; 0 for others.
    pub(super) fn of(&self, file: Option<&str>) -> u32 {
        let name = file.and_then(|path| path.rsplit('/').next()?.strip_suffix(".rs"));
        let found = name
            .and_then(|name| self.0.iter().find(|(pattern, _)| matches(pattern.as_bytes(), name.as_bytes())));
        found.map_or(0, |(_, verbosity)| *verbosity)
    }

    /// The highest that any file may have.
    pub(super) fn most(&self) -> u32 {
        self.0.iter().map(|(_, verbosity)| *verbosity).max().unwrap_or(0)
    }
}

/// Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before what stands for itself. A broken pattern matches
/// nothing.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], name) => name.is_empty(),
        ([b'*', rest @ ..], name) => (0..=name.len()).any(|taken| matches(rest, &name[taken..])),
        (_, []) => false,
        ([b'?', rest @ ..], [_, name @ ..]) => matches(rest, name),
        ([b'[', rest @ ..], [byte, name @ ..]) => {
            class(rest, *byte).is_some_and(|(within, rest)| within && matches(rest, name))
        }
        ([b'\\', own, rest @ ..] | [own, rest @ ..], [byte, name @ ..]) => own == byte && matches(rest, name),
    }
}

/// Whether a byte is in the class that begins here, and what follows that; `None` if it does not end.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (mut rest, negated) = match pattern {
        [b'^', rest @ ..] => (rest, true),
        rest => (rest, false),
    };
    let mut within = false;
    let mut first = true;
    loop {
        let (low, after) = match rest {
            [b']', rest @ ..] if !first => return Some((within != negated, rest)),
            [b'\\', own, rest @ ..] | [own, rest @ ..] => (*own, rest),
            [] => return None,
        };
        let (high, after) = match after {
            [b'-', b'\\', own, rest @ ..] | [b'-', own, rest @ ..] => (*own, rest),
            after => (low, after),
        };
        within |= (low..=high).contains(&byte);
        (rest, first) = (after, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos() {
        for (pattern, name, is) in [
            ("actor", "actor", true),
            ("actor", "actors", false),
            ("a*r", "actor", true),
            ("*", "actor", true),
            ("a*t*", "actor", true),
            ("a?tor", "actor", true),
            ("a?tor", "ator", false),
            ("[a-c]ctor", "actor", true),
            ("[^a-c]ctor", "actor", false),
            ("[xa]ctor", "actor", true),
            ("[x-z]*", "actor", false),
            ("[a", "a", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"[\]]", "]", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_pattern_counts() {
        let items = [("act*", 5), ("actor", 9), ("reload", 2)];
        let modules = VModule(items.map(|(pattern, verbosity)| (pattern.to_owned(), verbosity)).into());
        for (file, verbosity) in
            [("crates/x/src/actor.rs", 5), ("reload.rs", 2), ("other.rs", 0), ("actor.go", 0)]
        {
            assert_eq!(modules.of(Some(file)), verbosity, "{file}");
        }
        assert_eq!((modules.of(None), modules.most(), VModule::default().most()), (0, 9, 0));
    }
}
