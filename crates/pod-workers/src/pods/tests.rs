//! Random sources, runtimes and workers: three names, four UIDs, and what must never be.

use std::collections::{BTreeMap, BTreeSet};

use kube_model::core::{PodCondition, PodStatus};
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::labels;
use proptest::prelude::*;

use super::*;
use crate::cache::Listed;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Set {
        uid: usize,
        name: usize,
    },
    Delete {
        uid: usize,
        name: usize,
    },
    Reconcile {
        uid: usize,
    },
    Remove {
        uid: usize,
    },
    SourcesReady,
    /// A full list of what the runtime has: of each UID nothing, or a pod with this name.
    List([Option<usize>; UIDS]),
    /// The worker with this number among those that run does the next thing that it would do.
    Work {
        worker: usize,
        does: Input,
    },
    /// The worker with this number is done, if it may be.
    End {
        worker: usize,
        garbage: bool,
    },
    GarbageCollected {
        uid: usize,
    },
}

const UIDS: usize = 4;
const NAMES: usize = 3;

fn event() -> impl Strategy<Value = Event> {
    let does =
        prop_oneof![Just(Input::Admitted), Just(Input::Ended), Just(Input::Stopped), Just(Input::Stopped)];
    prop_oneof![
        4 => (0..UIDS, 0..NAMES).prop_map(|(uid, name)| Event::Set { uid, name }),
        2 => (0..UIDS, 0..NAMES).prop_map(|(uid, name)| Event::Delete { uid, name }),
        1 => (0..UIDS).prop_map(|uid| Event::Reconcile { uid }),
        3 => (0..UIDS).prop_map(|uid| Event::Remove { uid }),
        1 => Just(Event::SourcesReady),
        2 => prop::array::uniform4(prop::option::of(0..NAMES)).prop_map(Event::List),
        8 => (0..UIDS, does).prop_map(|(worker, does)| Event::Work { worker, does }),
        4 => (0..UIDS, any::<bool>()).prop_map(|(worker, garbage)| Event::End { worker, garbage }),
        1 => (0..UIDS).prop_map(|uid| Event::GarbageCollected { uid }),
    ]
}

fn uid(number: usize) -> PodUid {
    format!("u{number}").as_str().into()
}

fn a_pod(number: usize, name: usize) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid(number).to_string());
    pod.metadata.namespace = Some("default".to_owned());
    pod.metadata.name = Some(format!("n{name}"));
    // Half of them come from a source that keeps deleted pods.
    let source = if number.is_multiple_of(2) { "file" } else { "push" };
    pod.metadata.annotations = Some([(labels::CONFIG_SOURCE.to_owned(), source.to_owned())].into());
    Arc::new(pod)
}

/// The registry, as far as it matters: which pods are shown, and which workers run.
#[derive(Default)]
struct Model {
    pods: Pods,
    now: i64,
    /// What was begun and is not gone.
    shown: BTreeSet<PodUid>,
    /// Workers, and the name of each.
    running: BTreeMap<PodUid, PodKey>,
}

impl Model {
    fn now(&mut self) -> Monotonic {
        self.now += 1;
        Monotonic::default() + SignedDuration::from_secs(self.now)
    }

    fn happen(&mut self, event: Event) {
        let now = self.now();
        let effects = match event {
            Event::Set { uid, name } => self.pods.set(a_pod(uid, name)),
            Event::Delete { uid, name } => self.pods.delete(a_pod(uid, name), now),
            Event::Reconcile { uid } => {
                let mut pod = (*a_pod(uid, 0)).clone();
                pod.status.get_or_insert_default().phase = Some("Failed".to_owned());
                self.pods.reconcile(Arc::new(pod))
            }
            Event::Remove { uid: number } => self.pods.remove(&uid(number), now),
            Event::SourcesReady => self.pods.sources_ready(now).unwrap_or_default(),
            Event::List(pods) => {
                let pods = pods.into_iter().enumerate().filter_map(|(number, name)| {
                    let key = pod::identity(&a_pod(number, name?)).1;
                    Some(Listed { uid: uid(number), key, fingerprint: 0, ours: true, grace_seconds: None })
                });
                self.pods.cache.list(pods.collect());
                self.pods.settle(now)
            }
            Event::Work { worker, does } => match self.running.keys().nth(worker).cloned() {
                Some(uid) => self.pods.input(uid, does),
                None => Effects::new(),
            },
            Event::End { worker, garbage } => match self.running.keys().nth(worker).cloned() {
                Some(uid) if matches!(self.state(&uid), WorkerState::Terminated(_)) => {
                    self.running.remove(&uid);
                    self.pods.cleaned_up(&uid, garbage)
                }
                _ => Effects::new(),
            },
            Event::GarbageCollected { uid: number } => {
                self.pods.garbage_collected(&uid(number));
                self.pods.settle(now)
            }
        };
        self.carry_out(effects);
    }

    fn state(&self, uid: &PodUid) -> WorkerState {
        self.pods.get(uid).map_or(WorkerState::Gone, |entry| entry.desired.state.clone())
    }

    fn carry_out(&mut self, effects: Effects) {
        for (uid, effect) in effects {
            match effect {
                Effect::Begin(_) | Effect::Restart(_) => {
                    assert!(!self.running.contains_key(&uid), "{uid} begins anew beside its worker");
                    self.shown.insert(uid);
                }
                Effect::Spawn => {
                    assert!(self.pods.cache.listed, "{uid} has a worker before the runtime was listed");
                    let key = self.pods.get(&uid).expect("what has a worker is known").key.clone();
                    if matches!(self.state(&uid), WorkerState::Admitting) {
                        let beside = self.running.iter().find(|(_, other)| **other == key);
                        assert_eq!(beside, None, "{uid} starts beside another pod of its name");
                    }
                    let twice = self.running.insert(uid.clone(), key);
                    assert_eq!(twice, None, "{uid} has two workers");
                }
                Effect::Pursue | Effect::ShowBlocked(_) if self.shown.contains(&uid) => {}
                // The life that begins comes with what it is for.
                Effect::Pursue => assert!(self.pods.get(&uid).is_some(), "{uid} goes on after its end"),
                Effect::ShowBlocked(_) => panic!("{uid} is not known"),
                Effect::Finish => assert!(!self.running.contains_key(&uid), "{uid} is finished and works"),
                Effect::Forget => {
                    assert!(!self.running.contains_key(&uid), "{uid} is forgotten and works");
                    assert!(self.shown.remove(&uid), "{uid} is forgotten twice");
                }
                Effect::CollectGarbage | Effect::CountOrphan => {}
                Effect::Update(_) => panic!("{uid}: it is told of by Pursue"),
            }
        }
        self.holds();
    }

    fn holds(&self) {
        let known: BTreeSet<_> = self.pods.iter().map(|(uid, _)| uid.clone()).collect();
        assert_eq!(known, self.shown, "what is known is shown");
        let mut may_start = BTreeSet::new();
        for (uid, entry) in self.pods.iter() {
            let state = &entry.desired.state;
            let works = !state.is_waiting() && *state != WorkerState::Finished;
            assert_eq!(works, self.running.contains_key(uid), "{uid}: {state:?}");
            if works && state.termination().is_none() {
                assert!(may_start.insert(&entry.key), "two pods run with the name {}", entry.key);
            }
            if let Some(waits) = self.pods.cache.listed.then_some(entry).filter(|_| state.is_waiting()) {
                assert!(waits.desired.state.termination().is_none(), "{uid} could end and does not");
                let key = &waits.key;
                let taken = self.running.values().any(|other| other == key);
                let by_nobody = || self.pods.unclaimed().any(|(_, other)| other == key);
                assert!(taken || by_nobody(), "{uid} waits, and the name {key} is free");
            }
        }
    }

    /// Nobody wants anything any more, and workers do what they are there for.
    fn end(mut self) {
        self.happen(Event::SourcesReady);
        self.happen(Event::List([None; UIDS]));
        for round in 0.. {
            assert!(round < 3, "does not end: {:?}", self.pods.iter().collect::<Vec<_>>());
            for uid in 0..UIDS {
                self.happen(Event::Remove { uid });
            }
            for worker in (0..UIDS).rev() {
                self.happen(Event::Work { worker, does: Input::Stopped });
                self.happen(Event::End { worker, garbage: false });
            }
            if self.shown.is_empty() && self.running.is_empty() {
                return;
            }
        }
    }
}

/// Judged by the pod that there will be: a removed pod that is wanted again begins as it was told of last.
#[test]
fn what_others_write_into_a_status_is_news_if_the_pod_that_will_be_does_not_have_it() {
    let says = |word: Option<&str>| {
        let mut pod = (*a_pod(0, 0)).clone();
        let conditions = word.map(|word| vec![condition(word)]);
        pod.status = Some(PodStatus { conditions, ..PodStatus::default() });
        Arc::new(pod)
    };
    let cases = [
        ("the same as the one before", Some("before"), true),
        ("the same as the one that will be", Some("next"), false),
        ("another one", Some("other"), true),
        ("none", None, true),
    ];
    for (case, written, is_news) in cases {
        let mut pods = Pods::default();
        pods.set(says(Some("before")));
        pods.cache.list(Vec::new());
        pods.settle(Monotonic::default());
        pods.remove(&uid(0), Monotonic::default());
        pods.set(says(Some("next")));
        assert_eq!(!pods.reconcile(says(written)).is_empty(), is_news, "{case}");
        pods.input(uid(0), Input::Stopped);
        pods.cleaned_up(&uid(0), false);
        let will_be = says(if is_news { written } else { Some("next") });
        assert_eq!(pods.get(&uid(0)).map(|entry| &entry.desired.pod), Some(&will_be), "{case}");
    }
}

fn condition(kind: &str) -> PodCondition {
    PodCondition { type_: kind.to_owned(), status: "True".to_owned(), ..PodCondition::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Never two workers of one UID, never two pods of one name that may start something, never a step after the end;
    /// and it always ends.
    #[test]
    fn whatever_happens(events in prop::collection::vec(event(), 0..60)) {
        let mut model = Model::default();
        for event in events {
            model.happen(event);
        }
        model.end();
    }
}
