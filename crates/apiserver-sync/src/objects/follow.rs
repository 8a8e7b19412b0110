//! One object kept up to date: read, then watched from there.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use kube::core::Status;
use kube::runtime::watcher::DefaultBackoff;
use kube::{Client, Error as KubeError};
use kube_model::hash::Fnv128a;
use kube_model::objects::{Key, Object};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::object::Received;
use super::read::{Failure, Freshness, error_of, read, request};
use super::{Changes, Error, Known};
use crate::retry_after::retry_after;

/// How long a watch lasts before it is begun anew, in seconds: between the two, so that those that began
/// together do not end together.
const WATCH_SECONDS: (u32, u32) = (200, 290);

/// What may pass between the end of a watch and our hearing of it.
const MARGIN: Duration = Duration::from_secs(5);

/// Starts to follow the object.
pub(super) fn start(
    client: Client,
    key: Key,
    changes: Changes,
) -> (watch::Receiver<Known>, AbortOnDropHandle<()>) {
    let (publish, known) = watch::channel(None);
    let follower = Follower { client, key, publish, changes };
    (known, AbortOnDropHandle::new(tokio::spawn(follower.run())))
}

/// A watch that ended sooner and without news counts as a failure, and so does a version that is gone again so soon
/// after the object was read anew because of that.
const SHORT: Duration = Duration::from_secs(1);

struct Follower {
    client: Client,
    key: Key,
    publish: watch::Sender<Known>,
    changes: Changes,
}

/// How a step ended.
enum End {
    /// The object is known and can not change.
    Immutable,
    /// To be watched from this version on; empty: from the present on.
    At(String),
}

/// What went wrong, and is tried again.
enum Lost {
    /// The version is too old to be watched from.
    Expired,
    /// Anything else; it was told if it concerns those who ask for the object. The server wants to be left alone for
    /// so long.
    Failed(Duration),
}

impl Follower {
    async fn run(self) {
        let mut backoff = DefaultBackoff::default();
        let mut at: Option<String> = None;
        let mut read_anew: Option<Instant> = None;
        loop {
            let step = match &at {
                None => self.read().await,
                Some(version) => self.watch(version).await,
            };
            match step {
                Ok(End::Immutable) => return,
                Ok(End::At(version)) => at = Some(version),
                Err(Lost::Expired)
                    if at.is_some() && read_anew.is_none_or(|before| before.elapsed() > SHORT) =>
                {
                    (at, read_anew) = (None, Some(Instant::now()));
                }
                Err(lost) => {
                    at = None;
                    let least = if let Lost::Failed(least) = lost { least } else { Duration::ZERO };
                    sleep(backoff.next().unwrap_or(MARGIN).max(least)).await;
                }
            }
        }
    }

    async fn read(&self) -> Result<End, Lost> {
        match read(&self.client, &self.key, Freshness::Latest).await {
            Ok((object, version)) => Ok(self.take(object, version)),
            Err(Failure::NotFound) => {
                self.tell(Err(Error::NotFound(self.key.clone())));
                Ok(End::At(String::new()))
            }
            Err(Failure::Kube(error)) => Err(self.fail(&error)),
            Err(Failure::Odd(message)) => Err(self.unavailable(message)),
        }
    }

    async fn watch(&self, from: &str) -> Result<End, Lost> {
        let seconds = self.seconds();
        let name = &self.key.name;
        let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(seconds);
        let request = request(&self.key).watch(&params, from);
        let request = request.map_err(|error| self.fail(&KubeError::BuildRequest(error)))?;
        let events = self.client.request_events::<Received>(request).await;
        let mut events = pin!(events.map_err(|error| self.fail(&error))?);
        let (mut at, begun) = (from.to_owned(), Instant::now());
        loop {
            let event = timeout(Duration::from_secs(seconds.into()) + MARGIN, events.try_next()).await;
            match event {
                Ok(Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    match self.receive(object)? {
                        End::At(version) => at = version,
                        End::Immutable => return Ok(End::Immutable),
                    }
                }
                Ok(Ok(Some(WatchEvent::Deleted(object)))) => {
                    self.tell(Err(Error::NotFound(self.key.clone())));
                    object.resource_version().clone_into(&mut at);
                }
                Ok(Ok(Some(WatchEvent::Bookmark(bookmark)))) => at = bookmark.metadata.resource_version,
                Ok(Ok(Some(WatchEvent::Error(status)))) => return Err(self.fail(&KubeError::Api(status))),
                // The line may hold a value.
                Ok(Err(KubeError::SerdeError(_))) => {
                    return Err(self.unavailable("an event of its watch can not be decoded".to_owned()));
                }
                Ok(Err(error)) => return Err(self.fail(&error)),
                // Ended as soon as it began: again and again would be too fast.
                Ok(Ok(None)) if at == from && begun.elapsed() < SHORT => {
                    return Err(Lost::Failed(Duration::ZERO));
                }
                // It ended, or died without a word.
                Ok(Ok(None)) | Err(_) => return Ok(End::At(at)),
            }
        }
    }

    fn receive(&self, received: Received) -> Result<End, Lost> {
        let version = received.resource_version().to_owned();
        let object = received.into_object(self.key.kind).map_err(|message| self.unavailable(message))?;
        Ok(self.take(object, version))
    }

    fn take(&self, object: Object, version: String) -> End {
        let immutable = object.immutable;
        self.tell(Ok(object));
        if immutable { End::Immutable } else { End::At(version) }
    }

    fn fail(&self, error: &KubeError) -> Lost {
        match error {
            KubeError::Api(status) if expired(status) => Lost::Expired,
            KubeError::Api(status) if status.code == 403 => self.lost(error_of(&self.key, error)),
            error => {
                self.lost(error_of(&self.key, error));
                Lost::Failed(retry_after(error))
            }
        }
    }

    fn unavailable(&self, message: String) -> Lost {
        self.lost(Error::Unavailable { key: self.key.clone(), message })
    }

    /// Told only if nothing better is known. Even a refusal may be the server's trouble: one that was only just
    /// started does not know yet which pods are the node's.
    fn lost(&self, error: Error) -> Lost {
        tracing::debug!("{}", util::causes(&error));
        if !matches!(*self.publish.borrow(), Some(Ok(_))) {
            self.tell(Err(error));
        }
        Lost::Failed(Duration::ZERO)
    }

    /// What says the same stays the object that it is.
    fn tell(&self, found: Result<Object, Error>) {
        let published = self.publish.send_if_modified(|known| {
            let is_same = match (&*known, &found) {
                (Some(Ok(known)), Ok(found)) => **known == *found,
                (Some(Err(known)), Err(found)) => known == found,
                _ => false,
            };
            if !is_same {
                *known = Some(found.map(Arc::new));
            }
            !is_same
        });
        if published {
            self.changes.note(&self.key);
        }
    }

    fn seconds(&self) -> u32 {
        let (least, most) = WATCH_SECONDS;
        let mut hash = Fnv128a::default();
        hash.write(self.key.to_string().as_bytes());
        let spread =
            hash.hex().bytes().fold(0u32, |sum, digit| sum.wrapping_mul(31).wrapping_add(digit.into()));
        least + spread % (most - least)
    }
}

fn expired(status: &Status) -> bool {
    status.code == 410
}
