//! ConfigMaps and Secrets on disk: one file each, by their UIDs, beside those of the pods and by the same rules.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kube_model::view::Problem;
use manifest::object::{self, Described};

use super::{Fault, MAX_BYTES, OpenError, Step, make, replace};

/// The folder.
#[derive(Debug)]
pub(in crate::store) struct ContentFiles {
    dir: PathBuf,
    /// `dir`, to bring its entries to the disk.
    folder: File,
    fault: Fault,
}

impl ContentFiles {
    /// Takes the folder, made if it is missing; all objects in it, and the files that hold none.
    pub(in crate::store) fn open(
        dir: &Path,
        fault: Fault,
    ) -> Result<(Self, Vec<Described>, Vec<Problem>), OpenError> {
        let dir = dir.join("objects");
        let failed = |what| {
            let path = dir.clone();
            move |source| OpenError::Io { what, path, source }
        };
        make(&dir).map_err(failed("make the folder"))?;
        // Secrets stand in it: nobody else looks into it, whoever made it.
        fs::set_permissions(&dir, Permissions::from_mode(0o700))
            .map_err(failed("make private the folder"))?;
        let folder = File::open(&dir).map_err(failed("open the folder"))?;
        let files = Self { folder, fault, dir: dir.clone() };
        let (objects, problems) = files.load().map_err(failed("read the folder"))?;
        Ok((files, objects, problems))
    }

    fn load(&self) -> io::Result<(Vec<Described>, Vec<Problem>)> {
        let (mut objects, mut problems) = (BTreeMap::new(), Vec::new());
        let mut files = fs::read_dir(&self.dir)?.collect::<io::Result<Vec<_>>>()?;
        files.sort_by_key(fs::DirEntry::file_name);
        for path in files.into_iter().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "tmp") {
                // Half-written by a killed agent.
                fs::remove_file(&path)?;
                continue;
            }
            let found = load_one(&path).and_then(|found| match objects.entry(found.key()) {
                Entry::Occupied(first) => Err(format!("the {} is in another file, too", first.key())),
                Entry::Vacant(place) => {
                    place.insert(found);
                    Ok(())
                }
            });
            if let Err(message) = found {
                let message = format!(
                    "{message}; the file stays, and its object is not there before it is repaired and the agent \
                     started again"
                );
                problems.push(Problem { path, message, ..Problem::default() });
            }
        }
        Ok((objects.into_values().collect(), problems))
    }

    /// Writes the object, in the place of `before`. After an error that one is still there.
    pub(in crate::store) fn write(&self, new: &Described, before: Option<&Described>) -> io::Result<()> {
        self.put(new)?;
        self.sync_folder().inspect_err(|_| {
            // Nobody knows which of the two the disk has. Errors on the way back do not change that.
            let _ = match before {
                Some(before) => self.put(before),
                None => fs::remove_file(self.file(new)),
            };
        })
    }

    /// Removes the object. After an error it is still there.
    pub(in crate::store) fn remove(&self, object: &Described) -> io::Result<()> {
        self.fault.at(Step::Unlink)?;
        match fs::remove_file(self.file(object)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.sync_folder().inspect_err(|_| {
            let _ = self.put(object);
        })
    }

    fn file(&self, object: &Described) -> PathBuf {
        self.dir.join(format!("{}.json", uid(object)))
    }

    fn put(&self, object: &Described) -> io::Result<()> {
        let path = self.file(object);
        let text = serde_json::to_vec(&object.to_value())?;
        replace(&path.with_extension("tmp"), &path, &text, &self.fault)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.fault.at(Step::SyncFolder)?;
        self.folder.sync_all()?;
        self.fault.at(Step::Done)
    }
}

fn uid(object: &Described) -> &str {
    object.metadata.uid.as_deref().unwrap_or_default()
}

fn load_one(path: &Path) -> Result<Described, String> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
    read.map_err(|error| format!("can not be read: {error}"))?;
    // A decoder's own words may hold a value.
    let damaged = |why: &str| format!("is damaged: {why}");
    let value = serde_json::from_slice(&text).map_err(|_| damaged("it is no JSON"))?;
    let found = object::submitted(value).map_err(|_| damaged("it holds no ConfigMap or Secret"))?.0;
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some(name) if name == uid(&found) => Ok(found),
        _ => Err(damaged("the name of the file is not the UID of the object")),
    }
}
