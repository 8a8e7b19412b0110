//! The ConfigMaps and Secrets that pods refer to: each watched by its name as long as a pod needs it.
//!
//! A watch of one object is all that the Node authorizer allows, and asks for an answer only when something
//! changes. Rule: upstream `pkg/kubelet/util/manager/watch_based_manager.go`. Unlike there an object that can
//! not be had says why at once (not found, forbidden) instead of by a timeout.
//!
//! kube's own watcher is not used: it logs what it can not decode, and this may be a Secret.

mod follow;
mod object;
mod references;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use kube_model::core::Pod;
use kube_model::{PodUid, pod};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub use object::Object;
pub use references::references;

/// How long [`Objects::get`] waits for the server's first answer.
pub const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// The two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `configmaps`
    ConfigMap,
    /// `secrets`
    Secret,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }
}

/// As the API server names them in its answers.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        })
    }
}

/// One object, shown as `secret "shop/password"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// ConfigMap or Secret.
    pub kind: Kind,
    /// That of the pod.
    pub namespace: Arc<str>,
    /// As the pod refers to it.
    pub name: Arc<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}/{}\"", self.kind, self.namespace, self.name)
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
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    pods: BTreeMap<PodUid, BTreeSet<Key>>,
    watched: BTreeMap<Key, Watched>,
}

struct Watched {
    /// How many pods refer to it.
    users: usize,
    known: watch::Receiver<Known>,
    /// `None`: the name can not be asked for.
    _following: Option<AbortOnDropHandle<()>>,
}

/// Names only.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.inner().watched.keys()).finish()
    }
}

impl Objects {
    /// Nothing is watched yet.
    pub fn new(client: Client) -> Self {
        Self { client, inner: Arc::default() }
    }

    /// Watches what `pod` refers to, until [`Self::unregister`]. To be called again when the pod was changed, or its
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
                let entry = inner.watched.entry(key.clone());
                entry.or_insert_with(|| follow::start(&self.client, key)).users += 1;
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

    /// The object as the server last told it; waits for the first answer up to [`FIRST_ANSWER`].
    ///
    /// # Errors
    /// The reason why there is none. While the server can not be reached, an object that was read before is
    /// given as it was.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Arc<Object>, Error> {
        let key = Key { kind, namespace: namespace.into(), name: name.into() };
        let known = self.inner().watched.get(&key).map(|watched| watched.known.clone());
        let Some(mut known) = known else { return Err(Error::NotRegistered(key)) };
        let answer = tokio::time::timeout(FIRST_ANSWER, known.wait_for(Option::is_some)).await;
        match answer {
            Ok(Ok(answer)) => answer.clone().unwrap_or(Err(Error::NotRegistered(key))),
            // The last pod went away while we waited.
            Ok(Err(_)) => Err(Error::NotRegistered(key)),
            Err(_) => Err(Error::Timeout(key, FIRST_ANSWER)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn release<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>) {
        for key in keys {
            if let Some(watched) = self.watched.get_mut(key) {
                watched.users -= 1;
                if watched.users == 0 {
                    self.watched.remove(key);
                }
            }
        }
    }
}
