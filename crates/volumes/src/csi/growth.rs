//! Volumes of claims that grow, while they are mounted and when they are being mounted. The rules are
//! `volume_plan::growth`.
//!
//! Nothing tells a node that a claim has changed: those of volumes that can grow are read again now and then, one request
//! for each volume however many pods have it. What else is to be known is read only if its `resourceVersion` has moved.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use kube_model::Monotonic;
use kube_model::core::{PersistentVolumeClaim, Volume as PodVolume};
use kube_model::k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube_model::view::EventType;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use volume_plan::claims::Mode;
use volume_plan::csi::DriverRules;
use volume_plan::growth::{self, Cause, Expansion, Known, Next, Recovery};
use volume_plan::persistent::Source;
use volume_plan::plan;

use super::{Of, Operation, Volume, block, mounted, request, stage};
use crate::claimed::Claimed;
use crate::error::SetUpError;
use crate::manager::{Inner, News, Volumes, find};
use crate::metrics;
use crate::set_up::Job;
use crate::settings::PodDirs;

/// The pause after the first failure: each is twice the one before.
const RETRY: Duration = Duration::from_millis(500);

/// What is known of the volumes that can grow, by their names on the node.
#[derive(Debug, Default)]
pub(crate) struct Growths {
    all: Mutex<BTreeMap<String, One>>,
    /// Something is due at another time than before.
    due: Notify,
}

#[derive(Debug, Default)]
struct One {
    known: Known,
    /// Its driver refuses as long as it is in use: on this node it is not asked again.
    in_use: bool,
    /// The claim's `resourceVersion` of which nothing follows any more.
    seen: Option<String>,
    /// How often its driver has failed in a row.
    attempts: u32,
    /// When its claim is read again; `None`: that is being done, or it is not mounted yet.
    next: Option<Monotonic>,
}

/// Who has a volume of the node.
struct User {
    job: Job,
    claimed: Arc<Claimed>,
}

/// How a volume is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    /// As large as it was, if anybody knows.
    Same(Option<i64>),
    /// So large.
    Grown(i64),
    /// It waits for its controller.
    Waiting,
    /// Not larger, as it is in use.
    InUse,
}

/// What came of a look at a claim.
enum Looked {
    /// It says nothing new, or cannot be had now.
    Nothing,
    Is(Is, Box<PersistentVolumeClaim>),
    Failed(SetUpError),
}

impl Growths {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, One>> {
        // Each change leaves whole states behind.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of<T>(&self, name: &str, read: impl FnOnce(&One) -> T) -> Option<T> {
        self.lock().get(name).map(read)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut One)) {
        change(self.lock().entry(name.to_owned()).or_default());
        self.due.notify_one();
    }

    /// Those of which `users` says that nobody has them any more are forgotten; the others' claims are read when their
    /// time has come. Answers when the next one's has.
    fn begin(
        &self,
        users: &mut BTreeMap<String, Option<User>>,
        now: Monotonic,
        again: SignedDuration,
    ) -> (Vec<(String, User)>, Option<Monotonic>) {
        let (mut all, mut due, mut next) = (self.lock(), Vec::new(), None::<Monotonic>);
        all.retain(|name, _| users.contains_key(name));
        for (name, one) in all.iter_mut() {
            let Some(at) = one.next else { continue };
            match users.get_mut(name).and_then(Option::take) {
                Some(user) if at <= now => {
                    one.next = None;
                    due.push((name.clone(), user));
                    continue;
                }
                // It is being set up, or goes.
                None if at <= now => one.next = Some(now + again),
                _ => {}
            }
            next = one.next.into_iter().chain(next).min();
        }
        (due, next)
    }

    fn ended(&self, name: &str, looked: &Looked, now: Monotonic, again: SignedDuration) {
        // Nobody may have it any more.
        if let Some(one) = self.lock().get_mut(name) {
            let mut pause = again;
            match looked {
                Looked::Nothing => {}
                Looked::Is(is, claim) => one.is(*is, claim),
                Looked::Failed(_) => {
                    one.attempts = one.attempts.saturating_add(1);
                    let longer = util::doubled(RETRY, one.attempts, plan::LONGEST);
                    pause = SignedDuration::try_from(longer).unwrap_or(again);
                }
            }
            one.next = Some(now + pause);
        }
        self.due.notify_one();
    }
}

impl One {
    fn is(&mut self, is: Is, claim: &PersistentVolumeClaim) {
        match is {
            Is::Same(size) => self.known.size = self.known.size.or(size),
            Is::Grown(size) => {
                self.known = Known { size: self.known.size.max(Some(size)), failed: false };
            }
            Is::Waiting => self.known.size = self.known.size.or(growth::claimed(claim)),
            Is::InUse => {
                self.known.size = self.known.size.or(growth::claimed(claim));
                self.in_use = true;
            }
        }
        self.attempts = 0;
        self.seen.clone_from(&claim.metadata.resource_version);
    }
}

impl Volumes {
    /// Looks after volumes that can grow. Until `stop`.
    pub(crate) async fn follow_growth(&self, stop: &CancellationToken) {
        loop {
            let now = self.now();
            let (due, next) = self.inner.growths.begin(&mut self.inner.users(), now, self.inner.again());
            for (name, user) in due {
                tokio::spawn(self.clone().look(name, user));
            }
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep(at.left(now)).await,
                    None => std::future::pending().await,
                }
            };
            // All arms are cancel safe, and what was missed is read from the states above.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.growths.due.notified() => {}
                () = timer => {}
            }
        }
    }

    async fn look(self, name: String, user: User) {
        let panicked = |_| Looked::Failed(SetUpError("the operation panicked".to_owned()));
        // All that it shares with others is whole at each moment.
        let looked = AssertUnwindSafe(user.look(&name)).catch_unwind().await.unwrap_or_else(panicked);
        self.inner.growths.ended(&name, &looked, self.now(), self.inner.again());
        if let Looked::Failed(SetUpError(why)) = looked {
            let volume = user.claimed.name();
            let message = format!("NodeExpandVolume.NodeExpandVolume failed for volume {volume:?} : {why}");
            let uid = user.job.uid.clone();
            self.inner.tell(News::Event(uid, EventType::Warning, "VolumeResizeFailed", message)).await;
        }
    }
}

impl Inner {
    /// After this time a claim is read again, and a volume published again. (The kubelet does both with each sync of a pod.)
    pub(super) fn again(&self) -> SignedDuration {
        SignedDuration::try_from(self.settings.sync_frequency).unwrap_or(SignedDuration::MAX)
    }

    /// One pod of each volume of a driver that a claim stands for and that is not only read; `None`: those that want it do
    /// not have it now.
    fn users(self: &Arc<Self>) -> BTreeMap<String, Option<User>> {
        let mut users = BTreeMap::new();
        for (uid, entry) in self.pods().iter() {
            for (name, claimed, is_mounted) in entry.writers() {
                let user = users.entry(claimed.unique_name()).or_insert(None);
                if is_mounted && user.is_none() {
                    let (pod, name) = (Arc::clone(entry.pod()), name.to_owned());
                    let (inner, uid, generation) = (Arc::clone(self), uid.clone(), entry.generation);
                    let job = Job { inner, uid, generation, pod, name };
                    *user = Some(User { job, claimed: Arc::clone(claimed) });
                }
            }
        }
        users
    }
}

impl User {
    async fn look(&self, name: &str) -> Looked {
        let Self { job, claimed } = self;
        let (inner, (namespace, claim)) = (&job.inner, &claimed.claim);
        // One that cannot be read now is read next time.
        let Ok(claim) = inner.storage.claim(namespace, claim).await else { return Looked::Nothing };
        let is = inner.growths.of(name, |one| (one.known, one.in_use, one.seen.clone()));
        let Some((known, in_use, seen)) = is else { return Looked::Nothing };
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        if seen == claim.metadata.resource_version || bound != Some(claimed.name()) {
            return Looked::Nothing;
        }
        let Ok(volume) = inner.storage.volume(claimed.name()).await else { return Looked::Nothing };
        let expansion = match growth::next(&claim, &volume, known) {
            Next::Done(size) => return Looked::Is(size.map_or(Is::Same(None), Is::Grown), claim.into()),
            Next::Wait => return Looked::Is(Is::Waiting, claim.into()),
            Next::Expand(_) if in_use => return Looked::Is(Is::InUse, claim.into()),
            Next::Expand(expansion) => expansion,
        };
        let _turn = inner.turn(name).await;
        let Ok(_hold) = job.hold().await else { return Looked::Nothing };
        let is_there =
            inner.pods().get(&job.uid).is_some_and(|entry| entry.mounted().any(|has| has == job.name));
        let Some(of_pod) = find(&job.pod, &job.name).filter(|_| is_there) else { return Looked::Nothing };
        self.expand(claim, &expansion, of_pod).await
    }

    async fn expand(
        &self,
        claim: PersistentVolumeClaim,
        expansion: &Expansion,
        of_pod: &PodVolume,
    ) -> Looked {
        let Self { job, claimed } = self;
        let (inner, Source::Csi(source)) = (&job.inner, claimed.source()) else { return Looked::Nothing };
        let (volume, since) = (Volume::claimed(source, claimed), (inner.settings.now)());
        let work = async {
            let session = inner.session(volume.driver).map_err(SetUpError)?;
            let can = session.capabilities().await.map_err(|error| {
                SetUpError(format!(
                    "Expander.NodeExpand failed to check if node supports expansion : {error}"
                ))
            })?;
            // What attaching has answered with, and what is wanted when it is mounted, was used then.
            let (wanted, context) = (DriverRules::of(None), request::Map::new());
            let operation = Operation { job, session, can, volume: &volume, wanted, context };
            let (staging, path) = match claimed.mode {
                Mode::Filesystem => {
                    (stage::place(&operation), mounted(&PodDirs::new(&inner.settings, &job.uid), volume.name))
                }
                Mode::Block => block::places(&inner.settings, volume.name, &job.uid),
            };
            let staging = can.stage_unstage.then_some(staging);
            operation.expand(claim, expansion, staging.as_deref(), &path).await
        };
        let done = work.await;
        let took = (inner.settings.now)().left(since);
        let plugin = metrics::plugin(of_pod, Some(claimed));
        inner.counted.operated("volume_fs_resize", plugin, done.is_err(), took);
        done.map_or_else(Looked::Failed, |(is, claim)| Looked::Is(is, claim.into()))
    }
}

impl Operation<'_> {
    /// The volume of this claim is mounted at `path`: what uses it is made as large as it is, and if it can grow, it is
    /// looked after from now on.
    pub(super) async fn mounted(
        &self,
        claim: &PersistentVolumeClaim,
        staging: Option<&Path>,
        path: &Path,
    ) -> Result<(), SetUpError> {
        let Of::Claim(_, claimed) = self.volume.of else { return Ok(()) };
        let (inner, name) = (&self.job.inner, claimed.unique_name());
        let failed = inner.growths.of(&name, |one| one.known.failed).unwrap_or_default();
        let (is, claim) = match growth::next(claim, &claimed.volume, Known { size: None, failed }) {
            Next::Expand(_) if claimed.read_only => {
                let message = format!(
                    "MountVolume.NodeExpandVolume failed for volume {:?} requested read-only file system",
                    claimed.name()
                );
                self.tell(claim, EventType::Warning, "FileSystemResizeFailed", message).await;
                return Ok(());
            }
            Next::Expand(expansion) => self.expand(claim.clone(), &expansion, staging, path).await?,
            Next::Done(size) => (Is::Same(size), claim.clone()),
            Next::Wait => (Is::Waiting, claim.clone()),
        };
        if self.can.expand && !claimed.read_only {
            let next = (inner.settings.now)() + inner.again();
            inner.growths.change(&name, |one| {
                one.is(is, &claim);
                one.next = Some(next);
            });
        }
        Ok(())
    }

    /// Has the driver do what it does on a node for a volume that has grown, and the claim told of it.
    async fn expand(
        &self,
        mut claim: PersistentVolumeClaim,
        expansion: &Expansion,
        staging: Option<&Path>,
        path: &Path,
    ) -> Result<(Is, PersistentVolumeClaim), SetUpError> {
        let (Expansion { size, told, recovery }, inner) = (expansion, &self.job.inner);
        let recovers = *recovery != Recovery::None;
        if recovers
            && !told
            && let Some(patch) = growth::in_progress(&claim)
        {
            claim = self.patch(&claim, &patch).await?;
        }
        match self.ask(size.bytes, staging, path).await {
            Ok(()) => {}
            Err((Cause::Unsupported, _)) if *told || !recovers => return Ok((Is::Grown(size.bytes), claim)),
            Err((cause, SetUpError(why))) => {
                if recovers && cause.is_final() {
                    if let Of::Claim(_, claimed) = self.volume.of {
                        inner.growths.change(&claimed.unique_name(), |one| one.known.failed = true);
                    }
                    if let Some(patch) = growth::failed(&claim, expansion, cause, &why, Timestamp::now()) {
                        match self.patch(&claim, &patch).await {
                            Ok(now) => claim = now,
                            Err(SetUpError(reason)) => tracing::warn!(
                                "a claim could not be told that its volume has not grown: {reason}"
                            ),
                        }
                    }
                }
                if cause == Cause::InUse {
                    let volume = self.volume.name;
                    tracing::warn!(
                        volume,
                        "a volume that has grown cannot be used whole while it is in use: {why}"
                    );
                    return Ok((Is::InUse, claim));
                }
                return Err(SetUpError(why));
            }
        }
        let node = &inner.settings.node_name;
        let message =
            format!("MountVolume.NodeExpandVolume succeeded for volume {:?} {node}", self.volume.name);
        self.tell(&claim, EventType::Normal, "FileSystemResizeSuccessful", message).await;
        if !told {
            let told = self.patch(&claim, &growth::finished(&claim, size)).await;
            claim = told.map_err(|SetUpError(why)| {
                let pvc = if recovers { "pvc status failed" } else { "PVC status failed " };
                SetUpError(format!("mountVolume.NodeExpandVolume update {pvc}: {why}"))
            })?;
        }
        Ok((Is::Grown(size.bytes), claim))
    }

    async fn ask(&self, bytes: i64, staging: Option<&Path>, path: &Path) -> Result<(), (Cause, SetUpError)> {
        let Of::Claim(source, _) = self.volume.of else { return Ok(()) };
        if !self.can.expand {
            let why = format!("NodeExpand is not supported by the CSI driver {}", self.volume.driver);
            return Err((Cause::Unsupported, SetUpError(why)));
        }
        let secrets =
            request::expand_secrets(self.job, source).await.map_err(|error| (Cause::Final, error))?;
        let request = request::expand(self, bytes, secrets, staging, path);
        self.session.next_step().expand(request).await.map_err(|error| {
            let (cause, colon) = match () {
                () if error.is_in_use() => (Cause::InUse, ": "),
                () if error.is_infeasible() => (Cause::Infeasible, ""),
                () if error.is_final() => (Cause::Final, ": "),
                () => (Cause::Unknown, ": "),
            };
            let why = format!("Expander.NodeExpand failed to expand the volume {colon}{error}");
            (cause, SetUpError(why))
        })
    }

    async fn patch(
        &self,
        claim: &PersistentVolumeClaim,
        patch: &Value,
    ) -> Result<PersistentVolumeClaim, SetUpError> {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let patched = self.job.inner.storage.patch_claim(namespace, name, patch).await;
        patched.map_err(|error| SetUpError(format!("patchPVCStatus failed to patch PVC {name:?}: {error}")))
    }

    /// An event about the pod, and one about the claim.
    async fn tell(
        &self,
        claim: &PersistentVolumeClaim,
        kind: EventType,
        reason: &'static str,
        message: String,
    ) {
        let (inner, uid) = (&self.job.inner, self.job.uid.clone());
        inner.storage.tell(claim, kind, reason, message.clone());
        inner.tell(News::Event(uid, kind, reason, message)).await;
    }
}
