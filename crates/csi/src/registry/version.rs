//! Versions of CSI that drivers speak.

use std::fmt;

/// A version 1.x of CSI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    minor: u32,
    patch: u32,
}

impl Version {
    /// The highest of these that the agent speaks, which is any 1.x. Rule: upstream
    /// `k8s.io/apimachinery/pkg/util/version` `HighestSupportedVersion`.
    ///
    /// # Errors
    /// If there is none; the text names all.
    pub fn highest<S: AsRef<str>>(versions: &[S]) -> Result<Self, String> {
        if versions.is_empty() {
            return Err("the plugin returned an empty list for supported versions".to_owned());
        }
        versions.iter().filter_map(|text| Self::parse(text.as_ref())).max().ok_or_else(|| {
            let all = versions.iter().map(|text| format!("{:?}", text.as_ref())).collect::<Vec<_>>();
            format!("none of the versions specified [{}] are supported, which any v1.x is", all.join(" "))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        // What is behind the numbers, as `-rc1`, does not count.
        let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let mut parts = text[..end].split('.').map(str::parse::<u32>);
        let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
        let patch = parts.next().map_or(Some(0), Result::ok)?;
        (major == 1).then_some(Self { minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}.{}", self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_1_counts() {
        for (given, want) in [
            (&["1.0.0"][..], Ok("1.0.0")),
            (&["v1.2.3", "1.10.0", "1.9.9"], Ok("1.10.0")),
            (&["0.3.0", "1.0"], Ok("1.0.0")),
            (&["1.5.0-rc1", "2.0.0"], Ok("1.5.0")),
            (&["0.3.0", "2.0.0"], Err("none of the versions specified [\"0.3.0\" \"2.0.0\"] are supported")),
            (&["nonsense", "1", ""], Err("none of the versions specified")),
            (&[], Err("an empty list")),
        ] {
            match (Version::highest(given), want) {
                (Ok(found), Ok(want)) => assert_eq!(found.to_string(), want),
                (Err(found), Err(want)) => assert!(found.contains(want), "{found}"),
                (found, want) => panic!("{given:?}: {found:?}, not {want:?}"),
            }
        }
    }
}
