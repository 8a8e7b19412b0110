//! One object that is asked for when somebody wants it, instead of being watched.
//! Rules: upstream `pkg/kubelet/util/manager/cache_based_manager.go`; `simpleConfigMapManager` of
//! `pkg/kubelet/configmap/configmap_manager.go`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use kube_model::core::Node;
use kube_model::objects::{Key, Object};
use tokio::sync::watch;
use tokio::time::Instant;

use super::read::{Failure, Freshness, error_of, read};
use super::{Changes, Error};

/// How long an object counts as new where the node does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// Where the cluster says it, in seconds: larger clusters want to be asked less often.
const TTL_ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// What an answer is good for.
#[derive(Debug, Clone)]
pub(super) enum Keep {
    /// It is given to all who ask until it is so old; by the annotation of this node.
    For(watch::Receiver<Option<Arc<Node>>>),
    /// Only to see whether the next one is another.
    Not,
}

impl Keep {
    fn ttl(&self) -> Option<Duration> {
        let Self::For(node) = self else { return None };
        let node = node.borrow();
        let annotations = node.as_ref().and_then(|node| node.metadata.annotations.as_ref());
        let said = annotations.and_then(|all| all.get(TTL_ANNOTATION)?.parse().ok());
        Some(said.map_or(DEFAULT_TTL, Duration::from_secs))
    }
}

pub(super) struct Asked {
    client: Client,
    key: Key,
    keep: Keep,
    changes: Changes,
    last: Mutex<Last>,
    /// Whoever asks, one request at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Last {
    known: Option<Result<Arc<Object>, Error>>,
    version: String,
    /// `None`: not yet, or a pod came that may need what is newer.
    read_at: Option<Instant>,
}

impl Asked {
    pub(super) fn new(client: Client, key: Key, keep: Keep, changes: Changes) -> Self {
        Self { client, key, keep, changes, last: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The next who asks gets what is new.
    pub(super) fn invalidate(&self) {
        self.last().read_at = None;
    }

    pub(super) async fn get(&self) -> Result<Arc<Object>, Error> {
        let _turn = self.turn.lock().await;
        let freshness = {
            let last = self.last();
            if let Some(Ok(object)) = &last.known
                && let Some(ttl) = self.keep.ttl()
                && let Some(read_at) = last.read_at
            {
                if object.immutable || read_at.elapsed() < ttl {
                    return Ok(Arc::clone(object));
                }
                Freshness::AtHand
            } else {
                Freshness::Latest
            }
        };
        let answer = read(&self.client, &self.key, freshness).await;
        let mut last = self.last();
        let error = match answer {
            Ok((object, version)) => {
                if !is_older(&version, &last.version) {
                    self.take(&mut last, Ok(object));
                    last.version = version;
                }
                return last.known.clone().unwrap_or_else(|| Err(Error::NotFound(self.key.clone())));
            }
            Err(Failure::NotFound) => {
                last.version.clear();
                let error = Error::NotFound(self.key.clone());
                self.take(&mut last, Err(error.clone()));
                return Err(error);
            }
            Err(Failure::Kube(error)) => error_of(&self.key, &error),
            Err(Failure::Odd(message)) => Error::Unavailable { key: self.key.clone(), message },
        };
        tracing::debug!("{}", util::causes(&error));
        self.old(&last).ok_or(error)
    }

    /// What is known from before, which is better than nothing.
    pub(super) fn kept(&self) -> Option<Arc<Object>> {
        self.old(&self.last())
    }

    fn old(&self, last: &Last) -> Option<Arc<Object>> {
        match (&self.keep, &last.known) {
            (Keep::For(_), Some(Ok(object))) => Some(Arc::clone(object)),
            _ => None,
        }
    }

    /// Takes in what is there now; one that says the same stays the one that it is.
    fn take(&self, last: &mut Last, found: Result<Object, Error>) {
        last.read_at = Some(Instant::now());
        let is_same = match (&last.known, &found) {
            (Some(Ok(known)), Ok(found)) => **known == *found,
            (Some(Err(known)), Err(found)) => known == found,
            _ => false,
        };
        if !is_same {
            last.known = Some(found.map(Arc::new));
            self.changes.note(&self.key);
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions are numbers wherever etcd counts them.
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}
