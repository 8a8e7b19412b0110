//! The ConfigMaps and Secrets that pods refer to: each followed by its name as long as a pod needs it.
//!
//! A watch of one object is all that the Node authorizer allows, and asks for an answer only when something
//! changes; the other two ways of [`Strategy`] are there for servers that cannot keep so many. Rule: upstream `pkg/kubelet/util/manager/watch_based_manager.go`. Unlike there an object that can
//! not be had says why at once (not found, forbidden) instead of by a timeout.
//!
//! kube's own watcher is not used: it logs what it can not decode, and this may be a Secret.

mod ask;
mod changes;
mod follow;
mod object;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use kube::Client;
use kube_model::core::{Node, Pod};
use kube_model::{PodUid, pod, syntax};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use ask::{Asked, Keep};
pub use changes::Changes;
pub use kube_model::objects::{Key, Kind, Object, references};

/// How long [`Objects::get`] waits for the server's first answer.
pub const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// `configMapAndSecretChangeDetectionStrategy`: how one hears that an object changed.
#[derive(Debug, Clone, Default)]
pub enum Strategy {
    /// Each object is watched: a change is known when it is made.
    #[default]
    Watch,
    /// An object is read when somebody asks for it and it was not read for a while, or not since a pod came that
    /// refers to it; all are asked for once in `refresh`.
    Cache {
        /// This node: its annotation `node.alpha.kubernetes.io/ttl` says how many seconds a while is, else a minute.
        node: watch::Receiver<Option<Arc<Node>>>,
        /// `syncFrequency`.
        refresh: Duration,
    },
    /// An object is read whenever somebody asks for it; all are asked for once in `refresh`.
    Get {
        /// `syncFrequency`.
        refresh: Duration,
    },
}

impl Strategy {
    /// What becomes of answers, and how often all objects are read; `None`: they are watched.
    fn asks(&self) -> Option<(Keep, Duration)> {
        match self {
            Self::Watch => None,
            Self::Cache { node, refresh } => Some((Keep::For(node.clone()), *refresh)),
            Self::Get { refresh } => Some((Keep::Not, *refresh)),
        }
    }
}

/// Why an object can not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none of that name.
    #[error("{0} not found")]
    NotFound(Key),
    /// The server does not let this node see it, perhaps because it has not heard yet of the pod that refers to
    /// it.
    #[error("{key} is forbidden: {message}")]
    Forbidden {
        /// Which.
        key: Key,
        /// In the server's words.
        message: String,
    },
    /// The name can not be the name of an object.
    #[error("{key} can not exist: {why}")]
    BadName {
        /// Which.
        key: Key,
        /// The complaint about the name.
        why: String,
    },
    /// No pod that refers to it is registered.
    #[error("{0} is not referred to by any pod of this node")]
    NotRegistered(Key),
    /// The server could not be asked, or its answer not be used.
    #[error("{key} can not be read: {message}")]
    Unavailable {
        /// Which.
        key: Key,
        /// Why, without anything of the object.
        message: String,
    },
    /// The server has not answered yet.
    #[error("{0} was not read within {1:?}")]
    Timeout(Key, Duration),
}

/// What is known of an object: `None` until the server has answered.
type Known = Option<Result<Arc<Object>, Error>>;

/// The objects of all pods of the node. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    strategy: Strategy,
    changes: Changes,
    inner: Arc<Mutex<Inner>>,
    /// Reads all again from time to time, where they are not watched.
    _refreshing: Option<Arc<AbortOnDropHandle<()>>>,
}

#[derive(Default)]
struct Inner {
    pods: BTreeMap<PodUid, BTreeSet<Key>>,
    objects: BTreeMap<Key, Entry>,
}

struct Entry {
    /// How many pods refer to it.
    users: usize,
    source: Source,
}

/// Where one object comes from.
enum Source {
    Followed {
        known: watch::Receiver<Known>,
        _following: AbortOnDropHandle<()>,
    },
    Asked(Arc<Asked>),
    /// Its name would be another path.
    None(Error),
}

/// Names only.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.inner().objects.keys()).finish()
    }
}

impl Objects {
    /// Nothing is asked for yet.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(client: Client, strategy: Strategy) -> Self {
        let inner = Arc::<Mutex<Inner>>::default();
        let refreshing = strategy.asks().map(|(_, period)| {
            let task = refresh(Arc::downgrade(&inner), period);
            Arc::new(AbortOnDropHandle::new(tokio::spawn(task)))
        });
        Self { client, strategy, changes: Changes::default(), inner, _refreshing: refreshing }
    }

    /// Which objects came, went or changed; also those that were read for the first time.
    pub fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// Follows what `pod` refers to, until [`Self::unregister`]. To be called again when the pod was changed, or its
    /// status at the server: one that has ended there starts nothing any more and needs nothing (upstream
    /// `pkg/kubelet/kubelet_pods.go`).
    ///
    /// Must be called within a tokio runtime.
    pub fn register(&self, pod: &Pod) {
        let (uid, _) = pod::identity(pod);
        let wanted =
            if pod.status.as_ref().is_some_and(pod::has_ended) { BTreeSet::new() } else { references(pod) };
        let mut inner = self.inner();
        // What is new first: an object that stays is never without a user.
        for key in &wanted {
            let of_this_pod = inner.pods.get(&uid).is_some_and(|keys| keys.contains(key));
            if !of_this_pod {
                let entry = inner.objects.entry(key.clone());
                let entry = entry.or_insert_with(|| Entry { users: 0, source: self.source(key) });
                entry.users += 1;
                if let Source::Asked(asked) = &entry.source {
                    asked.invalidate();
                }
            }
        }
        let before = inner.pods.insert(uid, wanted.clone()).unwrap_or_default();
        inner.release(before.difference(&wanted));
    }

    /// The pod is gone: what no other pod refers to is forgotten.
    pub fn unregister(&self, uid: &PodUid) {
        let mut inner = self.inner();
        let keys = inner.pods.remove(uid).unwrap_or_default();
        inner.release(&keys);
    }

    /// The pods that refer to any of the objects.
    pub fn users(&self, keys: &BTreeSet<Key>) -> Vec<PodUid> {
        let inner = self.inner();
        let users = inner.pods.iter().filter(|(_, of_pod)| !of_pod.is_disjoint(keys));
        users.map(|(uid, _)| uid.clone()).collect()
    }

    /// The object as the server last told it; waits for the first answer up to [`FIRST_ANSWER`].
    ///
    /// # Errors
    /// The reason why there is none. While the server can not be reached, an object that was read before is
    /// given as it was.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Arc<Object>, Error> {
        let key = Key { kind, namespace: namespace.into(), name: name.into() };
        let source = match self.inner().objects.get(&key).map(|entry| &entry.source) {
            Some(Source::Followed { known, .. }) => Ok(known.clone()),
            Some(Source::Asked(asked)) => Err(Arc::clone(asked)),
            Some(Source::None(error)) => return Err(error.clone()),
            None => return Err(Error::NotRegistered(key)),
        };
        let late = Error::Timeout(key.clone(), FIRST_ANSWER);
        match source {
            Ok(mut known) => {
                match tokio::time::timeout(FIRST_ANSWER, known.wait_for(Option::is_some)).await {
                    Ok(Ok(answer)) => answer.clone().unwrap_or(Err(Error::NotRegistered(key))),
                    // The last pod went away while we waited.
                    Ok(Err(_)) => Err(Error::NotRegistered(key)),
                    Err(_) => Err(late),
                }
            }
            Err(asked) => match tokio::time::timeout(FIRST_ANSWER, asked.get()).await {
                Ok(answer) => answer,
                Err(_) => asked.kept().ok_or(late),
            },
        }
    }

    fn source(&self, key: &Key) -> Source {
        let bad = syntax::dns_subdomain(&key.name).or_else(|| syntax::dns_label(&key.namespace));
        if let Some(why) = bad {
            return Source::None(Error::BadName { key: key.clone(), why });
        }
        let (client, changes) = (self.client.clone(), self.changes.clone());
        match self.strategy.asks() {
            None => {
                let (known, following) = follow::start(client, key.clone(), changes);
                Source::Followed { known, _following: following }
            }
            Some((keep, _)) => Source::Asked(Arc::new(Asked::new(client, key.clone(), keep, changes))),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn release<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>) {
        for key in keys {
            if let Some(entry) = self.objects.get_mut(key) {
                entry.users -= 1;
                if entry.users == 0 {
                    self.objects.remove(key);
                }
            }
        }
    }
}

/// Asks for all objects from time to time, so that their changes are heard of; one by one, not to be a burden.
async fn refresh(objects: Weak<Mutex<Inner>>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(inner) = objects.upgrade() else { return };
        let asked: Vec<_> = {
            let inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = inner.objects.values().filter_map(|entry| match &entry.source {
                Source::Asked(asked) => Some(Arc::clone(asked)),
                Source::Followed { .. } | Source::None(_) => None,
            });
            asked.collect()
        };
        drop(inner);
        for one in asked {
            // What it says goes to whoever hears of changes; an error is told to those who ask.
            let _ = tokio::time::timeout(FIRST_ANSWER, one.get()).await;
        }
    }
}
