//! The files of a pod on the node: its directories, hosts file, termination logs, and the links to its logs.
//!
//! Owns the making and removing; the names are [`cri_config::paths`]'. All calls block briefly on the local
//! disk, so they run on tokio's blocking threads.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cri_config::paths;
use kube_model::{PodKey, PodUid};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file or folder could not be worked with.
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder could not be removed with what is in it, as something is mounted there.
    #[error("{}", util::causes(.0))]
    Tree(#[from] volume_fs::Error),
    /// The agent is going down.
    #[error("the file task was cut off: {0}")]
    Join(#[from] tokio::task::JoinError),
}

/// Where pods keep their files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The agent's root folder: pods are in `pods` below it.
    pub root_dir: PathBuf,
    /// `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// Where log shippers look; `/var/log/containers` beside `/var/log/pods`.
    pub log_links_dir: PathBuf,
}

impl Files {
    /// Runs `work` where blocking is allowed.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let files = self.clone();
        tokio::task::spawn_blocking(move || work(&files)).await?
    }

    /// The directories that a pod needs before its sandbox.
    pub(crate) fn prepare_pod(&self, uid: &PodUid, key: &PodKey) -> Result<(), FileError> {
        make_dir(&paths::pod_dir(&self.root_dir, uid), 0o750)?;
        make_dir(&paths::pod_logs_dir(&self.pod_logs_dir, uid, key), 0o755)
    }

    /// What a container needs before it is created: its log directory, the hosts file as it is now, and an
    /// empty termination log that any user may write. Returns the termination log.
    pub(crate) fn prepare_container(
        &self,
        uid: &PodUid,
        key: &PodKey,
        container: &str,
        hosts: &str,
    ) -> Result<PathBuf, FileError> {
        make_dir(&paths::pod_logs_dir(&self.pod_logs_dir, uid, key).join(container), 0o755)?;
        make_dir(&paths::container_dir(&self.root_dir, uid, container), 0o750)?;
        write(&paths::hosts_file(&self.root_dir, uid), hosts.as_bytes(), 0o644)?;
        let mut token = fastrand::u32(..);
        loop {
            let path = paths::termination_log(&self.root_dir, uid, container, token);
            let made = OpenOptions::new().write(true).create_new(true).open(&path);
            match made.and_then(|file| file.set_permissions(Permissions::from_mode(0o666))) {
                Ok(()) => return Ok(path),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => token = token.wrapping_add(1),
                Err(e) => return Err(io_error("creating the termination log", &path)(e)),
            }
        }
    }

    /// Notes that a container's postStart hook is to run and has not ended. No fsync: after a reboot no container runs.
    pub(crate) fn hook_begins(&self, uid: &PodUid, container: &str, id: &str) -> Result<(), FileError> {
        let path = paths::post_start_marker(&self.root_dir, uid, container);
        let partial = path.with_extension("tmp");
        write(&partial, id.as_bytes(), 0o600)?;
        fs::rename(&partial, &path).map_err(io_error("writing", &path))
    }

    /// Notes that it has ended.
    pub(crate) fn hook_ended(&self, uid: &PodUid, container: &str) -> Result<(), FileError> {
        let path = paths::post_start_marker(&self.root_dir, uid, container);
        gone(fs::remove_file(&path)).map_err(io_error("removing", &path))
    }

    /// Whether the hook of this instance was begun and has not ended.
    pub(crate) fn is_hook_cut_off(&self, uid: &PodUid, container: &str, id: &str) -> bool {
        fs::read_to_string(paths::post_start_marker(&self.root_dir, uid, container)).is_ok_and(|of| of == id)
    }

    /// The highest restart count that a log of this container is left of.
    pub(crate) fn highest_log(&self, uid: &PodUid, key: &PodKey, container: &str) -> Option<u32> {
        let dir = paths::pod_logs_dir(&self.pod_logs_dir, uid, key).join(container);
        let names = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.file_name());
        names.filter_map(|name| paths::log_restart_count(name.to_str()?)).max()
    }

    /// Links `/var/log/containers/…` to a container's log, as log shippers expect.
    pub(crate) fn link_log(
        &self,
        key: &PodKey,
        container: &str,
        container_id: &str,
        log: &Path,
    ) -> Result<(), FileError> {
        make_dir(&self.log_links_dir, 0o755)?;
        let link = self.log_links_dir.join(paths::log_link_name(key, container, container_id));
        match symlink(log, &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_error("linking the log", &link)(e)),
            _ => Ok(()),
        }
    }

    /// Removes the log, and the link to it, of a container instance that is gone.
    pub(crate) fn remove_container(
        &self,
        key: &PodKey,
        container: &str,
        container_id: &str,
        log: Option<&Path>,
    ) -> Result<(), FileError> {
        let link = self.log_links_dir.join(paths::log_link_name(key, container, container_id));
        for path in log.into_iter().chain([link.as_path()]) {
            gone(fs::remove_file(path)).map_err(io_error("removing", path))?;
        }
        Ok(())
    }

    /// Removes everything of a pod that the runtime no longer knows.
    pub(crate) fn remove_pod(&self, uid: &PodUid, key: &PodKey) -> Result<(), FileError> {
        self.remove_found(&paths::pod_logs_dir(&self.pod_logs_dir, uid, key))?;
        // Of instances that an earlier run of the agent had removed half-way.
        self.remove_dangling_links()?;
        self.remove_found(&paths::pod_dir(&self.root_dir, uid))
    }

    /// Removes everything of a pod that has ended but its own directory: that tells that the pod was ours.
    pub(crate) fn empty_pod(&self, uid: &PodUid, key: &PodKey) -> Result<(), FileError> {
        self.remove_found(&paths::pod_logs_dir(&self.pod_logs_dir, uid, key))?;
        self.remove_dangling_links()?;
        let dir = paths::pod_dir(&self.root_dir, uid);
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => self.remove_found(&path)?,
                false => gone(fs::remove_file(&path)).map_err(io_error("removing", &path))?,
            }
        }
        Ok(())
    }

    /// Removes the directory of a pod that [`Files::empty_pod`] left, unless the pod is there again and has files in it.
    pub(crate) fn forget_pod(&self, uid: &PodUid) -> Result<(), FileError> {
        let dir = paths::pod_dir(&self.root_dir, uid);
        match gone(fs::remove_dir(&dir)) {
            Err(e) if e.kind() != io::ErrorKind::DirectoryNotEmpty => Err(io_error("removing", &dir)(e)),
            _ => Ok(()),
        }
    }

    /// The directories of all pods, wanted or not: their own and those of their logs.
    pub(crate) fn found(&self) -> Vec<(PodUid, PathBuf)> {
        let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
        let own = entries(&paths::pods_dir(&self.root_dir)).filter_map(|entry| {
            let uid = PodUid::from(entry.file_name().to_str()?);
            Some((uid, entry.path()))
        });
        let logs = entries(&self.pod_logs_dir).filter_map(|entry| {
            // Neither namespaces nor names have an underscore.
            let uid = PodUid::from(entry.file_name().to_str()?.splitn(3, '_').nth(2)?);
            Some((uid, entry.path()))
        });
        own.chain(logs).collect()
    }

    /// Removes the links to logs of ours that are gone.
    pub(crate) fn remove_dangling_links(&self) -> Result<(), FileError> {
        let links =
            fs::read_dir(&self.log_links_dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let ours = |link: &PathBuf| fs::read_link(link).is_ok_and(|log| log.starts_with(&self.pod_logs_dir));
        for link in links.filter(ours).filter(|link| !link.exists()) {
            gone(fs::remove_file(&link)).map_err(io_error("removing", &link))?;
        }
        Ok(())
    }

    /// Removes a directory with all that is in it, but never across a mount.
    pub(crate) fn remove_found(&self, dir: &Path) -> Result<(), FileError> {
        match volume_fs::remove_tree(dir) {
            // One that could never be made.
            Err(error) if error.source.kind() == io::ErrorKind::InvalidFilename => Ok(()),
            removed => Ok(removed?),
        }
    }
}

/// Makes `dir` and its parents; only those that are new get `mode`.
pub fn make_dir(dir: &Path, mode: u32) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(io_error("creating directory", dir))
}

/// Writes a file in place: it may be bind-mounted, and a rename would leave the old one mounted.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(io_error("writing", path))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Io { doing, path, source }
}

/// Being gone already is what was wanted. A name that is too long for a file never was there.
fn gone(result: io::Result<()>) -> io::Result<()> {
    let absent = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename);
    result.or_else(|e| if absent(e.kind()) { Ok(()) } else { Err(e) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Files {
        Files {
            root_dir: dir.join("root"),
            pod_logs_dir: dir.join("pods"),
            log_links_dir: dir.join("containers"),
        }
    }

    #[test]
    fn a_container_gets_a_hosts_file_and_its_own_termination_log_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (files, uid, key) = (files(dir.path()), PodUid::from("u"), PodKey::new("ns", "p"));
        files.prepare_pod(&uid, &key).unwrap();
        let first = files.prepare_container(&uid, &key, "app", "127.0.0.1 localhost\n").unwrap();
        let second = files.prepare_container(&uid, &key, "app", "short").unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o666);
        assert_eq!(fs::read_to_string(paths::hosts_file(&files.root_dir, &uid)).unwrap(), "short");
    }

    #[test]
    fn a_hook_is_cut_off_from_its_beginning_to_its_end_and_for_one_instance() {
        let dir = tempfile::tempdir().unwrap();
        let (files, uid, key) = (files(dir.path()), PodUid::from("u"), PodKey::new("ns", "p"));
        files.prepare_pod(&uid, &key).unwrap();
        files.prepare_container(&uid, &key, "app", "").unwrap();
        let cut_off = |id| files.is_hook_cut_off(&uid, "app", id);
        assert!(!cut_off("1"));
        files.hook_begins(&uid, "app", "1").unwrap();
        assert!(cut_off("1") && !cut_off("2"));
        files.hook_begins(&uid, "app", "2").unwrap();
        assert!(!cut_off("1") && cut_off("2"));
        files.hook_ended(&uid, "app").unwrap();
        files.hook_ended(&uid, "app").unwrap();
        assert!(!cut_off("2"));
    }

    #[test]
    fn removing_a_pod_removes_logs_and_directories_and_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let (files, uid, key) = (files(dir.path()), PodUid::from("u"), PodKey::new("ns", "p"));
        files.prepare_pod(&uid, &key).unwrap();
        files.prepare_container(&uid, &key, "app", "").unwrap();
        let log = paths::pod_logs_dir(&files.pod_logs_dir, &uid, &key).join("app/0.log");
        fs::write(&log, "").unwrap();
        files.link_log(&key, "app", "id", &log).unwrap();
        let found: Vec<_> = files.found().into_iter().map(|(uid, _)| uid).collect();
        assert_eq!(found, [uid.clone(), uid.clone()], "its own directory and that of its logs");
        files.remove_pod(&uid, &key).unwrap();
        files.remove_pod(&uid, &key).unwrap();
        assert_eq!(fs::read_dir(files.root_dir.join("pods")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&files.pod_logs_dir).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&files.log_links_dir).unwrap().count(), 0);
    }

    #[test]
    fn of_a_pod_that_the_runtime_keeps_only_its_own_directory_stays_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (files, uid, key) = (files(dir.path()), PodUid::from("u"), PodKey::new("ns", "p"));
        let prepare = || {
            files.prepare_pod(&uid, &key).unwrap();
            files.prepare_container(&uid, &key, "app", "").unwrap();
        };
        prepare();
        files.empty_pod(&uid, &key).unwrap();
        let own = paths::pod_dir(&files.root_dir, &uid);
        assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&files.pod_logs_dir).unwrap().count(), 0);
        prepare();
        files.forget_pod(&uid).unwrap();
        assert!(paths::hosts_file(&files.root_dir, &uid).exists(), "it runs again");
        files.empty_pod(&uid, &key).unwrap();
        files.forget_pod(&uid).unwrap();
        files.forget_pod(&uid).unwrap();
        assert!(!own.exists());
    }

    #[test]
    fn a_pod_whose_folder_has_too_long_a_name_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (files, uid, key) = (files(dir.path()), PodUid::from("u"), PodKey::new("ns", "p".repeat(253)));
        let error = files.prepare_pod(&uid, &key).unwrap_err().to_string();
        assert!(error.contains("File name too long"), "{error}");
        files.remove_pod(&uid, &key).unwrap();
        assert_eq!(fs::read_dir(files.root_dir.join("pods")).unwrap().count(), 0);
    }

    #[test]
    fn only_links_to_logs_of_ours_that_are_gone_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (files, uid, key) = (files(dir.path()), PodUid::from("u"), PodKey::new("ns", "p"));
        files.prepare_pod(&uid, &key).unwrap();
        let log = paths::pod_logs_dir(&files.pod_logs_dir, &uid, &key).join("0.log");
        fs::write(&log, "").unwrap();
        files.link_log(&key, "app", "id1", &log).unwrap();
        files.link_log(&key, "app", "id2", &log.with_file_name("1.log")).unwrap();
        symlink("/nowhere", files.log_links_dir.join("of-others.log")).unwrap();
        files.remove_dangling_links().unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&files.log_links_dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["of-others.log", "p_ns_app-id1.log"]);
    }

    #[test]
    fn a_directory_with_a_mount_below_is_not_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        // `/proc` is mounted everywhere.
        let error = files.remove_found(Path::new("/proc")).unwrap_err().to_string();
        assert!(error.contains("/proc is a mount point"), "{error}");
    }

    #[test]
    fn the_highest_log_counts_rotated_ones() {
        let dir = tempfile::tempdir().unwrap();
        let (files, uid, key) = (files(dir.path()), PodUid::from("u"), PodKey::new("ns", "p"));
        assert_eq!(files.highest_log(&uid, &key, "app"), None);
        let logs = paths::pod_logs_dir(&files.pod_logs_dir, &uid, &key).join("app");
        fs::create_dir_all(&logs).unwrap();
        for name in ["0.log", "3.log.20240102-030405.gz", "junk"] {
            fs::write(logs.join(name), "").unwrap();
        }
        assert_eq!(files.highest_log(&uid, &key, "app"), Some(3));
    }
}
