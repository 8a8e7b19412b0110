//! Files with their paths below a volume.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

/// What the API server gives a volume whose `defaultMode` is not set.
pub(super) const DEFAULT_MODE: i32 = 0o644;

/// The longest name of a file, in bytes.
const MAX_NAME: usize = 255;
/// The longest path below the volume, in bytes.
const MAX_PATH: usize = 4096;

/// One file. Bytes are borrowed where an object has them.
#[derive(Clone, PartialEq, Eq)]
pub struct File<'a> {
    /// Its whole content.
    pub data: Cow<'a, [u8]>,
    /// Permission bits; what a pod's fsGroup adds is not in here.
    pub mode: u32,
    /// Who owns it, if not root. Its link at the top of the volume is this user's, too.
    pub owner: Option<u32>,
}

impl<'a> File<'a> {
    /// A file of root's. Of `mode` the permission bits count.
    pub fn new(data: impl Into<Cow<'a, [u8]>>, mode: i32) -> Self {
        Self { data: data.into(), mode: mode.cast_unsigned() & 0o777, owner: None }
    }
}

/// Without the content, which may be secret.
impl fmt::Debug for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:o} {:?} {} bytes", self.mode, self.owner, self.data.len())
    }
}

/// All files of one volume, by path. No path leaves the volume, takes a name that the writer needs (`..data`) or
/// stands below a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSet<'a> {
    files: BTreeMap<Cow<'a, str>, File<'a>>,
}

impl<'a> FileSet<'a> {
    /// Adds a file, in place of one that has the same path already: the later source of a projected volume wins.
    ///
    /// # Errors
    /// If there can be no such file. The set is as it was.
    pub fn insert(&mut self, path: impl Into<Cow<'a, str>>, file: File<'a>) -> Result<(), PathError> {
        let path = clean(path.into())?;
        // What is above `path`, and what is below: in the order of names all that is below stands together.
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let above = above.into_iter().find(|folder| self.files.contains_key(*folder)).map(str::to_owned);
        let folder = format!("{path}/");
        let below = self.files.range::<str, _>((Bound::Included(folder.as_str()), Bound::Unbounded)).next();
        let below = below.filter(|(other, _)| other.starts_with(&folder)).map(|(other, _)| other.to_string());
        if let Some(file) = above {
            return Err(PathError::Clash(Clash { file, below: path.into_owned() }));
        }
        if let Some(below) = below {
            return Err(PathError::Clash(Clash { file: path.into_owned(), below }));
        }
        self.files.insert(path, file);
        Ok(())
    }

    /// The files in the order of their paths.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &File<'a>)> {
        self.files.iter().map(|(path, file)| (path.as_ref(), file))
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File<'a>> {
        self.files.get(path)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none: an optional source that is missing, for example.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Why there can be no file of that path (upstream `pkg/volume/util/atomic_writer.go` `validatePath`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathError {
    /// It says nothing.
    Empty,
    /// It does not start at the volume.
    Absolute(String),
    /// It goes up.
    Up(String),
    /// It is one of the names that the writer uses.
    Reserved(String),
    /// One of its names is longer than Linux has it.
    LongName,
    /// It is longer than Linux has it.
    LongPath,
    /// It names a folder, or holds what no path can.
    NoFile(String),
    /// Something would have to be a file and a folder.
    Clash(Clash),
}

/// Two paths that cannot be there together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The one that is a file.
    pub file: String,
    /// The one that needs it to be a folder.
    pub below: String,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid path: ")?;
        match self {
            Self::Empty => f.write_str("must not be empty: \"\""),
            Self::Absolute(path) => write!(f, "must be relative path: {path}"),
            Self::Up(path) => write!(f, "must not contain '..': {path}"),
            Self::Reserved(path) => write!(f, "must not start with '..': {path}"),
            Self::LongName => write!(f, "filenames must be less than or equal to {MAX_NAME} characters"),
            Self::LongPath => write!(f, "must be less than or equal to {MAX_PATH} characters"),
            Self::NoFile(path) => write!(f, "must name a file: {path:?}"),
            Self::Clash(Clash { file, below }) => {
                write!(f, "{file} cannot be a file and the folder of {below}")
            }
        }
    }
}

impl std::error::Error for PathError {}

/// The path without `.`, doubled and trailing slashes.
fn clean(path: Cow<'_, str>) -> Result<Cow<'_, str>, PathError> {
    let whole = || path.clone().into_owned();
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute(whole()));
    }
    if path.len() > MAX_PATH {
        return Err(PathError::LongPath);
    }
    for name in path.split('/') {
        if name == ".." {
            return Err(PathError::Up(whole()));
        }
        if name.len() > MAX_NAME {
            return Err(PathError::LongName);
        }
    }
    let names = || path.split('/').filter(|name| !name.is_empty() && *name != ".");
    // What counts is the first name that is one: `./..data` would be the writer's, too.
    match names().next() {
        None => return Err(PathError::NoFile(whole())),
        Some(first) if first.starts_with("..") => return Err(PathError::Reserved(whole())),
        Some(_) if path.contains('\0') => return Err(PathError::NoFile(whole())),
        Some(_) => {}
    }
    let is_clean = path.split('/').all(|name| !name.is_empty() && name != ".");
    Ok(if is_clean { path } else { Cow::Owned(names().collect::<Vec<_>>().join("/")) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set<'a>(paths: &[&'a str]) -> Result<FileSet<'a>, String> {
        let mut set = FileSet::default();
        for path in paths {
            set.insert(*path, File::new(path.as_bytes(), 0o644)).map_err(|error| error.to_string())?;
        }
        Ok(set)
    }

    #[test]
    fn only_paths_below_the_volume_are_taken() {
        let (long, longer) = ("k".repeat(253), "k".repeat(256));
        let (deep, deeper) = ("d/".repeat(2047) + "f", "d/".repeat(2048) + "f");
        for (path, want) in [
            ("a", Ok("a")),
            (".hidden", Ok(".hidden")),
            ("a..b", Ok("a..b")),
            ("sub/..dots", Ok("sub/..dots")),
            ("./a//b/./c/", Ok("a/b/c")),
            (&long, Ok(long.as_str())),
            (&deep, Ok(deep.as_str())),
            ("", Err("must not be empty: \"\"")),
            ("/etc/passwd", Err("must be relative path: /etc/passwd")),
            ("a/../../b", Err("must not contain '..': a/../../b")),
            ("..", Err("must not contain '..': ..")),
            ("..data", Err("must not start with '..': ..data")),
            ("./..data", Err("must not start with '..': ./..data")),
            ("..data_tmp/x", Err("must not start with '..': ..data_tmp/x")),
            (".", Err("must name a file: \".\"")),
            ("a\0b", Err("must name a file: \"a\\0b\"")),
            (&longer, Err("filenames must be less than or equal to 255 characters")),
            (&deeper, Err("must be less than or equal to 4096 characters")),
        ] {
            let got = set(&[path]).map(|set| set.iter().next().unwrap().0.to_owned());
            let want = want.map(str::to_owned).map_err(|error| format!("invalid path: {error}"));
            assert_eq!(got, want, "{path}");
        }
    }

    #[test]
    fn the_later_of_two_files_stays_and_nothing_is_file_and_folder() {
        let mut both = set(&["a/b", "c"]).unwrap();
        both.insert("a//b", File::new(&b"new"[..], 0o400)).unwrap();
        assert_eq!((both.len(), both.get("a/b").unwrap().data.as_ref()), (2, &b"new"[..]));

        for (paths, want) in [
            (&["a", "a/b"][..], "a cannot be a file and the folder of a/b"),
            (&["a/b/c", "a/b"], "a/b cannot be a file and the folder of a/b/c"),
            (&["a/b", "a/b/c/d"], "a/b cannot be a file and the folder of a/b/c/d"),
        ] {
            assert_eq!(set(paths), Err(format!("invalid path: {want}")), "{paths:?}");
        }
        // Names that only begin alike.
        set(&["a", "a-b/c", "a.d", "ab/c"]).unwrap();
    }

    #[test]
    fn of_a_mode_the_permissions_count() {
        let mode = |mode| File::new(&b""[..], mode).mode;
        assert_eq!([mode(0o777), mode(0), mode(0o4755), mode(-1)], [0o777, 0, 0o755, 0o777]);
    }

    #[test]
    fn content_is_not_shown() {
        let shown = format!("{:?}", set(&["s3cret"]).unwrap().get("s3cret"));
        assert_eq!(shown, "Some(644 None 6 bytes)");
    }

    proptest! {
        #[test]
        fn whatever_is_inserted_stands_below_the_volume_and_nothing_below_a_file(
            paths in prop::collection::vec("[a.]{0,3}(/{1,2}[ab.]{0,2}){0,3}/?", 0..8)
        ) {
            let mut set = FileSet::default();
            for (i, path) in paths.iter().enumerate() {
                let before = set.clone();
                match set.insert(path.clone(), File::new(vec![u8::try_from(i).unwrap()], 0o644)) {
                    Ok(()) => prop_assert!(set.len() <= before.len() + 1),
                    Err(_) => prop_assert_eq!(&set, &before),
                }
            }
            for (path, _) in set.iter() {
                let names: Vec<_> = path.split('/').collect();
                prop_assert!(names.iter().all(|name| !matches!(*name, "" | "." | "..")), "{}", path);
                prop_assert!(!names[0].starts_with(".."), "{}", path);
                let above = (1..names.len()).map(|len| names[..len].join("/"));
                for above in above {
                    prop_assert!(set.get(&above).is_none(), "{} is below {}", path, above);
                }
            }
        }
    }
}
