//! Parts of volumes as mounts of their own (`subPath`; upstream `pkg/volume/util/subpath`). What is mounted is what was
//! opened below the volume, whatever the container makes of the path meanwhile.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::FileType;

use crate::beneath::Root;
use crate::error::{During as _, Error};
use crate::mount::{self, Unmount};

/// Mounts what is at `path` below `volume` at `target`, where neither file nor folder has to be yet. What is mounted
/// there and is something else by now goes first: a file that was replaced, for example.
///
/// With `create`, folders that are missing are made, with the mode of the volume.
///
/// # Errors
/// If the path leads out of the volume, there is nothing, or it cannot be mounted.
pub fn mount(volume: &Path, path: &Path, create: bool, target: &Path) -> Result<(), Error> {
    let root = Root::open(volume)?;
    let part = if create { root.make_folders(path, None)? } else { root.open_below(path)? };
    let name = volume.join(path);
    let is_mounted = match mount::is_mount_point(target) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => false,
        found => found?,
    };
    if is_mounted {
        if mount::is_same(part.as_fd(), target)? {
            return Ok(());
        }
        mount::unmount(target, Unmount::Now)?;
    }
    // What is left there may be of the other kind.
    remove_point(target)?;
    if let Some(above) = target.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(above).during("creating", above)?;
    }
    let found = rustix::fs::fstat(&part).during("looking at", &name)?;
    mount::make_point(target, FileType::from_raw_mode(found.st_mode) == FileType::Directory)?;
    mount::bind_fd(part.as_fd(), &name, target)
}

/// Unmounts all parts of one volume, at `folder/CONTAINER/INDEX`, and removes `folder`; the folder above goes, too, if it
/// is empty then. What is mounted is not looked at: its server may be gone.
///
/// # Errors
/// If one is in use, or something else stands there; what was done stays done.
pub fn unmount_all(folder: &Path, how: Unmount) -> Result<(), Error> {
    for container in entries(folder)? {
        for part in entries(&container)? {
            mount::unmount(&part, how)?;
            remove_point(&part)?;
        }
        remove_point(&container)?;
    }
    remove_point(folder)?;
    if let Some(above) = folder.parent() {
        match std::fs::remove_dir(above) {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                return Err(Error::new("removing", above, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.during("reading", folder)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>();
    paths.during("reading", folder)
}

/// An empty file or folder; what has something in it stays, as does a mount.
fn remove_point(path: &Path) -> Result<(), Error> {
    let removed = match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(path),
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.during("removing", path),
    }
}

#[cfg(test)]
mod tests;
