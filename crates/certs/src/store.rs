//! The files of certificates, as the kubelet lays them out (upstream `client-go/util/certificate/certificate_store.go`):
//! `PREFIX-current.pem` is a link to `PREFIX-TIME.pem`, which holds certificate and key. What is there is whole: the link is
//! switched when the new file is on the disk.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use kube_model::Timestamp;

use crate::key::{Key, KeyError, pem};
use crate::pair::{Pair, PairError, chain};
use crate::template::Signer;

/// The key of a request that is not answered yet.
const PENDING_KEY: &str = "kubelet-client.key.tmp";

/// What is wrong with files of certificates.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// One can not be read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What stands in it is no certificate with its key.
    #[error("{}", path.display())]
    Pair {
        /// Which file; with two, that of the certificate.
        path: PathBuf,
        /// What is wrong.
        source: PairError,
    },
    /// Somebody has put a file where only the agent's link may be.
    #[error("expected {} to be a symlink but it is a file: move it away", .0.display())]
    NoLink(PathBuf),
    /// What was signed is no certificate for the key that was asked with.
    #[error("the certificate that was signed")]
    Signed(#[source] PairError),
    /// No key can be made.
    #[error("making a key")]
    Key(#[source] rcgen::Error),
}

/// The certificates of one kind in a folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    signer: Signer,
    /// Files that somebody else has given: certificate and key.
    given: Option<(PathBuf, PathBuf)>,
}

impl Store {
    /// In `folder` (`--cert-dir`). `given` counts until there is a certificate of the agent's own. What an update left that
    /// was cut off is put right; blocks.
    ///
    /// # Errors
    /// When the folder can not be read.
    pub fn open(
        folder: &Path,
        signer: Signer,
        given: Option<(PathBuf, PathBuf)>,
    ) -> Result<Self, StoreError> {
        let store = Self { folder: folder.to_owned(), signer, given };
        let (current, updated) = (store.current_path(), store.named("updated"));
        let exists = current.try_exists().map_err(at("looking for", &current))?;
        if !exists && is_link(&updated)? == Some(true) {
            fs::rename(&updated, &current).map_err(at("renaming", &updated))?;
        }
        Ok(store)
    }

    /// The link.
    pub fn current_path(&self) -> PathBuf {
        self.named("current")
    }

    /// Where a certificate and its key may be, the first that are there count: of the agent's own, given ones, and those of
    /// kubelets that made them without a signer.
    pub fn places(&self) -> Vec<(PathBuf, PathBuf)> {
        let (current, old) = (self.current_path(), self.folder.join(self.signer.prefix()));
        let old = (old.with_extension("crt"), old.with_extension("key"));
        let own = (current.clone(), current);
        [Some(own), self.given.clone(), Some(old)].into_iter().flatten().collect()
    }

    /// What there is; `None`: nothing. Blocks.
    ///
    /// # Errors
    /// Where there are files which are no certificate with its key.
    pub fn current(&self) -> Result<Option<Pair>, StoreError> {
        for (certificate, key) in self.places() {
            let Some(of_certificate) = read(&certificate)? else { continue };
            let Some(of_key) = read(&key)? else { continue };
            let pair = Pair::read(&of_certificate, &of_key);
            return pair.map(Some).map_err(|source| StoreError::Pair { path: certificate, source });
        }
        Ok(None)
    }

    /// Takes a certificate that was signed (PEM, the holder's own first) and its key from now on. Blocks.
    ///
    /// # Errors
    /// When they do not go together, or the files can not be written; then the last certificate stays.
    pub fn update(&self, certificates: &[u8], key: &Key, now: Timestamp) -> Result<Pair, StoreError> {
        let key = key.to_pem();
        let pair = Pair::read(certificates, key.as_bytes()).map_err(StoreError::Signed)?;
        let chain = chain(certificates).map_err(StoreError::Signed)?;
        let text: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect::<String>() + &key;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.folder)
            .map_err(at("making", &self.folder))?;
        let current = self.current_path();
        if is_link(&current)? == Some(false) {
            return Err(StoreError::NoLink(current));
        }
        let dated = self.named(&now.strftime("%Y-%m-%d-%H-%M-%S").to_string());
        replace(&dated, text.as_bytes())?;
        let updated = self.named("updated");
        match is_link(&updated)? {
            Some(false) => return Err(StoreError::NoLink(updated)),
            Some(true) => fs::remove_file(&updated).map_err(at("removing", &updated))?,
            None => {}
        }
        let target = std::path::absolute(&dated).map_err(at("finding", &dated))?;
        symlink(&target, &updated).map_err(at("making the link", &updated))?;
        fs::rename(&updated, &current).map_err(at("switching", &current))?;
        sync(&self.folder)?;
        Ok(pair)
    }

    /// The key for a first request; kept until [`Store::forget_key`], so that the request is found again. Blocks.
    ///
    /// # Errors
    /// When it can not be kept.
    pub fn pending_key(&self) -> Result<Key, StoreError> {
        let path = self.folder.join(PENDING_KEY);
        if let Some(text) = read(&path)? {
            match Key::from_pem(&text) {
                Ok(key) => return Ok(key),
                Err(error) => warn_of_key(&path, &error),
            }
        }
        let key = Key::generate().map_err(StoreError::Key)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.folder)
            .map_err(at("making", &self.folder))?;
        replace(&path, key.to_pem().as_bytes())?;
        Ok(key)
    }

    /// The request with that key is done with. Blocks.
    ///
    /// # Errors
    /// When the file can not be removed.
    pub fn forget_key(&self) -> Result<(), StoreError> {
        let path = self.folder.join(PENDING_KEY);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at("removing", &path)(error)),
            _ => Ok(()),
        }
    }

    fn named(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}-{what}.pem", self.signer.prefix()))
    }
}

fn warn_of_key(path: &Path, error: &KeyError) {
    tracing::warn!(error = util::causes(error), path = %path.display(), "A key that was kept cannot be used: a new one is made");
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { doing, path, source }
}

/// `None`: it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("reading", path)(error)),
    }
}

/// `None`: nothing is there.
fn is_link(path: &Path) -> Result<Option<bool>, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.is_symlink())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("looking for", path)(error)),
    }
}

/// Whole or not at all, and for root alone whatever the umask.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), StoreError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(at("writing", path))?;
    path.parent().map_or(Ok(()), sync)
}

/// The names in a folder are on the disk.
fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("writing", folder))
}

#[cfg(test)]
mod tests;
