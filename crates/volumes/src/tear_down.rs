//! A pod's volumes are taken down: by what is on the node, not by what is remembered, so that what an earlier run or
//! another kubelet has left goes, too.
//!
//! Nothing is deleted across a mount. A mount that no volume of a known kind accounts for stays, and holds up the removal
//! of the pod's folder with an error that names it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_model::PodUid;
use volume_fs::mount::{self, Unmount};
use volume_fs::{MountTable, remove_tree, remove_unmounted, sub_path};

use crate::blocking::{self, On};
use crate::error::TearDownError;
use crate::hold::{End, Whose};
use crate::manager::Volumes;
use crate::settings::PodDirs;
use crate::{plugins, shared};

/// The kinds whose mounts are a file system of their own, which goes with the volume.
const IN_MEMORY: [&str; 4] = [
    "kubernetes.io~empty-dir",
    "kubernetes.io~secret",
    "kubernetes.io~downward-api",
    "kubernetes.io~projected",
];
/// On the disk.
const ON_DISK: &str = "kubernetes.io~configmap";

/// How long one waits for what is being done for a volume: what lies elsewhere may never answer.
const PATIENCE: Duration = Duration::from_secs(30);

impl Volumes {
    /// Takes down all volumes of a pod of which nothing runs any more, be it wanted still or not, and forgets them. What
    /// is under way for them ends first. May be done again, and for a pod that nobody asked for.
    ///
    /// # Errors
    /// What is left. It is to be tried again later.
    pub async fn tear_down(&self, uid: &PodUid) -> Result<(), TearDownError> {
        self.take_down_and(uid, Whose::Any, || true, || ()).await.map(|_| ())
    }

    /// Takes down what is left of a pod that is gone, and does `then`; a pod with this UID that comes meanwhile waits
    /// until both have ended. Nothing is done (`None`) for a pod whose volumes somebody wants, nor unless `is_gone` says
    /// so, which is asked when no such pod can begin any more.
    ///
    /// # Errors
    /// What is left. `then` is not done.
    pub async fn remove_left<T: Send + 'static>(
        &self,
        uid: &PodUid,
        is_gone: impl FnOnce() -> bool + Send + 'static,
        then: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, TearDownError> {
        self.take_down_and(uid, Whose::Unwanted, is_gone, then).await
    }

    async fn take_down_and<T: Send + 'static>(
        &self,
        uid: &PodUid,
        whose: Whose,
        is_gone: impl FnOnce() -> bool + Send + 'static,
        then: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, TearDownError> {
        let mut held = Vec::new();
        let begin = async {
            loop {
                // Before the look: what ends in between is not missed.
                let mut ended = std::pin::pin!(self.inner.ended.notified());
                ended.as_mut().enable();
                match self.inner.end(uid, whose) {
                    End::Begun(taking_down) => return Some(taking_down),
                    End::Wanted => return None,
                    End::Held(by) => held = by,
                }
                ended.await;
            }
        };
        let Ok(taking_down) = tokio::time::timeout(PATIENCE, begin).await else {
            return Err(TearDownError::Held(held.join(", ")));
        };
        let Some(taking_down) = taking_down else { return Ok(None) };
        let (this, uid, dirs) = (self.clone(), uid.clone(), self.dirs(uid));
        let begin = move || -> Result<_, TearDownError> {
            if !is_gone() {
                return Ok(Begun::NotGone);
            }
            let elsewhere = Elsewhere::find(&dirs)?;
            if elsewhere.is_empty() && this.inner.shared.of(&uid).is_empty() {
                take_down(&dirs)?;
                let then = then();
                taking_down.done();
                return Ok(Begun::Done(then));
            }
            // What is mounted elsewhere is in use as long as a part of it is.
            subpaths(&dirs.subpaths())?;
            // It goes on whoever waits for it.
            let rest = async move {
                this.take_down_elsewhere(&uid, elsewhere).await?;
                let work = move || {
                    take_down(&dirs)?;
                    let then = then();
                    taking_down.done();
                    Ok(then)
                };
                blocking::run(On::OwnDisk, work).await.map_err(TearDownError::CutOff)?
            };
            Ok(Begun::Elsewhere(rest))
        };
        match blocking::run(On::OwnDisk, begin).await.map_err(TearDownError::CutOff)?? {
            Begun::NotGone => Ok(None),
            Begun::Done(then) => Ok(Some(then)),
            Begun::Elsewhere(rest) => {
                let rest = tokio::spawn(rest).await;
                rest.map_err(|error| TearDownError::CutOff(error.to_string()))?.map(Some)
            }
        }
    }

    /// Takes down what plugins have mounted, and the volumes of the node that nobody else uses.
    async fn take_down_elsewhere(&self, uid: &PodUid, found: Elsewhere) -> Result<(), TearDownError> {
        let inner = &self.inner;
        let mut shared = inner.shared.of(uid);
        let mut first = None;
        for (plugin, volume) in found.volumes {
            match plugins::tear_down(inner, &plugin, &volume).await {
                Ok(name) => shared.extend(name),
                // One that stays does not keep the others.
                Err(error) => first = first.or(Some(error)),
            }
        }
        for (plugin, device) in found.devices {
            match plugins::unmap(inner, uid, &plugin, &device).await {
                Ok(name) => shared.extend(name),
                Err(error) => first = first.or(Some(error)),
            }
        }
        if let Some(error) = first {
            return Err(error);
        }
        for name in shared {
            shared::leave(inner, uid, &name).await;
            self.free(&name);
        }
        Ok(())
    }

    /// Takes down volumes of the node that no pod uses: an earlier run was killed after the pod had gone.
    ///
    /// # Errors
    /// What is left. It is to be tried again later.
    pub async fn take_down_unused(&self) -> Result<(), TearDownError> {
        let settings = self.inner.settings.clone();
        let found = blocking::run(On::OwnDisk, move || plugins::found(&settings)).await;
        let mut first = None;
        for name in found.map_err(TearDownError::CutOff)? {
            first = first.or(shared::take_down_unused(&self.inner, &name).await.err());
        }
        first.map_or(Ok(()), Err)
    }
}

/// What came of the beginning.
enum Begun<T, R> {
    NotGone,
    Done(T),
    /// There is more that does not lie on the agent's own disk.
    Elsewhere(R),
}

/// What plugins take down of a pod: the plugin and the path of each.
struct Elsewhere {
    volumes: Vec<(String, PathBuf)>,
    devices: Vec<(String, PathBuf)>,
}

impl Elsewhere {
    fn find(dirs: &PodDirs) -> Result<Self, TearDownError> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let below = |dir: &Path| {
            let plugins = entries(dir)?.into_iter();
            let all = plugins.map(|plugin| {
                let volumes = entries(&plugin)?.into_iter();
                Ok(volumes.map(|volume| (name(&plugin), volume)).collect::<Vec<_>>())
            });
            Ok::<_, TearDownError>(all.collect::<Result<Vec<_>, TearDownError>>()?.concat())
        };
        let mut volumes = below(&dirs.volumes())?;
        volumes.retain(|(plugin, _)| plugins::takes_down(plugin));
        Ok(Self { volumes, devices: below(&dirs.devices())? })
    }

    fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.devices.is_empty()
    }
}

fn take_down(dirs: &PodDirs) -> Result<(), TearDownError> {
    let volumes = dirs.volumes();
    if !is_there(&volumes) && !is_there(&dirs.subpaths()) {
        // The usual case of a pod without any: nothing is read.
        return Ok(());
    }
    let mut first = subpaths(&dirs.subpaths()).err();
    // Once: it is long where there are many pods, and of this one nothing runs that could mount anything.
    let table = MountTable::read()?;
    for plugin in entries(&volumes)? {
        for volume in entries(&plugin)? {
            // One that stays does not keep the others.
            if let Err(error) = one(dirs, &table, &plugin, &volume) {
                first = first.or(Some(error));
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// Parts of volumes that were mounted for containers go before the volumes that they are of.
fn subpaths(dir: &Path) -> Result<(), TearDownError> {
    let mut first = None;
    for volume in entries(dir)? {
        first = first.or(sub_path::unmount_all(&volume, Unmount::Now).err());
    }
    match first {
        Some(error) => Err(error.into()),
        None => Ok(remove_tree(dir)?),
    }
}

fn one(dirs: &PodDirs, table: &MountTable, plugin: &Path, volume: &Path) -> Result<(), TearDownError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (plugin, volume_name) = (name(plugin), name(volume));
    let own = table.at(volume);
    let in_memory = IN_MEMORY.contains(&plugin.as_str());
    if !in_memory && plugin != ON_DISK {
        // What its plugin keeps there (`vol_data.json` of CSI) is needed to detach the volume; what its plugin has
        // taken down is empty.
        return match fs::remove_dir(volume) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) => Err(TearDownError::Foreign(volume.display().to_string())),
            Ok(()) => Ok(()),
        };
    }
    // What a container has mounted in there for others to see is not the volume's.
    let inner = table.below(volume).find(|mounted| mounted.point != volume);
    if let Some(inner) = inner {
        return Err(TearDownError::Mounted(inner.point.display().to_string()));
    }
    if let Some(own) = own {
        let is_ours = in_memory && matches!(own.fs_type.as_str(), "tmpfs" | "hugetlbfs");
        if !is_ours {
            return Err(TearDownError::Mounted(volume.display().to_string()));
        }
        mount::unmount(volume, Unmount::Now)?;
    }
    // First the mark, as upstream: a volume without one is made anew.
    for mark in [volume_name.clone(), format!("wrapped_{volume_name}")] {
        remove_unmounted(&dirs.empty_dir_mark(&mark))?;
    }
    Ok(remove_unmounted(volume)?)
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// What stands in a folder; nothing in one that is not there.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, TearDownError> {
    let read = |dir: &Path| fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect();
    match read(dir) {
        Ok(entries) => Ok(entries),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(source) => Err(TearDownError::Io { action: "reading", path: dir.to_owned(), source }),
    }
}
