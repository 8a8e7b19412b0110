//! The user's cache: what takes minutes to build, built once for all work trees.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::error::At;
use super::{Error, say};

/// The folder of this project in the user's cache: in `$XDG_CACHE_HOME`, else `~/.cache`. It need not be there.
///
/// # Errors
/// Without a home folder.
pub fn user_cache() -> Result<PathBuf, Error> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".cache")))
        .ok_or_else(|| {
            Error::Machine("no home folder to keep what is built in: set XDG_CACHE_HOME".into())
        })?;
    Ok(base.join("node-agent"))
}

/// Waits until nobody else builds in this folder, which is there, saying so; held until the file is dropped.
///
/// # Errors
/// When the lock cannot be made.
pub fn lock(dir: &Path, what: &str) -> Result<File, Error> {
    let path = dir.join("lock");
    let lock = File::create(&path).at("create", &path)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say(&format!("another process is building {what}: waiting for it"));
            lock.lock().at("lock", &path)?;
        }
        Err(TryLockError::Error(source)) => return Err(source).at("lock", &path),
    }
    Ok(lock)
}
