//! `nfs`: a folder of a server, mounted for one pod by the system's `mount` (upstream `pkg/volume/nfs/nfs.go`).
//!
//! A server that does not answer holds up whoever looks at the mount, so that nothing here does but the kernel's own
//! table is read; and what waits for it has a thread of its own.

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube_model::core::NFSVolumeSource;
use volume_fs::mount::{self, Unmount};
use volume_fs::{MountTable, helper};
use volume_plan::spec::plugin;

use crate::blocking::{self, On};
use crate::error::{Failed, SetUpError, TearDownError, go_words};
use crate::local::remove_dir;
use crate::set_up::{flatten, make_dir, make_pod_dirs};
use crate::settings::PodDirs;

/// How long mounting may take: its helper gives up by itself after two minutes, and says why.
const MOUNT: Duration = Duration::from_secs(150);

/// How long unmounting waits for the server, as upstream.
const UNMOUNT: Duration = Duration::from_secs(60);

/// What of a server is mounted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nfs {
    /// `server:/path`
    source: String,
    /// The volume's name, after which its folder is called.
    name: String,
    options: Vec<String>,
}

impl Nfs {
    pub(crate) fn new(source: &NFSVolumeSource, name: &str, read_only: bool, options: Vec<String>) -> Self {
        let (server, path) = (&source.server, &source.path);
        let source = match server.parse::<Ipv6Addr>() {
            Ok(_) => format!("[{server}]:{path}"),
            Err(_) => format!("{server}:{path}"),
        };
        let mut options = options;
        options.extend(read_only.then(|| "ro".to_owned()));
        options.sort();
        options.dedup();
        Self { source, name: name.to_owned(), options }
    }
}

/// `guard`: what keeps others from doing something for it meanwhile.
pub(crate) async fn set_up(guard: impl Send + 'static, dirs: PodDirs, nfs: Nfs) -> Result<(), Failed> {
    let work = move || {
        let _guard = guard;
        make_pod_dirs(&dirs)?;
        mount_at(&dirs.volume(plugin::NFS, &nfs.name), &nfs)
    };
    Ok(flatten(blocking::run(On::Elsewhere, work).await)?)
}

fn mount_at(target: &Path, nfs: &Nfs) -> Result<(), SetUpError> {
    if is_mounted(target)? {
        return Ok(());
    }
    // `mount` would take it for options.
    if nfs.source.starts_with('-') {
        return Err(SetUpError(format!("{:?} is no server and path", nfs.source)));
    }
    make_dir(target, 0o750)?;
    let options: Vec<_> = nfs.options.iter().map(String::as_str).collect();
    let mounted = helper::mount(&nfs.source, target, "nfs", &options, MOUNT);
    mounted.map_err(|error| {
        // A helper that was given up on may have mounted it all the same, in which case it stays for the next attempt.
        let _ = fs::remove_dir(target);
        SetUpError(util::causes(&error))
    })
}

/// Asks the table, not the server.
fn is_mounted(target: &Path) -> Result<bool, SetUpError> {
    let above = target.parent().unwrap_or(target);
    if above.symlink_metadata().is_err() {
        return Ok(false);
    }
    let above = fs::canonicalize(above).map_err(|error| go_words("lstat", above, &error))?;
    Ok(MountTable::read()?.at(&above.join(target.file_name().unwrap_or_default())).is_some())
}

/// Unmounts it. A server that does not answer is waited for, but not for ever: then what waits for it fails, and the mount
/// goes from here at once and from its users when they have done with it.
pub(crate) async fn tear_down(volume: &Path) -> Result<(), TearDownError> {
    for (how, limit) in [(Unmount::Now, UNMOUNT), (Unmount::Force, UNMOUNT / 6), (Unmount::Lazy, UNMOUNT / 6)]
    {
        match unmount(volume.to_owned(), how, limit).await {
            Some(done) => return done,
            None => tracing::warn!(
                volume = %volume.display(),
                "unmounting ({how:?}) has not ended within {} s: its server may be gone",
                limit.as_secs()
            ),
        }
    }
    Err(TearDownError::Mounted(volume.display().to_string()))
}

async fn unmount(volume: PathBuf, how: Unmount, limit: Duration) -> Option<Result<(), TearDownError>> {
    let given_up = Arc::new(AtomicBool::new(false));
    let is_given_up = Arc::clone(&given_up);
    let work = move || {
        while mount::unmount_one(&volume, how)? {
            // What is mounted there now may have come since.
            if is_given_up.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        remove_dir(&volume)
    };
    let done = tokio::time::timeout(limit, blocking::run(On::Elsewhere, work)).await;
    given_up.store(true, Ordering::Relaxed);
    let done = done.ok()?;
    Some(done.map_err(TearDownError::CutOff).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_and_how() {
        let of = |server: &str, read_only, options: &[&str]| {
            let source =
                NFSVolumeSource { server: server.to_owned(), path: "/x".to_owned(), read_only: None };
            let options = options.iter().map(ToString::to_string).collect();
            let nfs = Nfs::new(&source, "v", read_only, options);
            (nfs.source, nfs.options.join(","))
        };
        for (server, read_only, options, want) in [
            ("192.0.2.1", false, &[][..], ("192.0.2.1:/x", "")),
            ("nas.example", true, &["vers=4", "hard"][..], ("nas.example:/x", "hard,ro,vers=4")),
            ("2001:db8::1", true, &["ro"][..], ("[2001:db8::1]:/x", "ro")),
        ] {
            let (source, options) = of(server, read_only, options);
            assert_eq!((source.as_str(), options.as_str()), want);
        }
    }
}
