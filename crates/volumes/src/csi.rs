//! Volumes of drivers (CSI): those that are the pod's own, and those of claims, which are staged for the node first
//! (upstream `pkg/volume/csi`).
//!
//! Beside each volume stands `vol_data.json`, from before the driver is asked until it has undone all: by it is found what
//! is to be undone, whoever began it. A driver may be asked for the same again: after a restart of the agent it is, as
//! nobody knows whether it had ended.

mod block;
mod growth;
mod on_node;
mod request;
mod stage;
mod tear_down;
mod usage;
mod vol_data;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::csi::{Capabilities, Session, TIMEOUT};
use kube_model::core::{CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolume, PersistentVolumeClaim};
use kube_model::k8s_openapi::api::storage::v1::CSIDriver;
use kube_model::{Monotonic, PodUid};
use volume_fs::mount;
use volume_fs::ownership::{Ownership, Policy};
use volume_plan::claims::Mode;
use volume_plan::csi::{self as rules, DriverRules, Lifecycle};
use volume_plan::selinux;
use volume_plan::spec::plugin;

use crate::blocking::{self, On};
use crate::claimed::Claimed;
use crate::empty_dir::fs_group;
use crate::error::{Failed, SetUpError, Step, TearDownError};
use crate::group::Progress;
use crate::plugins::join;
use crate::set_up::{Done, Job, flatten, make_dir, make_pod_dirs};
use crate::settings::PodDirs;
pub(crate) use block::{set_up as set_up_device, unmap};
pub(crate) use growth::Growths;
pub(crate) use on_node::on_node;
use request::Tokens;
pub(crate) use stage::{Seen, found, take_down};
pub(crate) use tear_down::{is_used, tear_down};
pub(crate) use usage::usage;
use vol_data::VolData;

/// Where the driver mounts it for a pod, below the volume's folder.
const MOUNT: &str = "mount";

/// A volume, as its driver is to hear of it.
struct Volume<'a> {
    driver: &'a str,
    /// What the driver calls it.
    handle: String,
    /// What its folder is called after: the pod's name for it, or that of the persistent volume.
    name: &'a str,
    read_only: bool,
    of: Of<'a>,
}

/// Whose it is.
enum Of<'a> {
    Pod(&'a CSIVolumeSource),
    Claim(&'a CSIPersistentVolumeSource, &'a Arc<Claimed>),
}

impl<'a> Volume<'a> {
    fn inline(source: &'a CSIVolumeSource, name: &'a str, uid: &PodUid) -> Self {
        Self {
            driver: &source.driver,
            handle: rules::inline_handle(uid.as_str(), name),
            name,
            read_only: source.read_only.unwrap_or(false),
            of: Of::Pod(source),
        }
    }

    fn claimed(source: &'a CSIPersistentVolumeSource, claimed: &'a Arc<Claimed>) -> Self {
        Self {
            driver: &source.driver,
            handle: source.volume_handle.clone(),
            name: claimed.name(),
            read_only: claimed.read_only,
            of: Of::Claim(source, claimed),
        }
    }

    fn lifecycle(&self) -> Lifecycle {
        match self.of {
            Of::Pod(_) => Lifecycle::Ephemeral,
            Of::Claim(..) => Lifecycle::Persistent,
        }
    }

    fn fs_type(&self) -> Option<&str> {
        match &self.of {
            Of::Pod(source) => source.fs_type.as_deref(),
            Of::Claim(source, _) => source.fs_type.as_deref(),
        }
    }

    fn persistent(&self) -> Option<&PersistentVolume> {
        match &self.of {
            Of::Pod(_) => None,
            Of::Claim(_, claimed) => Some(&claimed.volume),
        }
    }
}

/// Where a volume of this name is mounted for a pod.
pub(crate) fn mounted(dirs: &PodDirs, name: &str) -> PathBuf {
    dirs.volume(plugin::CSI, name).join(MOUNT)
}

/// Mounts a volume that is the pod's own.
pub(crate) async fn set_up_inline(job: &Job, source: &CSIVolumeSource, dirs: PodDirs) -> Done {
    set_up(job, &Volume::inline(source, &job.name, &job.uid), None, dirs).await
}

/// Mounts a volume of a claim, staging it before if its driver does that.
pub(crate) async fn set_up_claimed(
    job: &Job,
    source: &CSIPersistentVolumeSource,
    claimed: &Arc<Claimed>,
    claim: &PersistentVolumeClaim,
    dirs: PodDirs,
) -> Done {
    set_up(job, &Volume::claimed(source, claimed), Some(claim), dirs).await
}

/// The volume with the label that it is to be mounted with, if SELinux is on and its driver can do that.
pub(crate) async fn labelled(job: &Job, mut claimed: Arc<Claimed>) -> Result<Arc<Claimed>, Failed> {
    let (Some(default), Some(spec)) = (&job.inner.settings.file_label, &job.pod.spec) else {
        return Ok(claimed);
    };
    let Some(driver) = claimed.driver().filter(|_| claimed.mode == Mode::Filesystem) else {
        return Ok(claimed);
    };
    let object = job.inner.storage.csi_driver(driver).await;
    let object = object.map_err(|error| SetUpError(error.to_string()))?;
    if DriverRules::of(object.as_ref()).mounts_with_label() {
        let label = selinux::mount_label(spec, &job.name, &claimed.volume, default);
        let label = label.map_err(|why| Failed { step: Step::Process, error: SetUpError(why) })?;
        Arc::make_mut(&mut claimed).label = label;
    }
    Ok(claimed)
}

async fn set_up(
    job: &Job,
    volume: &Volume<'_>,
    claim: Option<&PersistentVolumeClaim>,
    dirs: PodDirs,
) -> Done {
    // As long as something is done for it: the volume of a claim, and the pod.
    let turn = match volume.of {
        Of::Claim(_, claimed) => Some((Arc::new(job.inner.turn(&claimed.unique_name()).await), claimed)),
        Of::Pod(_) => None,
    };
    let _hold = match job.hold().await {
        Ok(hold) => hold,
        Err(error) => return Err(error).into(),
    };
    let (dir, target) = (dirs.volume(plugin::CSI, volume.name), mounted(&dirs, volume.name));
    let uses = turn.as_ref().map(|(turn, claimed)| (Arc::clone(turn), Arc::clone(claimed), job.uid.clone()));
    let look = move || {
        // From an earlier run, or to be published again.
        let there = VolData::read(&dir).is_ok() && mount::is_mount_point(&target).unwrap_or(false);
        let joined = uses.map_or(Ok(()), |(turn, claimed, uid)| join(&turn, &claimed, &uid));
        (there, joined)
    };
    let looked = blocking::run(On::Elsewhere, look).await;
    let (there, joined) = looked.unwrap_or_else(|cut_off| (false, Err(SetUpError(cut_off))));
    let (seen, target) = (&job.inner.seen, mounted(&dirs, volume.name));
    if !there {
        seen.begin(&target);
    }
    let done = match joined {
        Ok(()) => mount(job, volume, claim, &dirs, there).await,
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(until) => {
            seen.end(&target);
            Done::Current { until }
        }
        // What is mounted stays, whatever its driver says now: containers have it.
        Err(Failed { step, error }) => Done::Failed { step, error, usable: there && seen.is_whole(&target) },
    }
}

/// What is the same for all that a driver is asked while a volume is set up.
struct Operation<'a> {
    job: &'a Job,
    session: Session,
    can: Capabilities,
    volume: &'a Volume<'a>,
    /// What the cluster says of the driver.
    wanted: DriverRules<'a>,
    /// What attaching the volume to the node has answered with; nothing where that is not needed.
    context: request::Map,
}

/// The answer is when it is to be published again.
async fn mount(
    job: &Job,
    volume: &Volume<'_>,
    claim: Option<&PersistentVolumeClaim>,
    dirs: &PodDirs,
    there: bool,
) -> Result<Option<Monotonic>, Failed> {
    let inner = &job.inner;
    let object = inner.storage.csi_driver(volume.driver).await;
    let object = object.map_err(|error| SetUpError(error.to_string()))?;
    let first = match volume.of {
        Of::Pod(_) => Step::SetUp,
        Of::Claim(..) => Step::MountDevice,
    };
    let operation = begin(job, volume, object.as_ref(), first).await?;
    let (can, wanted) = (operation.can, operation.wanted);
    let staging = match volume.of {
        Of::Claim(source, claimed) if can.stage_unstage => {
            let staged = async {
                if !there {
                    operation.unstage_other_label(claimed).await?;
                }
                operation.stage(source, claimed).await
            };
            Some(staged.await.map_err(|error| Failed { step: first, error })?)
        }
        Of::Claim(..) | Of::Pod(_) => None,
    };
    let published = operation.publish(dirs, staging.as_deref(), there).await;
    if published.is_err()
        && let Of::Claim(_, claimed) = volume.of
    {
        // A driver that says that it has staged it, and then does not find it, is asked anew.
        inner.seen.forget(&claimed.unique_name());
    }
    published?;
    let policy = wanted.fs_group_policy();
    let ours = rules::applies_fs_group(policy, volume.read_only, volume.fs_type(), volume.persistent());
    if ours && !can.volume_mount_group {
        give_to_group(job, mounted(dirs, volume.name), there).await?;
    }
    if let Some(claim) = claim {
        let grown = operation.mounted(claim, staging.as_deref(), &mounted(dirs, volume.name)).await;
        grown.map_err(|error| Failed { step: Step::Expand, error })?;
    }
    // Upstream does so each time that it looks at the pod.
    Ok(wanted.republishes().then(|| (inner.settings.now)() + inner.again()))
}

/// Begins an operation with the driver of a volume that is attached. `first`: what fails if it is not there.
async fn begin<'a>(
    job: &'a Job,
    volume: &'a Volume<'a>,
    object: Option<&'a CSIDriver>,
    first: Step,
) -> Result<Operation<'a>, Failed> {
    let wanted = DriverRules::of(object);
    let context = attached(job, volume, wanted).await?;
    let fail = |error: SetUpError| Failed { step: first, error };
    // A driver that is not there comes first: it is what one has to look for.
    let session = job.inner.driver(volume.driver, first.caller()).map_err(fail)?;
    wanted.supports(volume.driver, volume.lifecycle()).map_err(SetUpError)?;
    let can = session.capabilities().await.map_err(|error| fail(SetUpError(error.to_string())))?;
    Ok(Operation { job, session, can, volume, wanted, context })
}

/// What attaching the volume to the node has answered with.
async fn attached(job: &Job, volume: &Volume<'_>, wanted: DriverRules<'_>) -> Result<request::Map, Failed> {
    let Of::Claim(_, claimed) = volume.of else { return Ok(request::Map::new()) };
    if !wanted.attaches() {
        return Ok(request::Map::new());
    }
    job.inner.until_told(claimed).await?;
    let fail = |why: String| Failed { step: Step::WaitForAttach, error: SetUpError(why) };
    let (inner, handle) = (&job.inner, &volume.handle);
    let name = rules::attachment_name(handle, volume.driver, &inner.settings.node_name);
    let attachment = inner.storage.attachment(&name).await;
    let attachment = attachment.map_err(|error| {
        fail(format!("volume {handle} has GET error for volume attachment {name}: {error}"))
    })?;
    if wanted.renewal().is_some() && rules::is_exhausted(&attachment) {
        // The scheduler took the node for one that has room.
        inner.settings.drivers.ask_again(volume.driver).await;
    }
    rules::is_attached(&attachment, handle).map_err(fail)?;
    Ok(attachment.status.and_then(|status| status.attachment_metadata).unwrap_or_default())
}

impl Operation<'_> {
    /// What is to be known to undo it.
    fn vol_data(&self) -> VolData {
        let (volume, node) = (self.volume, &self.job.inner.settings.node_name);
        let selinux = self.label().map(str::to_owned);
        VolData { selinux, ..VolData::of(volume.driver.to_owned(), volume.handle.clone(), volume.name, node) }
    }

    /// What it is mounted with where SELinux is on.
    fn label(&self) -> Option<&str> {
        match self.volume.of {
            Of::Pod(_) => None,
            Of::Claim(_, claimed) => claimed.label.as_deref(),
        }
    }

    /// Mounts it for the pod. `there`: it is mounted already.
    async fn publish(&self, dirs: &PodDirs, staging: Option<&Path>, there: bool) -> Result<(), SetUpError> {
        let (job, volume) = (self.job, self.volume);
        let tokens = Tokens::of(job, self.wanted).await?;
        let secrets = request::publish_secrets(job, volume).await?;
        let target = mounted(dirs, volume.name);
        let request = request::publish(self, tokens, secrets, staging, &target);
        let lifecycle = Some(volume.lifecycle().as_str().to_owned());
        let data = VolData { lifecycle, ..self.vol_data() };
        let (pod_dirs, dir) = (dirs.clone(), dirs.volume(plugin::CSI, volume.name));
        job.on_own_disk_held(move || {
            make_pod_dirs(&pod_dirs)?;
            make_dir(&dir, 0o750)?;
            data.write(&dir)
        })
        .await?;
        match self.session.next_step().publish(request).await {
            Ok(()) => Ok(()),
            Err(error) => {
                if error.is_final() && !there {
                    clean(target).await;
                }
                Err(SetUpError(error.to_string()))
            }
        }
    }
}

/// Removes what was made for a call that the driver has refused.
async fn clean(target: PathBuf) {
    let removed = blocking::run(On::Elsewhere, move || tear_down::remove(&target)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!("what was made for a volume that was not mounted stays: {}", util::causes(&error));
    }
}

/// The files become the group's, where the driver does not see to that.
async fn give_to_group(job: &Job, path: PathBuf, there: bool) -> Result<(), SetUpError> {
    let spec = job.pod.spec.as_ref();
    let Some(group) = spec.and_then(fs_group) else { return Ok(()) };
    let policy = spec.and_then(|spec| spec.security_context.as_ref()?.fs_group_change_policy.as_deref());
    let policy = match policy {
        Some("OnRootMismatch") => Policy::OnRootMismatch,
        // The root is the last to be changed: what was cut off is done again, what is in use is not looked through.
        _ if there => Policy::OnRootMismatch,
        _ => Policy::Always,
    };
    let progress = Arc::new(Progress::default());
    let of_work = Arc::clone(&progress);
    let work = move || {
        let ownership = Ownership { group, read_only: false, policy };
        of_work.give(&path, &path, ownership).map_err(SetUpError::from)
    };
    flatten(job.telling(&progress, blocking::run(On::Elsewhere, work)).await)
}

impl crate::manager::Inner {
    /// Begins an operation with a driver.
    fn driver(&self, name: &str, caller: &str) -> Result<Session, SetUpError> {
        self.session(name).map_err(|why| SetUpError(format!("kubernetes.io/csi: {caller}: {why}")))
    }

    fn session(&self, name: &str) -> Result<Session, String> {
        let driver = self.settings.drivers.get(name);
        let driver = driver
            .ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))?;
        Ok(driver.session(TIMEOUT))
    }
}

impl From<SetUpError> for TearDownError {
    fn from(SetUpError(why): SetUpError) -> Self {
        Self::Driver(why)
    }
}
