//! Files for tests, in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::LoadError;
use crate::load::{CommandLine, Effective, Files};
use crate::parse;
use crate::table::AGENT;

/// Files by their paths; relative ones are seen from `/here`.
#[derive(Default)]
pub(crate) struct Folder(BTreeMap<PathBuf, Vec<u8>>);

impl Folder {
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(files.into_iter().map(|(path, text)| (path.into(), text.as_bytes().to_owned())).collect())
    }
}

impl Files for Folder {
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/here").join(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if self.0.keys().any(|file| file != path && file.starts_with(path)) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        // Backwards, because the order is not for the caller to keep.
        let files: Vec<_> = self.0.keys().rev().filter(|file| file.starts_with(folder)).cloned().collect();
        if files.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(files) }
    }
}

/// Loads with a command line of words.
pub(crate) fn load(folder: &Folder, line: &[&str]) -> Result<Effective, LoadError> {
    CommandLine(parse::parse(AGENT, line.iter().map(|&arg| arg.to_owned())).unwrap()).load(folder)
}
