//! Which plugin does what: the one place where kinds of volumes are told apart that are mounted from elsewhere.
//!
//! A volume is set up by its spec, and taken down by what is on the node: the folder of its plugin, and the name that
//! tells it from all others of the node.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube_model::PodUid;
use kube_model::core::Volume;
use volume_plan::claims::Mode;
use volume_plan::persistent::Source;
use volume_plan::spec::plugin;

use crate::blocking::{self, On};
use crate::claimed::{self, Claimed};
use crate::error::{Failed, SetUpError, Step, TearDownError};
use crate::hold::Hold;
use crate::manager::Inner;
use crate::set_up::{Done, Job, flatten};
use crate::settings::{PodDirs, Settings};
use crate::shared::Turn;
use crate::tear_down::entries;
use crate::{block, csi, local, nfs};

/// A volume that the pod has by a claim.
pub(crate) async fn set_up_claimed(job: &Job, volume: &Volume, dirs: PodDirs) -> Done {
    let found = async {
        let (claimed, claim) = claimed::look_up(&job.inner, &job.pod, volume).await?;
        let claimed = csi::labelled(job, claimed).await?;
        job.found(&claimed);
        claimed::check_affinity(&job.inner, &claimed)?;
        Ok::<_, Failed>((claimed, claim))
    };
    match found.await {
        Ok((claimed, claim)) => match (claimed.source(), claimed.mode) {
            (Source::Csi(source), Mode::Filesystem) => {
                csi::set_up_claimed(job, source, &claimed, &claim, dirs).await
            }
            (Source::Csi(source), Mode::Block) => {
                csi::set_up_device(job, source, &claimed, &claim, dirs).await.into()
            }
            _ => set_up(job, Arc::clone(&claimed), dirs).await.into(),
        },
        Err(failed) => Done::from(failed),
    }
}

async fn set_up(job: &Job, claimed: Arc<Claimed>, dirs: PodDirs) -> Result<(), Failed> {
    let fail = |step, why: String| Err(Failed { step, error: SetUpError(why) });
    match (claimed.source(), claimed.mode) {
        (Source::Local(_), Mode::Filesystem) => local::set_up(job, dirs, claimed).await,
        (Source::Local(_), Mode::Block) => block::set_up(job, dirs, claimed).await,
        (Source::HostPath(source), Mode::Filesystem) => {
            Ok(Job::host_path(joined(job, &claimed).await?, source, dirs).await?)
        }
        (Source::Nfs(source), Mode::Filesystem) => {
            let options = claimed.mount_options();
            let nfs = nfs::Nfs::new(source, claimed.name(), claimed.read_only, options);
            nfs::set_up(joined(job, &claimed).await?, dirs, nfs).await
        }
        // They have more to answer, or need more, which the caller knows.
        (Source::Csi(_), _) => Ok(()),
        (Source::HostPath(_) | Source::Nfs(_), Mode::Block) => fail(
            Step::MapDevice,
            "its plugin has no devices: only volumes of the kinds local and csi can have volumeMode Block"
                .to_owned(),
        ),
        (Source::Never(never), _) => fail(Step::Process, no_plugin(claimed.name(), &never.to_string())),
        (Source::Unknown, _) => fail(Step::Process, no_plugin(claimed.name(), "no volume plugin matched")),
    }
}

/// The pod uses the volume from now on, and nothing else is done for either until the answer is dropped.
async fn joined(job: &Job, claimed: &Arc<Claimed>) -> Result<(Turn, Hold), SetUpError> {
    let turn = job.inner.turn(&claimed.unique_name()).await;
    let hold = job.hold().await?;
    let (claimed, uid) = (Arc::clone(claimed), job.uid.clone());
    let work = move || join(&turn, &claimed, &uid).map(|()| (turn, hold));
    flatten(blocking::run(On::OwnDisk, work).await)
}

/// Upstream's words for a kind without a plugin.
pub(crate) fn no_plugin(volume: &str, why: &str) -> String {
    format!("failed to get Plugin from volumeSpec for volume {volume:?} err={why}")
}

/// Whether a plugin here takes down what is in its folder below a pod's; else it is simply files and mounts.
pub(crate) fn takes_down(plugin: &str) -> bool {
    matches!(plugin, plugin::LOCAL | plugin::NFS | plugin::CSI)
}

/// Takes down a volume of a pod, in the folder of its plugin. Answers with the name of the volume of the node that it was
/// of, if there is one to be taken down, too.
pub(crate) async fn tear_down(
    inner: &Arc<Inner>,
    plugin: &str,
    volume: &Path,
) -> Result<Option<String>, TearDownError> {
    match plugin {
        plugin::LOCAL => local::tear_down(volume).await.map(Some),
        plugin::NFS => nfs::tear_down(volume).await.map(|()| None),
        plugin::CSI => csi::tear_down(inner, volume).await,
        _ => Ok(None),
    }
}

/// Takes down a device of a pod, below its `volumeDevices`.
pub(crate) async fn unmap(
    inner: &Arc<Inner>,
    uid: &PodUid,
    plugin: &str,
    device: &Path,
) -> Result<Option<String>, TearDownError> {
    match plugin {
        plugin::LOCAL => block::tear_down(inner, uid, device).await.map(Some),
        plugin::CSI => csi::unmap(inner, uid, device).await,
        _ => Err(TearDownError::Foreign(device.display().to_string())),
    }
}

/// Takes down a volume of the node that nobody uses any more; the caller has its turn.
pub(crate) async fn take_down(inner: &Arc<Inner>, name: &str) -> Result<(), TearDownError> {
    match local_name(name) {
        Some(volume) => local::take_down(&inner.settings, volume).await,
        None => csi::take_down(inner, name).await,
    }
}

/// The volumes of the node that are mounted, by their names.
pub(crate) fn found(settings: &Settings) -> std::collections::BTreeSet<String> {
    local::found(settings).chain(csi::found(settings)).collect()
}

/// Whether a pod, but for this one, has something of the volume of the node in its folder. What is mounted there is not
/// looked at: it may not answer.
///
/// # Errors
/// If that cannot be told.
pub(crate) fn is_used(settings: &Settings, name: &str, but: Option<&PodUid>) -> Result<bool, TearDownError> {
    let pods = other_pods(settings, but)?;
    let (plugin, volume) = match (local_name(name), nfs_name(name)) {
        (Some(volume), _) => (plugin::LOCAL, volume),
        (_, Some(volume)) => (plugin::NFS, volume),
        (None, None) => return csi::is_used(settings, name, &pods),
    };
    for dir in pods.iter().flat_map(|pod| ["volumes", "volumeDevices"].map(|dir| pod.join(dir).join(plugin)))
    {
        if entries(&dir)?.iter().any(|entry| entry.file_name() == Some(OsStr::new(volume))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The folders of all pods, but for this one.
fn other_pods(settings: &Settings, but: Option<&PodUid>) -> Result<Vec<PathBuf>, TearDownError> {
    let mut pods = entries(&settings.pods_dir)?;
    pods.retain(|pod| but.is_none_or(|uid| pod.file_name() != Some(OsStr::new(uid.as_str()))));
    Ok(pods)
}

fn local_name(name: &str) -> Option<&str> {
    name.strip_prefix("kubernetes.io/local-volume/")
}

fn nfs_name(name: &str) -> Option<&str> {
    name.strip_prefix("kubernetes.io/nfs/")
}

/// Whether another pod has the volume that is for one alone; else the pod uses it from now on.
pub(crate) fn join(turn: &Turn, claimed: &Claimed, uid: &PodUid) -> Result<(), SetUpError> {
    // Only then it matters who else has it.
    if claimed.may_mount(true).is_err() {
        let used = turn.is_used(Some(uid)).map_err(|error| SetUpError(util::causes(&error)))?;
        claimed.may_mount(used)?;
    }
    turn.join(uid);
    Ok(())
}
