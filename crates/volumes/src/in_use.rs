//! Which volumes of the node a cluster must not detach: it is told before any of them is mounted for the first time, and
//! until nothing of it is on the node any more (upstream `pkg/kubelet/volumemanager/volume_manager.go`
//! `GetVolumesInUse`), whoever has left it there.
//!
//! A claim adds a name at once. A name goes only when a look at the node has found nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use util::Backoff;
use volume_plan::persistent::Source;

use crate::blocking::{self, On};
use crate::claimed::Claimed;
use crate::csi;
use crate::error::{Failed, SetUpError, Step};
use crate::manager::{Entry, Inner, Volumes};

/// Between looks at a node of which something cannot be read.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// How long a pod waits, with its volume held, until the cluster has been told of it; then it tries again later. Longer
/// than one report takes.
const TOLD: Duration = Duration::from_secs(3);

/// What the cluster is to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// The names, as `node.status.volumesInUse` has them.
    pub names: BTreeSet<String>,
    /// Whether these are all; else what an earlier run has told stays, too.
    pub all: bool,
    /// Counts up with each change.
    pub revision: u64,
}

/// Keeps it.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: Mutex<BTreeMap<String, Since>>,
    tell: watch::Sender<InUse>,
    /// The revision that the cluster has been told of.
    told: watch::Sender<u64>,
    /// Something may have gone.
    look: Notify,
    looks: std::sync::atomic::AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Since {
    /// The first that has the name.
    revision: u64,
    /// The look that was the last when somebody wanted it.
    wanted: u64,
}

impl Names {
    /// Something of a volume is not on the node any more.
    pub(crate) fn may_have_gone(&self) {
        self.look.notify_one();
    }

    fn look(&self) -> u64 {
        self.looks.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// These are wanted now. `found`: what a look, which began with this number, has found on the node.
    fn update(&self, wanted: BTreeSet<String>, found: Option<(u64, &BTreeSet<String>)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let look = self.look();
        self.tell.send_if_modified(|tell| {
            let next = tell.revision + 1;
            let mut all = tell.all;
            for name in wanted {
                known.entry(name).or_insert(Since { revision: next, wanted: look }).wanted = look;
            }
            if let Some((began, found)) = found {
                for name in found {
                    known.entry(name.clone()).or_insert(Since { revision: next, wanted: 0 });
                }
                // What was wanted meanwhile may have been mounted behind the look.
                known.retain(|name, since| found.contains(name) || since.wanted >= began);
                all = true;
            }
            let names: BTreeSet<_> = known.keys().cloned().collect();
            let changed = names != tell.names || all != tell.all;
            if changed {
                *tell = InUse { names, all, revision: next };
            }
            changed
        });
    }

    /// The first revision that has the name.
    fn since(&self, name: &str) -> Option<u64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(|since| since.revision)
    }
}

impl Volumes {
    /// What the cluster is to be told of volumes in use.
    pub fn in_use(&self) -> watch::Receiver<InUse> {
        self.inner.in_use.tell.subscribe()
    }

    /// The cluster has been told of this [revision](InUse::revision).
    pub fn told_in_use(&self, revision: u64) {
        self.inner.in_use.told.send_if_modified(|told| {
            let is_news = revision > *told;
            *told = revision.max(*told);
            is_news
        });
    }

    /// Looks at the node at the start, and when something may have gone. Until `stop`.
    pub(crate) async fn follow_node(&self, stop: &CancellationToken) {
        let (mut pauses, mut complaint) = (PAUSES, String::new());
        loop {
            let looked = self.inner.look_at_node().await;
            let pause = match looked {
                Ok(()) => {
                    pauses.succeeded();
                    complaint.clear();
                    None
                }
                Err(why) => {
                    if complaint != why {
                        tracing::warn!(
                            "volumes stay in use for the cluster, as not all of them are known: {why}"
                        );
                        complaint = why;
                    }
                    Some(pauses.failed())
                }
            };
            let pause = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.in_use.look.notified() => {}
                () = pause => {}
            }
        }
    }
}

impl Inner {
    /// A claim was found, or the volumes of a pod are about to be forgotten.
    pub(crate) fn look_at_in_use(&self) {
        let pods = self.pods();
        // With the pods held: of two who look, the later has the last word.
        self.in_use.update(wanted(pods.values()), None);
    }

    async fn look_at_node(&self) -> Result<(), String> {
        let began = self.in_use.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let settings = self.settings.clone();
        let found = blocking::run(On::OwnDisk, move || csi::on_node(&settings)).await.flatten()?;
        let pods = self.pods();
        self.in_use.update(wanted(pods.values()), Some((began, &found)));
        Ok(())
    }

    /// Waits until the cluster knows that the volume is in use: else it may detach what is just being mounted (upstream
    /// `pkg/volume/util/operationexecutor/operation_generator.go` `ReportedInUse`).
    pub(crate) async fn until_told(&self, claimed: &Claimed) -> Result<(), Failed> {
        let Some(since) = self.in_use.since(&claimed.unique_name()) else {
            return Err(SetUpError::ending().into());
        };
        let mut told = self.in_use.told.subscribe();
        let waited = tokio::time::timeout(TOLD, told.wait_for(|told| *told >= since)).await;
        // The sender is here.
        if matches!(waited, Ok(Ok(_))) {
            return Ok(());
        }
        let why = "the volume has not been added to the list of VolumesInUse in the node's volume status";
        Err(Failed { step: Step::WaitForAttach, error: SetUpError(why.to_owned()) })
    }
}

/// What the pods' claims stand for, as far as it is known. Only what drivers mount is attached.
fn wanted<'a>(pods: impl Iterator<Item = &'a Entry>) -> BTreeSet<String> {
    let attached = |claimed: &Claimed| match claimed.source() {
        source @ Source::Csi(_) => Some(source.unique_name(&claimed.volume)),
        _ => None,
    };
    pods.flat_map(Entry::claimed).filter_map(attached).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_when_a_look_that_began_after_it_was_wanted_finds_nothing_of_it() {
        let (names, set) =
            (Names::default(), |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect());
        let begin = || names.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let check = |want: &[&str], all, revision| {
            let told = names.tell.borrow().clone();
            assert_eq!(told, InUse { names: set(want), all, revision });
        };
        names.update(set(&["a"]), None);
        check(&["a"], false, 1);
        names.update(set(&[]), None);
        check(&["a"], false, 1);
        let began = begin();
        names.update(set(&[]), Some((began, &set(&["left"]))));
        check(&["left"], true, 2);
        // One that was wanted meanwhile, and is not any more.
        let began = begin();
        names.update(set(&["a"]), None);
        check(&["a", "left"], true, 3);
        names.update(set(&[]), Some((began, &set(&[]))));
        check(&["a"], true, 4);
        assert_eq!((names.since("a"), names.since("left")), (Some(3), None));
        // One that goes and comes again is told of again.
        let began = begin();
        names.update(set(&[]), Some((began, &set(&[]))));
        names.update(set(&["a"]), None);
        assert_eq!(names.since("a"), Some(6));
    }
}
