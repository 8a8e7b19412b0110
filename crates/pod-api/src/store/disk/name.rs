//! What the file of a pod is called. On a full disk a name can be changed and a text can not, so a deletion that finds
//! no room in the text goes into the name.

use std::path::Path;

/// The name of a file that holds a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) uid: String,
    /// When the pod should have ended, in seconds since 1970, and the grace period that it was given.
    pub(super) deletion: Option<(i64, i64)>,
}

impl Name {
    /// The name of a file, if it is one that this store gives.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
        match name.split('.').collect::<Vec<_>>()[..] {
            [uid] => Some(Self { uid: uid.to_owned(), deletion: None }),
            [uid, "deleted", at, grace] => {
                Some(Self { uid: uid.to_owned(), deletion: Some((at.parse().ok()?, grace.parse().ok()?)) })
            }
            _ => None,
        }
    }

    pub(super) fn file(&self) -> String {
        let uid = &self.uid;
        match self.deletion {
            None => format!("{uid}.json"),
            Some((at, grace)) => format!("{uid}.deleted.{at}.{grace}.json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went() {
        for deletion in [None, Some((1_700_000_000, 3600)), Some((-5, 0))] {
            let name = Name { uid: "a-1".to_owned(), deletion };
            assert_eq!(Name::of(Path::new(&name.file())), Some(name));
        }
        for other in ["a.tmp", "a.b.json", "a.deleted.x.1.json", "a.deleted.1.json", "a"] {
            assert_eq!(Name::of(Path::new(other)), None, "{other}");
        }
    }
}
