//! The last good text of each manifest of a source on disk, so that it outlives the agent.
//!
//! One JSON file per manifest, named by a hash of the manifest's path, replaced as a whole.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kube_model::hash::Fnv128a;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// The folder, which belongs to the source alone.
#[derive(Debug)]
pub(crate) struct LastGood {
    dir: PathBuf,
}

/// What one file holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The manifest: a file, or a URL.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) text: String,
}

impl LastGood {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// All that is kept and can be read, and the last error. What is not ours or damaged is left out: it is
    /// written anew with the next good version. Half-written files of a killed agent are removed.
    pub(crate) fn load(&self) -> (Vec<Kept>, Option<io::Error>) {
        let (mut kept, mut failed) = (Vec::new(), None);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) => return (kept, Some(error).filter(|e| e.kind() != io::ErrorKind::NotFound)),
        };
        for entry in entries {
            match entry.map(|entry| entry.path()).and_then(|path| load_one(&path)) {
                Ok(one) => kept.extend(one),
                Err(error) => failed = Some(error),
            }
        }
        (kept, failed)
    }

    /// Keeps `text` as the last good version of the manifest at `path`. After an error the version before is
    /// still there.
    pub(crate) fn keep(&self, path: &Path, text: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        // Manifests hold secrets: whoever made the folder, and whatever the umask says.
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700))?;
        let mut file: NamedTempFile = tempfile::Builder::new().suffix(".tmp").tempfile_in(&self.dir)?;
        file.as_file().set_permissions(Permissions::from_mode(0o600))?;
        let kept = Kept { path: path.to_owned(), text: text.to_owned() };
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.as_file().sync_all()?;
        file.persist(self.name(path)).map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Drops what is kept of `path`.
    pub(crate) fn forget(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(self.name(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn name(&self, path: &Path) -> PathBuf {
        let mut hash = Fnv128a::default();
        hash.write(path.as_os_str().as_encoded_bytes());
        self.dir.join(hash.hex() + ".json")
    }
}

fn load_one(path: &Path) -> io::Result<Option<Kept>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(serde_json::from_slice(&fs::read(path)?).ok()),
        Some("tmp") => fs::remove_file(path).map(|()| None),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_its_owners_alone_whoever_made_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("kept");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        LastGood::new(dir.clone()).keep(Path::new("/m/web.yaml"), "text").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&dir), 0o700);
        let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| mode(&entry.unwrap().path())).collect();
        assert_eq!(files, [0o600]);
    }
}
