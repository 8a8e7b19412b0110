//! Files below folders that pods may mount and fill: regular ones only, without links, and read by few threads.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::sync::Semaphore;

/// Reads at once in the whole process. A disk that answers nobody holds these threads, and not all that there are.
const MOST_READERS: usize = 64;

static READERS: Semaphore = Semaphore::const_new(MOST_READERS);

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// A link to anywhere, or a way out of the folder.
    #[error("there is a link on the way, and none is followed below {0:?}")]
    Link(PathBuf),
    /// Neither a file nor what else was asked for.
    #[error("it is {0}, and only regular files are read")]
    Special(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OpenError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Opens the regular file `below` in `folder`, which may be a link itself. Waits for nobody, and never opens a device.
pub(crate) fn open(folder: &Path, below: &Path) -> Result<File, OpenError> {
    let found = Found::at(folder, below)?;
    let meta = found.0.metadata()?;
    if !meta.is_file() {
        return Err(OpenError::Special(special(&meta)));
    }
    Ok(found.open()?)
}

/// As [`open`], for folders too.
pub(crate) fn open_any(folder: &Path, below: &Path) -> Result<File, OpenError> {
    let found = Found::at(folder, below)?;
    let meta = found.0.metadata()?;
    if !meta.is_file() && !meta.is_dir() {
        return Err(OpenError::Special(special(&meta)));
    }
    Ok(found.open()?)
}

/// A place in the tree (`O_PATH`): nothing is opened yet, so that a pipe does not wait and a device does not start.
struct Found(File);

impl Found {
    fn at(folder: &Path, below: &Path) -> Result<Self, OpenError> {
        let place = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, folder, place | OFlags::DIRECTORY, Mode::empty())
            .map_err(io::Error::from)?;
        let guarded = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&root, below, place, Mode::empty(), guarded) {
            Ok(found) => Ok(Self(found.into())),
            Err(Errno::LOOP | Errno::XDEV) => Err(OpenError::Link(folder.to_owned())),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Opens just what was found, whatever is there by now.
    fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?.into())
    }
}

fn special(meta: &std::fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = meta.file_type();
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Reading may wait for a disk; it is done where that holds up nobody else. Whoever goes away leaves the place of its
/// thread taken until that thread is back.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    blocking_among(&READERS, work).await
}

async fn blocking_among<T: Send + 'static>(
    readers: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    // Nobody closes it.
    let place = readers.acquire().await.ok();
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    match done.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this future with it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn only_regular_files_below_the_folder_are_opened() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("pods");
        std::fs::create_dir_all(root.join("pod/app")).unwrap();
        std::fs::write(root.join("pod/app/0.log"), "log").unwrap();
        std::fs::write(temp.path().join("secret"), "secret").unwrap();
        symlink("0.log", root.join("pod/app/near")).unwrap();
        symlink(temp.path().join("secret"), root.join("pod/app/far")).unwrap();
        symlink("app", root.join("pod/linked")).unwrap();
        symlink(&root, temp.path().join("root")).unwrap();
        rustix::fs::mkfifoat(CWD, root.join("pod/app/fifo"), Mode::RUSR).unwrap();
        let _socket = UnixListener::bind(root.join("pod/app/socket")).unwrap();
        let link = format!("there is a link on the way, and none is followed below {root:?}");
        for (path, expected) in [
            ("pod/app/0.log", Ok("log")),
            ("pod/app/near", Err(link.as_str())),
            ("pod/app/far", Err(&link)),
            ("pod/linked/0.log", Err(&link)),
            ("../secret", Err(&link)),
            ("/etc/hostname", Err(&link)),
            ("pod/app", Err("it is a folder, and only regular files are read")),
            ("pod/app/fifo", Err("it is a named pipe, and only regular files are read")),
            ("pod/app/socket", Err("it is a socket, and only regular files are read")),
            ("pod/app/1.log", Err("No such file or directory (os error 2)")),
        ] {
            let read = open(&root, Path::new(path)).map(|file| std::io::read_to_string(file).unwrap());
            let read = read.map_err(|error| error.to_string());
            assert_eq!(read.as_deref().map_err(String::as_str), expected, "{path}");
        }
        assert!(
            open(&temp.path().join("root"), Path::new("pod/app/0.log")).is_ok(),
            "the folder itself may be a link"
        );
        let device = open(Path::new("/dev"), Path::new("null")).unwrap_err();
        assert_eq!(device.to_string(), "it is a device, and only regular files are read");
        let folder = open_any(&root, Path::new("pod/app")).unwrap();
        assert_eq!(FileType::from_raw_mode(rustix::fs::fstat(&folder).unwrap().st_mode), FileType::Directory);
        assert!(matches!(
            open_any(&root, Path::new("pod/app/fifo")),
            Err(OpenError::Special("a named pipe"))
        ));
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_place_taken_until_the_thread_is_back() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
        let stuck = tokio::spawn(blocking_among(&ONE, move || released.recv()));
        while ONE.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        stuck.abort();
        assert!(stuck.await.unwrap_err().is_cancelled());
        assert_eq!(ONE.available_permits(), 0);
        release.send(()).unwrap();
        assert_eq!(blocking_among(&ONE, || 1).await, 1);
    }
}
