//! What the volumes of pods hold, measured when somebody asks and then good for a while (upstream
//! `pkg/kubelet/server/stats/volume_stat_calculator.go`, which measures all the time).
//!
//! Nobody waits long for a volume: what does not answer is measured once at a time, and who asks gets what was known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use kube_model::core::{EmptyDirVolumeSource, Pod, Volume};
use kube_model::stats::PvcReference;
use kube_model::{Monotonic, PodUid};
use volume_fs::usage::{Usage, of_file_system, of_folder};
use volume_plan::csi::inline_handle;
use volume_plan::persistent::Source;
use volume_plan::spec::Kind;

use crate::blocking::{self, On};
use crate::csi;
use crate::manager::{Entry, Volumes, find};

/// How long who asks is kept waiting for what is measured.
const PATIENCE: Duration = Duration::from_secs(3);

/// What takes long to measure is good for so many times as long: at most so much of the time goes into it.
const REST: u32 = 20;

/// What one volume holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Its name in the pod.
    pub name: String,
    /// The claim that it is of.
    pub claim: Option<PvcReference>,
    /// Whether it takes of the node's own disk, and goes with the pod (upstream `IsLocalEphemeralVolume`).
    pub is_local: bool,
    /// What it holds.
    pub usage: Usage,
    /// When that was so.
    pub at: Monotonic,
}

/// Which volumes are measured if what is known of them is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// All of them.
    All,
    /// Those of claims.
    Claims,
}

type Key = (PodUid, String);

/// What is known of all volumes.
#[derive(Default)]
pub(crate) struct Usages(Mutex<BTreeMap<Key, Slot>>);

#[derive(Default)]
struct Slot {
    known: Option<(Usage, Monotonic)>,
    /// When it was measured last.
    measured: Option<Monotonic>,
    /// How long that took.
    took: Duration,
    is_under_way: bool,
}

impl Slot {
    /// Whether what is known is older than that.
    fn is_old(&self, period: Duration, now: Monotonic) -> bool {
        let good = period.max(self.took.saturating_mul(REST));
        self.measured.is_none_or(|measured| now.left(measured) >= good)
    }
}

/// How a volume is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// A folder of the node's own, or memory.
    Folder,
    /// A file system of its own, that may be elsewhere.
    FileSystem,
    /// Its driver tells, if it does that.
    Driver { name: String, handle: String },
}

/// A volume that can be measured.
struct Mounted {
    key: Key,
    claim: Option<PvcReference>,
    is_local: bool,
    path: PathBuf,
    way: Way,
}

impl Usages {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<Key, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Volumes {
    /// What the mounted volumes of all pods hold; each is measured if what is known of it is older than `period`, or than
    /// some times what measuring it takes. One that has not answered in time is left out, or as it was before.
    pub async fn usage(&self, measure: Measure, period: Duration) -> BTreeMap<PodUid, Vec<Measured>> {
        let mounted = self.mounted();
        let due = self.due(&mounted, measure, period);
        let (own, elsewhere): (Vec<_>, Vec<_>) = due.into_iter().partition(|(.., way)| *way == Way::Folder);
        let batches = elsewhere.into_iter().map(|one| vec![one]).chain((!own.is_empty()).then_some(own));
        // They go on if nobody waits any more.
        let running = batches.map(|batch| tokio::spawn(self.clone().measure(batch)));
        let _ = tokio::time::timeout(PATIENCE, join_all(running)).await;
        self.known(mounted)
    }

    fn mounted(&self) -> Vec<Mounted> {
        let pods: Vec<_> = {
            let pods = self.inner.pods();
            let names = |entry: &Entry| entry.mounted().map(str::to_owned).collect::<Vec<_>>();
            pods.iter().map(|(uid, entry)| (uid.clone(), Arc::clone(entry.pod()), names(entry))).collect()
        };
        let mut all = Vec::new();
        for (uid, pod, names) in pods {
            for name in names {
                let Some(volume) = find(&pod, &name) else { continue };
                let (way, path) = (self.way(&uid, volume), self.host_path(&uid, volume));
                let (Some(way), Some(path)) = (way, path) else { continue };
                let (claim, is_local) = (claim(&pod, volume), is_local(volume));
                all.push(Mounted { key: (uid.clone(), name), claim, is_local, path, way });
            }
        }
        all
    }

    /// `None`: as upstream, nobody says what such a volume holds.
    fn way(&self, uid: &PodUid, volume: &Volume) -> Option<Way> {
        match Kind::of(volume) {
            Kind::EmptyDir(_) | Kind::Content(_) => Some(Way::Folder),
            Kind::Nfs(_) => Some(Way::FileSystem),
            Kind::Csi(source) => {
                let handle = inline_handle(uid.as_str(), &volume.name);
                Some(Way::Driver { name: source.driver.clone(), handle })
            }
            Kind::Claim(_) => match self.inner.claimed(uid, &volume.name)?.source() {
                Source::Local(_) | Source::Nfs(_) => Some(Way::FileSystem),
                Source::Csi(source) => {
                    let (name, handle) = (source.driver.clone(), source.volume_handle.clone());
                    Some(Way::Driver { name, handle })
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Those whose time has come, what is measured fast first: who waits gets most in time. What is gone is forgotten.
    fn due(&self, mounted: &[Mounted], measure: Measure, period: Duration) -> Vec<(Key, PathBuf, Way)> {
        let now = self.now();
        let keys: BTreeSet<_> = mounted.iter().map(|one| &one.key).collect();
        let mut slots = self.inner.usages.slots();
        slots.retain(|key, slot| slot.is_under_way || keys.contains(key));
        let mut due = Vec::new();
        for one in mounted.iter().filter(|one| measure == Measure::All || one.claim.is_some()) {
            let slot = slots.entry(one.key.clone()).or_default();
            if !slot.is_under_way && slot.is_old(period, now) {
                slot.is_under_way = true;
                due.push((slot.took, (one.key.clone(), one.path.clone(), one.way.clone())));
            }
        }
        due.sort_by_key(|(took, _)| *took);
        due.into_iter().map(|(_, one)| one).collect()
    }

    /// On a thread of its own: a large volume holds up nothing else.
    async fn measure(self, due: Vec<(Key, PathBuf, Way)>) {
        if let [(key, path, Way::Driver { name, handle })] = &due[..] {
            let before = self.now();
            let usage = csi::usage(&self.inner, name, handle, path).await;
            return self.learned(key.clone(), "csi", before, usage);
        }
        let keys: Vec<_> = due.iter().map(|(key, ..)| key.clone()).collect();
        let volumes = self.clone();
        let work = move || due.into_iter().for_each(|(key, path, way)| volumes.measure_one(key, &path, way));
        if let Err(cut_off) = blocking::run(On::Elsewhere, work).await {
            tracing::warn!("volumes were not measured: {cut_off}");
            let mut slots = self.inner.usages.slots();
            keys.iter().filter_map(|key| slots.get_mut(key).map(|slot| slot.is_under_way = false)).count();
        }
    }

    fn measure_one(&self, key: Key, path: &Path, way: Way) {
        let before = self.now();
        let (source, usage) = match way {
            Way::Folder => ("du", of_folder(path)),
            // Drivers are asked elsewhere.
            Way::FileSystem | Way::Driver { .. } => ("statfs", of_file_system(path)),
        };
        self.learned(key, source, before, usage.map_err(|error| util::causes(&error)));
    }

    /// What came of one that was begun then.
    fn learned(&self, key: Key, source: &'static str, before: Monotonic, usage: Result<Usage, String>) {
        let now = self.now();
        let took = now.left(before);
        self.inner.counted.measured(source, took);
        let known = usage.map(|usage| (usage, now)).inspect_err(|why| {
            tracing::debug!(uid = %key.0, volume = key.1, "not measured: {why}");
        });
        let slot = Slot { known: known.ok(), measured: Some(now), took, is_under_way: false };
        self.inner.usages.slots().insert(key, slot);
    }

    /// What is known of all of them; nothing is measured.
    pub(crate) fn known_now(&self) -> BTreeMap<PodUid, Vec<Measured>> {
        self.known(self.mounted())
    }

    /// Whether any mounted volume is that of a claim.
    pub(crate) fn has_claims(&self) -> bool {
        self.mounted().iter().any(|one| one.claim.is_some())
    }

    fn known(&self, mounted: Vec<Mounted>) -> BTreeMap<PodUid, Vec<Measured>> {
        let slots = self.inner.usages.slots();
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Mounted { key, claim, is_local, .. } in mounted {
            if let Some((usage, at)) = slots.get(&key).and_then(|slot| slot.known) {
                let (uid, name) = key;
                all.entry(uid).or_default().push(Measured { name, claim, is_local, usage, at });
            }
        }
        all
    }
}

/// The claim of a volume (upstream `k8s.io/component-helpers/storage/ephemeral` `VolumeClaimName`).
fn claim(pod: &Pod, volume: &Volume) -> Option<PvcReference> {
    let name = match &volume.persistent_volume_claim {
        Some(claim) => claim.claim_name.clone(),
        None if volume.ephemeral.is_none() => return None,
        None => format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name),
    };
    Some(PvcReference { name, namespace: pod.metadata.namespace.clone().unwrap_or_default() })
}

fn is_local(volume: &Volume) -> bool {
    let on_disk = |source: Option<&EmptyDirVolumeSource>| {
        source.and_then(|source| source.medium.as_deref()).unwrap_or_default().is_empty()
    };
    match Kind::of(volume) {
        Kind::EmptyDir(source) => on_disk(source),
        _ => volume.config_map.is_some(),
    }
}
