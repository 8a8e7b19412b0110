//! The volumes of all pods: which there are, how far each is, and who is told when that changes.
//!
//! A pod's volumes live as long as its worker keeps them: it asks before each plan what is missing ([`Volumes::desire`]),
//! which begins what is next, and has them taken down in the end ([`Volumes::tear_down`]). At rest there is no task and
//! no thread for any of them; one timer stands for all that is to be tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use kube_model::core::{Pod, PodSpec, Volume};
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::objects::Key;
use kube_model::view::EventType;
use kube_model::{Monotonic, PodUid, pod};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use volume_plan::payload;
use volume_plan::plan::{self, Next, Operation, State};
use volume_plan::spec::Kind;

use crate::claimed::Claimed;
use crate::content::Content;
use crate::csi::{self, Growths, Seen};
use crate::error::{SetUpError, Step};
use crate::in_use::Names;
use crate::metrics::{self, Counted};
use crate::set_up::{Done, Job};
use crate::settings::{PodDirs, Settings};
use crate::shared::Shared;
use crate::storage::Storage;
use crate::usage::Usages;

/// News that wait for their reader. One who is late holds up operations that have ended, not those under way.
const NEWS: usize = 64;

/// When a pod that waits for what an earlier one of its UID has left looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// All volumes of the node's pods. Cheap to clone.
#[derive(Clone)]
pub struct Volumes {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) content: Arc<dyn Content>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) shared: Shared,
    /// Which of them a cluster must not detach.
    pub(crate) in_use: Names,
    /// What CSI drivers have been asked for.
    pub(crate) seen: Seen,
    /// Which of their volumes may grow.
    pub(crate) growths: Growths,
    pods: Mutex<BTreeMap<PodUid, Entry>>,
    generations: AtomicU64,
    news: mpsc::Sender<News>,
    /// Something is due at another time than before.
    due: Notify,
    /// Something that was done on the node for a pod has ended.
    pub(crate) ended: Notify,
    pub(crate) usages: Usages,
    pub(crate) counted: Counted,
}

/// The volumes of one pod.
pub(crate) struct Entry {
    /// Of all entries, also of one UID: what comes late of an earlier one is told from it.
    pub(crate) generation: u64,
    pod: Arc<Pod>,
    volumes: Vec<One>,
    /// What is being done on the node for them: before they are taken down it ends.
    pub(crate) held: BTreeSet<String>,
    pub(crate) life: Life,
}

/// How far the volumes of a pod are, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// What is next for each of them begins.
    Wanted,
    /// Nothing begins any more.
    Ending,
    /// They are being taken down.
    TakingDown {
        /// Whether somebody had wanted them in this run of the agent; else nothing of the entry stays.
        known: bool,
    },
}

/// One volume; its spec is looked up by the name.
struct One {
    name: String,
    state: State,
    /// That its operation takes long has been told.
    told_late: bool,
    /// What its claim stands for, as it was when the volume was last set up.
    claimed: Option<Arc<Claimed>>,
}

/// Something that others are to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// What the pod lacks has changed.
    Wake(PodUid),
    /// An operation failed: a warning `FailedMount` of the pod, in upstream's words.
    FailedMount(PodUid, String),
    /// Another event of the pod: its reason and what it says.
    Event(PodUid, EventType, &'static str, String),
}

/// What a pod waits for before its containers may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// Which volumes, and why.
    pub message: String,
    /// Since when.
    pub since: Monotonic,
    /// When the next attempt is due, if one has failed.
    pub until: Option<Monotonic>,
}

/// How one volume is, for those who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name in the pod.
    pub name: String,
    /// The field that says what it is.
    pub kind: &'static str,
    /// How far it is.
    pub state: State,
}

impl Volumes {
    /// Manages no volume yet. The other one is what is to be told.
    pub fn new(
        settings: Settings,
        content: Arc<dyn Content>,
        storage: Arc<dyn Storage>,
    ) -> (Self, mpsc::Receiver<News>) {
        let (news, told) = mpsc::channel(NEWS);
        let inner = Inner {
            settings,
            content,
            storage,
            shared: Shared::default(),
            in_use: Names::default(),
            seen: Seen::default(),
            growths: Growths::default(),
            pods: Mutex::default(),
            generations: AtomicU64::new(0),
            news,
            due: Notify::new(),
            ended: Notify::new(),
            usages: Usages::default(),
            counted: Counted::default(),
        };
        (Self { inner: Arc::new(inner) }, told)
    }

    /// Wants the volumes of `pod`, and says which of them its containers have to wait for. What is to be done for them
    /// begins. Cheap when nothing has changed; called before each plan for the pod. Within a tokio runtime.
    pub fn desire(&self, pod: &Arc<Pod>) -> Option<Lacking> {
        let (uid, _) = pod::identity(pod);
        let now = self.now();
        let mut pods = self.inner.pods();
        if pods.get(&uid).is_some_and(|entry| entry.life != Life::Wanted) {
            let message = "what is left of an earlier pod with this UID is being taken down".to_owned();
            let again = now + SignedDuration::try_from(LOOK_AGAIN).unwrap_or(SignedDuration::MAX);
            return Some(Lacking { message, since: now, until: Some(again) });
        }
        let spec = pod.spec.as_ref().filter(|spec| spec.volumes.as_ref().is_some_and(|v| !v.is_empty()))?;
        let entry = pods.entry(uid.clone()).or_insert_with(|| {
            let mut entry = Entry::new(&self.inner, Arc::clone(pod), Life::Wanted);
            entry.add_used(spec);
            entry
        });
        if !Arc::ptr_eq(&entry.pod, pod) {
            entry.update(pod, spec, now);
        }
        self.advance(&uid, entry, now);
        entry.lacking(now)
    }

    /// ConfigMaps or Secrets have changed, came or went: exactly the volumes that they stand in are looked at again.
    pub fn changed<'a>(&self, keys: impl IntoIterator<Item = &'a Key> + Clone) {
        let now = self.now();
        for (uid, entry) in self.inner.pods().iter_mut() {
            let Entry { pod, volumes, .. } = entry;
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let mut any = false;
            for one in volumes.iter_mut() {
                let Some(Kind::Content(content)) = find(pod, &one.name).map(Kind::of) else { continue };
                let needs = content.needs();
                let concerns = |key: &Key| {
                    let need = payload::Need::Object(key.kind, &key.name);
                    *key.namespace == *namespace && needs.contains(&need)
                };
                if keys.clone().into_iter().any(concerns) {
                    one.state.changed(now);
                    any = true;
                }
            }
            if any {
                self.advance(uid, entry, now);
            }
        }
    }

    /// Begins what comes due by itself: what failed is tried again, tokens are renewed. Until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.follow_time(&stop), self.follow_node(&stop), self.follow_growth(&stop));
    }

    async fn follow_time(&self, stop: &CancellationToken) {
        let mut drivers = self.inner.settings.drivers.changes();
        loop {
            let now = self.now();
            let mut next: Option<Monotonic> = None;
            let mut late = Vec::new();
            for (uid, entry) in self.inner.pods().iter_mut() {
                late.extend(entry.late(now).map(|message| News::FailedMount(uid.clone(), message)));
                if let Some(at) = self.advance(uid, entry, now) {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
            for news in late {
                // Nobody listens only when the agent is going down.
                let _ = self.inner.news.send(news).await;
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
                () = self.inner.due.notified() => {}
                Ok(()) = drivers.changed() => self.drivers_changed(),
                () = timer => {}
            }
        }
    }

    /// Where a volume of the pod is on the node; `None` for a kind that is not mounted.
    pub fn host_path(&self, uid: &PodUid, volume: &Volume) -> Option<PathBuf> {
        let kind = Kind::of(volume);
        match kind {
            // As it is given: what it leads to, the runtime finds.
            Kind::HostPath(source) => Some(PathBuf::from(&source.path)),
            Kind::Claim(_) => self.inner.claimed(uid, &volume.name)?.host_path(&self.dirs(uid)),
            Kind::Csi(_) => Some(csi::mounted(&self.dirs(uid), &volume.name)),
            _ => Some(self.dirs(uid).volume(kind.plugin_dir()?, &volume.name)),
        }
    }

    /// How the volumes of a pod are, in the order of its spec.
    pub fn shown(&self, uid: &PodUid) -> Vec<Shown> {
        self.inner.pods().get(uid).map(Entry::shown).unwrap_or_default()
    }

    /// How the volumes of all pods are.
    pub fn all_shown(&self) -> BTreeMap<PodUid, Vec<Shown>> {
        self.inner.pods().iter().map(|(uid, entry)| (uid.clone(), entry.shown())).collect()
    }

    /// Begins what is next for each volume. Answers when something is due by itself.
    fn advance(&self, uid: &PodUid, entry: &mut Entry, now: Monotonic) -> Option<Monotonic> {
        let mut due: Option<Monotonic> = None;
        if entry.life != Life::Wanted {
            return due;
        }
        for one in &mut entry.volumes {
            match one.state.next(now) {
                Next::Do(operation) => {
                    one.state.begin(operation, now);
                    one.told_late = false;
                    let job = Job {
                        inner: Arc::clone(&self.inner),
                        uid: uid.clone(),
                        generation: entry.generation,
                        pod: Arc::clone(&entry.pod),
                        name: one.name.clone(),
                    };
                    tokio::spawn(self.clone().operate(job, operation));
                    // Its end is waited for, but not for ever.
                    self.inner.due.notify_one();
                }
                Next::At(at) => due = Some(due.map_or(at, |due| due.min(at))),
                Next::Nothing => {}
            }
        }
        due
    }

    /// One operation, from its beginning to what is told of it.
    async fn operate(self, job: Job, operation: Operation) {
        let (uid, name) = (&job.uid, &job.name);
        tracing::debug!(%uid, volume = name, ?operation, "Volume operation begins");
        let panicked = |_| Done::from(Err(SetUpError("the operation panicked".to_owned())));
        // All that it shares with others is whole at each moment.
        let done = AssertUnwindSafe(job.set_up()).catch_unwind().await.unwrap_or_else(panicked);
        let now = self.now();
        let (mut wake, mut told) = (false, None::<News>);
        {
            let mut pods = self.inner.pods();
            let mut entry = pods.get_mut(uid).filter(|entry| entry.generation == job.generation);
            let mut failed = None;
            if let Some(one) = entry.as_mut().and_then(|e| e.volumes.iter_mut().find(|v| v.name == *name)) {
                let before = one.state.is_mounted();
                let (began, wanted) =
                    (one.state.operation(), one.state.failure().map(|failure| failure.since));
                match done {
                    Done::Current { until } => one.state.succeeded(until, now),
                    Done::Failed { step, error, usable } => {
                        failed = Some((step, one.event_name(step), error.clone()));
                        one.state.failed(error.0, usable, step.patience(), now);
                    }
                }
                wake = !before;
                if let (Some(volume), Some((_, since))) = (find(&job.pod, name), began) {
                    let counted = &self.inner.counted;
                    let plugin = || metrics::plugin(volume, one.claimed.as_deref());
                    counted.operated("volume_mount", plugin(), failed.is_some(), now.left(since));
                    if wake && one.state.is_mounted() {
                        counted.mounted(plugin(), now.left(wanted.unwrap_or(since)));
                    }
                }
            }
            if let (Some((step, volume, error)), Some(entry)) = (failed, entry) {
                let message = step.in_words(&volume, &entry.unmounted(), &error);
                told = Some(match step.maps() {
                    false => News::FailedMount(uid.clone(), message),
                    true => News::Event(uid.clone(), EventType::Warning, "FailedMapVolume", message),
                });
            }
        }
        tracing::debug!(%uid, volume = name, ?operation, failed = told.is_some(), "Volume operation ended");
        self.inner.due.notify_one();
        // Nobody listens only when the agent is going down.
        if let Some(told) = told {
            let _ = self.inner.news.send(told).await;
        }
        if wake {
            let _ = self.inner.news.send(News::Wake(job.uid)).await;
        }
    }

    /// A driver came, or went: what has failed for the lack of it is tried again.
    fn drivers_changed(&self) {
        let now = self.now();
        for entry in self.inner.pods().values_mut() {
            let Entry { pod, volumes, .. } = entry;
            for one in volumes.iter_mut().filter(|one| one.state.failure().is_some()) {
                let driver = match find(pod, &one.name).map(Kind::of) {
                    Some(Kind::Csi(source)) => Some(source.driver.as_str()),
                    _ => one.claimed.as_ref().and_then(|claimed| claimed.driver()),
                };
                if driver.is_some_and(|driver| self.inner.settings.drivers.get(driver).is_some()) {
                    one.state.changed(now);
                }
            }
        }
    }

    /// Whoever waits for a volume of the node that another pod had, tries again.
    pub(crate) fn free(&self, name: &str) {
        let now = self.now();
        for (uid, entry) in self.inner.pods().iter_mut() {
            let mut any = false;
            for one in entry.volumes.iter_mut().filter(|one| !one.state.is_mounted()) {
                if one.claimed.as_ref().is_some_and(|claimed| claimed.unique_name() == name) {
                    one.state.changed(now);
                    any = true;
                }
            }
            if any {
                self.advance(uid, entry, now);
            }
        }
    }

    pub(crate) fn dirs(&self, uid: &PodUid) -> PodDirs {
        PodDirs::new(&self.inner.settings, uid)
    }

    pub(crate) fn now(&self) -> Monotonic {
        (self.inner.settings.now)()
    }
}

impl Inner {
    pub(crate) fn pods(&self) -> MutexGuard<'_, BTreeMap<PodUid, Entry>> {
        // Each holder leaves whole states behind.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the claim of a pod's volume stands for, if it was found.
    pub(crate) fn claimed(&self, uid: &PodUid, volume: &str) -> Option<Arc<Claimed>> {
        self.pods().get(uid)?.volumes.iter().find(|one| one.name == volume)?.claimed.clone()
    }

    /// What the claims of a pod stand for, in the order of its volumes.
    pub(crate) fn all_claimed(&self, uid: &PodUid) -> Vec<Arc<Claimed>> {
        let pods = self.pods();
        pods.get(uid)
            .into_iter()
            .flat_map(|entry| &entry.volumes)
            .filter_map(|one| one.claimed.clone())
            .collect()
    }

    /// Somebody tells something of a pod. Nobody listens only when the agent is going down.
    pub(crate) async fn tell(&self, news: News) {
        let _ = self.news.send(news).await;
    }
}

impl One {
    /// What an event calls it.
    fn event_name(&self, step: Step) -> String {
        match &self.claimed {
            Some(claimed) if step != Step::Process => claimed.name().to_owned(),
            _ => self.name.clone(),
        }
    }
}

impl Entry {
    pub(crate) fn new(inner: &Inner, pod: Arc<Pod>, life: Life) -> Self {
        let generation = inner.generations.fetch_add(1, Ordering::Relaxed);
        Self { generation, pod, volumes: Vec::new(), held: BTreeSet::new(), life }
    }

    /// Goes by another version of the pod: an ephemeral container may use one more volume, and files that tell of the
    /// pod may have to tell something else.
    fn update(&mut self, pod: &Arc<Pod>, spec: &PodSpec, now: Monotonic) {
        let told = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let same = told(&self.pod) == told(pod) && self.pod.spec == pod.spec;
        self.pod = Arc::clone(pod);
        if same {
            return;
        }
        self.add_used(spec);
        for one in &mut self.volumes {
            let kind = find(pod, &one.name).map(Kind::of);
            if matches!(kind, Some(Kind::Content(content)) if content.tells_of_pod()) {
                one.state.changed(now);
            }
        }
    }

    /// What the claim of a volume stands for has been found.
    pub(crate) fn found(&mut self, volume: &str, claimed: &Arc<Claimed>) {
        if let Some(one) = self.volumes.iter_mut().find(|one| one.name == volume) {
            one.claimed = Some(Arc::clone(claimed));
        }
    }

    /// What the claims stand for, as far as it is known.
    pub(crate) fn claimed(&self) -> impl Iterator<Item = &Claimed> {
        self.volumes.iter().filter_map(|one| one.claimed.as_deref())
    }

    /// The volumes that are not there, as events have them.
    fn unmounted(&self) -> String {
        let missing = self.volumes.iter().filter(|one| !one.state.is_mounted());
        let mut names: Vec<_> = missing.map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        names.join(" ")
    }

    pub(crate) fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// The names of its volumes that are wanted, with what their claims stand for, and whether they are mounted.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (&str, Option<&Claimed>, bool)> {
        self.volumes.iter().map(|one| (one.name.as_str(), one.claimed.as_deref(), one.state.is_mounted()))
    }

    /// The names of its volumes that CSI drivers mount for claims and that are not only read, what the claims stand for,
    /// and whether they are mounted.
    pub(crate) fn writers(&self) -> impl Iterator<Item = (&str, &Arc<Claimed>, bool)> {
        let all = self.volumes.iter().filter(|_| self.life == Life::Wanted);
        all.filter_map(|one| {
            let claimed =
                one.claimed.as_ref().filter(|claimed| claimed.driver().is_some() && !claimed.read_only)?;
            Some((one.name.as_str(), claimed, one.state.is_mounted()))
        })
    }

    /// The names of its volumes that are mounted.
    pub(crate) fn mounted(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter(|one| one.state.is_mounted()).map(|one| one.name.as_str())
    }

    fn shown(&self) -> Vec<Shown> {
        let shown = |one: &One| Shown {
            name: one.name.clone(),
            kind: find(&self.pod, &one.name).map_or("", |volume| Kind::of(volume).field()),
            state: one.state.clone(),
        };
        self.volumes.iter().map(shown).collect()
    }

    fn add_used(&mut self, spec: &PodSpec) {
        let used = plan::used(spec);
        for volume in spec.volumes.iter().flatten().filter(|volume| used.contains(volume.name.as_str())) {
            if !self.volumes.iter().any(|one| one.name == volume.name) {
                let (name, state) = (volume.name.clone(), State::default());
                self.volumes.push(One { name, state, told_late: false, claimed: None });
            }
        }
    }

    /// What is to be told of operations that take so long that they may never end: each is told of once.
    fn late(&mut self, now: Monotonic) -> impl Iterator<Item = String> {
        let pod = &self.pod;
        let late = self.volumes.iter_mut().filter(move |one| !one.told_late && one.state.is_late(now));
        late.filter_map(move |one| {
            one.told_late = true;
            let (operation, since) = one.state.operation()?;
            let kind = find(pod, &one.name).map_or("", |volume| Kind::of(volume).field());
            let doing = match operation {
                Operation::SetUp => "set up",
                Operation::Refresh => "written anew",
            };
            let seconds = now.left(since).as_secs();
            Some(format!("MountVolume.SetUp failed for volume {:?} : the {kind} is being {doing} for {seconds} s now: what it lies on may not answer", one.name))
        })
    }

    fn lacking(&self, now: Monotonic) -> Option<Lacking> {
        let missing = || self.volumes.iter().filter(|one| !one.state.is_mounted());
        let since = missing().map(|one| match (one.state.failure(), one.state.operation()) {
            (Some(failure), _) => failure.since,
            (None, Some((_, since))) => since,
            (None, None) => now,
        });
        let since = since.min()?;
        let until = missing().filter_map(|one| one.state.failure().map(|failure| failure.until)).min();
        let says = |one: &One| {
            let kind = find(&self.pod, &one.name).map_or("", |volume| Kind::of(volume).field());
            match one.state.failure() {
                Some(failure) => format!("volume {:?} ({kind}): {}", one.name, failure.message),
                None if one.state.is_late(now) => format!(
                    "volume {:?} ({kind}) is being set up for long: what it lies on may not answer",
                    one.name
                ),
                None => format!("volume {:?} ({kind}) is being set up", one.name),
            }
        };
        let message = missing().map(says).collect::<Vec<_>>().join("; ");
        Some(Lacking { message, since, until })
    }
}

/// A volume of the pod, by its name.
pub(crate) fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Volume> {
    pod.spec.as_ref()?.volumes.as_ref()?.iter().find(|volume| volume.name == name)
}
