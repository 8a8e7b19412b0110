//! Which events are one. Pure: the time is an argument, and one that never jumps. Rule: upstream
//! `client-go/tools/record/events_cache.go`; the numbers are those of the kubelet.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use kube_model::Monotonic;
use kube_model::core::Event;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use util::TokenBucket;

/// So many different messages of one kind are told one by one ...
const MOST_SIMILAR: usize = 10;
/// ... when they come within so many seconds.
const SIMILAR_SECONDS: f64 = 600.0;
/// So many events about one object at once, and one more in so many seconds.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// Most entries of each table; the older half goes when there are more.
const MOST_ENTRIES: usize = 4096;

/// What to do with an event. `key` finds its entry again.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create { event: Event, key: u64 },
    Patch { namespace: String, name: String, patch: Value, event: Event, key: u64 },
    Drop,
}

#[derive(Default)]
pub(super) struct Correlator {
    similar: HashMap<u64, Similar>,
    logs: HashMap<u64, EventLog>,
    budgets: HashMap<u64, Budget>,
}

struct Similar {
    messages: HashSet<u64>,
    last: Monotonic,
}

/// An event that has happened, told or not.
struct EventLog {
    /// As the server has it, if it has it.
    name: Option<String>,
    count: i32,
    first: Option<Time>,
    last: Monotonic,
}

struct Budget {
    tokens: TokenBucket,
    last: Monotonic,
}

trait Aged {
    fn last(&self) -> Monotonic;
}

impl Aged for Similar {
    fn last(&self) -> Monotonic {
        self.last
    }
}

impl Aged for EventLog {
    fn last(&self) -> Monotonic {
        self.last
    }
}

impl Aged for Budget {
    fn last(&self) -> Monotonic {
        self.last
    }
}

fn shrink<T: Aged>(table: &mut HashMap<u64, T>) {
    if table.len() > MOST_ENTRIES {
        let mut ages: Vec<Monotonic> = table.values().map(Aged::last).collect();
        ages.sort_unstable();
        let median = ages[ages.len() / 2];
        table.retain(|_, entry| entry.last() > median);
    }
}

fn hash(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

fn seconds(from: Monotonic, to: Monotonic) -> f64 {
    to.left(from).as_secs_f64()
}

impl Correlator {
    pub(super) fn take(&mut self, mut event: Event, now: Monotonic) -> Step {
        let about = &event.involved_object;
        let object = hash((&about.kind, &about.namespace, &about.name, &about.uid, &about.api_version));
        let kind = hash((object, &event.type_, &event.reason));
        let mut key = hash((kind, &about.field_path, &event.message));
        if self.is_one_of_many(kind, hash(&event.message), now) {
            let message = event.message.take().unwrap_or_default();
            event.message = Some(format!("(combined from similar events): {message}"));
            key = kind;
        }
        shrink(&mut self.logs);
        let first = || EventLog { name: None, count: 0, first: event.first_timestamp.clone(), last: now };
        let log = self.logs.entry(key).or_insert_with(first);
        // Also what is not sent has happened, and is in the number of those that are.
        log.count = log.count.saturating_add(1);
        log.last = now;
        event.count = Some(log.count);
        event.first_timestamp.clone_from(&log.first);
        if !may_be_told(&mut self.budgets, object, now) {
            return Step::Drop;
        }
        let Some(name) = log.name.clone() else {
            log.name.clone_from(&event.metadata.name);
            return Step::Create { event, key };
        };
        let patch = json!({
            "count": event.count,
            "lastTimestamp": event.last_timestamp,
            "message": event.message,
        });
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        Step::Patch { namespace, name, patch, event, key }
    }

    /// The event of a patch whose target is gone, as a new one.
    pub(super) fn anew(&mut self, step: Step) -> Step {
        match step {
            Step::Patch { event, key, .. } => {
                if let Some(log) = self.logs.get_mut(&key) {
                    log.name.clone_from(&event.metadata.name);
                }
                Step::Create { event, key }
            }
            other => other,
        }
    }

    /// The server has not got it: the next of its kind is created.
    pub(super) fn refused(&mut self, step: &Step) {
        if let Step::Create { key, .. } = step
            && let Some(log) = self.logs.get_mut(key)
        {
            log.name = None;
        }
    }

    fn is_one_of_many(&mut self, kind: u64, message: u64, now: Monotonic) -> bool {
        shrink(&mut self.similar);
        let similar =
            self.similar.entry(kind).or_insert_with(|| Similar { messages: HashSet::new(), last: now });
        if seconds(similar.last, now) > SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.last = now;
        similar.messages.insert(message);
        if similar.messages.len() < MOST_SIMILAR {
            return false;
        }
        similar.messages.remove(&message);
        true
    }
}

fn may_be_told(budgets: &mut HashMap<u64, Budget>, object: u64, now: Monotonic) -> bool {
    shrink(budgets);
    let full = Budget { tokens: TokenBucket::new(1.0 / REFILL_SECONDS, BURST), last: now };
    let budget = budgets.entry(object).or_insert(full);
    budget.tokens = budget.tokens.after(now.left(budget.last));
    budget.last = now;
    budget.tokens.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(object: &str, message: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{object}.{message}"), "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": object},
            "type": "Warning", "reason": "BackOff", "message": message,
            "firstTimestamp": "2026-01-01T00:00:00Z", "count": 1,
        }))
        .unwrap()
    }

    fn at(second: u64) -> Monotonic {
        Monotonic::after_start(std::time::Duration::from_secs(second))
    }

    /// `+name` created, `name:count` counted up, `-` dropped.
    fn show(step: &Step) -> String {
        match step {
            Step::Create { event, .. } => format!("+{}", event.metadata.name.as_ref().unwrap()),
            Step::Patch { name, patch, .. } => format!("{name}:{}", patch["count"]),
            Step::Drop => "-".to_owned(),
        }
    }

    #[test]
    fn the_same_event_is_counted_up() {
        let mut correlator = Correlator::default();
        let mut take = |object, message, second| show(&correlator.take(event(object, message), at(second)));
        assert_eq!(take("a", "m", 0), "+a.m");
        assert_eq!(take("a", "m", 1), "a.m:2");
        assert_eq!(take("b", "m", 2), "+b.m");
        assert_eq!(take("a", "n", 3), "+a.n");
        assert_eq!(take("a", "m", 3000), "a.m:3");
    }

    #[test]
    fn many_similar_ones_are_combined() {
        let mut correlator = Correlator::default();
        for n in 0..9 {
            let step = correlator.take(event("a", &n.to_string()), at(n));
            assert_eq!(show(&step), format!("+a.{n}"));
        }
        let Step::Create { event: combined, .. } = correlator.take(event("a", "x"), at(9)) else { panic!() };
        assert_eq!(combined.message.as_deref(), Some("(combined from similar events): x"));
        assert_eq!(show(&correlator.take(event("a", "y"), at(10))), "a.x:2");
        // After ten silent minutes they are told one by one again.
        assert_eq!(show(&correlator.take(event("a", "z"), at(700))), "+a.z");
    }

    #[test]
    fn an_object_that_talks_too_much_is_cut_short() {
        let mut correlator = Correlator::default();
        let sent = (0..100).filter(|n| correlator.take(event("a", "m"), at(*n)) != Step::Drop).count();
        assert_eq!(sent, 25);
        assert_ne!(correlator.take(event("b", "m"), at(100)), Step::Drop);
        assert_ne!(correlator.take(event("a", "m"), at(401)), Step::Drop);
        assert_eq!(correlator.take(event("a", "m"), at(402)), Step::Drop);
    }

    #[test]
    fn what_is_not_told_is_counted_and_told_as_new_later() {
        let mut correlator = Correlator::default();
        for n in 0..30 {
            correlator.take(event("a", "m"), at(n));
        }
        assert_eq!(correlator.take(event("a", "x"), at(30)), Step::Drop);
        assert_eq!(show(&correlator.take(event("a", "m"), at(400))), "a.m:31");
        let Step::Create { event: later, .. } = correlator.take(event("a", "x"), at(700)) else { panic!() };
        assert_eq!(later.count, Some(2));
        assert_eq!(show(&correlator.take(event("a", "x"), at(1000))), "a.x:3");
    }

    #[test]
    fn what_the_server_lost_or_refused_is_created_anew() {
        let mut correlator = Correlator::default();
        let created = correlator.take(event("a", "m"), at(0));
        let patch = correlator.take(event("a", "m"), at(1));
        let Step::Create { event: again, .. } = correlator.anew(patch) else { panic!() };
        assert_eq!(again.count, Some(2));
        correlator.refused(&created);
        let Step::Create { event: again, .. } = correlator.take(event("a", "m"), at(2)) else { panic!() };
        assert_eq!(again.count, Some(3));
    }

    #[test]
    fn the_tables_do_not_grow_without_end() {
        let mut correlator = Correlator::default();
        for n in 0..20_000 {
            correlator.take(event(&n.to_string(), "m"), at(n));
        }
        assert!(correlator.logs.len() <= MOST_ENTRIES + 1 && correlator.budgets.len() <= MOST_ENTRIES + 1);
    }
}
