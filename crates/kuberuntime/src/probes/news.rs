//! What the prober tells on its way to the pod workers: changed outcomes are written down before a worker is woken for
//! them, so that a status which was shown is known after a restart of the agent, too. A disk that does not answer holds
//! them up for a moment only. A worker that is awake for another reason may see an outcome before it is on disk: an agent
//! that is killed in that moment goes on with the one before, until the probe settles again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_model::PodUid;
use kube_model::view::EventType;
use prober::Sink;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How long a worker waits until the outcomes of its pod are written down.
const PATIENCE: Duration = Duration::from_secs(1);

/// Events that wait for the other end, which never waits for anything: as many as some hundred pods have in a second.
/// What is beyond that is dropped; an event repeats as often as the probe fails.
const EVENTS: usize = 1024;

/// An event of a container.
struct Event {
    pod: PodUid,
    container: String,
    kind: EventType,
    reason: &'static str,
    message: String,
}

#[derive(Default)]
struct Changed {
    pods: Mutex<BTreeSet<PodUid>>,
    any: Notify,
}

impl Changed {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<PodUid>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that changed since the last call; waits until there are some.
    async fn next(&self) -> BTreeSet<PodUid> {
        loop {
            let pods = std::mem::take(&mut *self.lock());
            if !pods.is_empty() {
                return pods;
            }
            self.any.notified().await;
        }
    }
}

/// The prober's end.
pub struct NewsSink {
    changed: Arc<Changed>,
    events: mpsc::Sender<Event>,
}

/// What the prober tells.
pub struct News {
    changed: Arc<Changed>,
    events: mpsc::Receiver<Event>,
}

/// A sink, and what comes out of it.
pub fn news() -> (NewsSink, News) {
    let changed = Arc::<Changed>::default();
    let (sender, events) = mpsc::channel(EVENTS);
    (NewsSink { changed: Arc::clone(&changed), events: sender }, News { changed, events })
}

impl Sink for NewsSink {
    fn changed(&self, pod: &PodUid) {
        self.changed.lock().insert(pod.clone());
        self.changed.any.notify_one();
    }

    fn event(&self, pod: &PodUid, container: &str, kind: EventType, reason: &'static str, message: String) {
        let (pod, container) = (pod.clone(), container.to_owned());
        if self.events.try_send(Event { pod, container, kind, reason, message }).is_err() {
            tracing::debug!(reason, "an event of a probe is dropped: too many at once");
        }
    }
}

/// What is done with the news.
pub trait Follower: Send + Sync + 'static {
    /// Writes down the outcomes of these pods as they are now. May block.
    fn save(&self, pods: &BTreeSet<PodUid>);
    /// The outcomes of this pod have changed.
    fn wake(&self, pod: &PodUid);
    /// An event of a container.
    fn event(&self, pod: &PodUid, container: &str, kind: EventType, reason: &'static str, message: String);
}

/// Passes on what is told until the agent goes down; then writes down what is not yet.
pub async fn follow<F: Follower>(
    News { changed, mut events }: News,
    follower: Arc<F>,
    stop: CancellationToken,
) {
    let (mut unsaved, mut asleep) = (BTreeSet::new(), BTreeSet::new());
    let mut until = Instant::now();
    let mut saving = None::<JoinHandle<()>>;
    loop {
        // Each arm is cancel-safe: the handle and the channel are polled by reference, and what has changed is taken
        // in the poll that ends the wait.
        tokio::select! {
            () = stop.cancelled() => break,
            pods = changed.next() => {
                if asleep.is_empty() {
                    until = Instant::now() + PATIENCE;
                }
                asleep.extend(pods.iter().cloned());
                unsaved.extend(pods);
            }
            Some(Event { pod, container, kind, reason, message }) = events.recv() => {
                follower.event(&pod, &container, kind, reason, message);
            }
            () = done(&mut saving), if saving.is_some() => {
                saving = None;
                // Those that changed meanwhile are written once more.
                asleep.extract_if(.., |pod| !unsaved.contains(pod)).for_each(|pod| follower.wake(&pod));
                until = Instant::now() + PATIENCE;
            }
            () = sleep_until(until), if !asleep.is_empty() => {
                tracing::warn!("probe outcomes are not written down within {PATIENCE:?}: the disk does not answer");
                std::mem::take(&mut asleep).iter().for_each(|pod| follower.wake(pod));
            }
        }
        if saving.is_none() && !unsaved.is_empty() {
            saving = Some(save(&follower, std::mem::take(&mut unsaved)));
        }
    }
    unsaved.append(&mut changed.lock());
    let rest = async {
        done(&mut saving).await;
        if !unsaved.is_empty() {
            done(&mut Some(save(&follower, unsaved))).await;
        }
    };
    // What has not been written by then will be found out anew.
    let _ = timeout(PATIENCE, rest).await;
}

fn save<F: Follower>(follower: &Arc<F>, pods: BTreeSet<PodUid>) -> JoinHandle<()> {
    let follower = Arc::clone(follower);
    tokio::task::spawn_blocking(move || follower.save(&pods))
}

async fn done(saving: &mut Option<JoinHandle<()>>) {
    if let Some(saving) = saving {
        // A panic in it was shown already.
        let _ = saving.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;

    /// Keeps what is done; its disk answers only while it is let.
    #[derive(Default)]
    struct Disk {
        done: Mutex<Vec<String>>,
        something: Notify,
        hangs: Mutex<bool>,
        answers: Condvar,
    }

    impl Disk {
        fn keep(&self, line: String) {
            self.done.lock().unwrap().push(line);
            self.something.notify_one();
        }

        fn hang(&self, hangs: bool) {
            *self.hangs.lock().unwrap() = hangs;
            self.answers.notify_all();
        }

        async fn until(&self, lines: &[&str]) {
            let wait = async {
                while self.done.lock().unwrap().len() < lines.len() {
                    self.something.notified().await;
                }
            };
            let _ = timeout(Duration::from_secs(30), wait).await;
            assert_eq!(std::mem::take(&mut *self.done.lock().unwrap()), lines);
        }
    }

    impl Follower for Disk {
        fn save(&self, pods: &BTreeSet<PodUid>) {
            drop(self.answers.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs).unwrap());
            self.keep(format!("save {}", Vec::from_iter(pods.iter().map(PodUid::as_str)).join(" ")));
        }
        fn wake(&self, pod: &PodUid) {
            self.keep(format!("wake {pod}"));
        }
        fn event(&self, pod: &PodUid, container: &str, _: EventType, reason: &'static str, _: String) {
            self.keep(format!("event {pod} {container} {reason}"));
        }
    }

    #[tokio::test]
    async fn outcomes_are_written_down_before_they_count_and_a_disk_that_hangs_only_delays_them() {
        let (disk, stop) = (Arc::<Disk>::default(), CancellationToken::new());
        let (sink, news) = news();
        let follows = tokio::spawn(follow(news, Arc::clone(&disk), stop.clone()));
        sink.changed(&"a".into());
        disk.until(&["save a", "wake a"]).await;

        disk.hang(true);
        sink.changed(&"a".into());
        disk.until(&["wake a"]).await;
        for pod in ["b", "c", "b"] {
            sink.changed(&pod.into());
        }
        sink.event(&"b".into(), "app", EventType::Warning, "Unhealthy", String::new());
        disk.until(&["event b app Unhealthy", "wake b", "wake c"]).await;
        disk.hang(false);
        disk.until(&["save a", "save b c"]).await;

        disk.hang(true);
        sink.changed(&"a".into());
        disk.until(&["wake a"]).await;
        sink.changed(&"d".into());
        disk.until(&["wake d"]).await;
        stop.cancel();
        disk.hang(false);
        disk.until(&["save a", "save d"]).await;
        follows.await.unwrap();
    }
}
