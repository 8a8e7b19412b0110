//! Who may pull when: how many at once, the limit on the rate, and one pull for all who want the same image.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_model::core::Pod;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use util::TokenBucket;

use crate::credentials::Credential;
use crate::{ImageService, ServiceError, Settings};

/// A pull that succeeded.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    /// What the runtime calls it now.
    pub(crate) reference: String,
    /// Time of the pull itself.
    pub(crate) took: Duration,
}

type Outcome = Result<Pulled, ServiceError>;

/// What one pull is shared for: the image, and what opens its registry. A pod whose credentials are wrong must not
/// fail another's pull, nor be served by it.
type Key = (String, Vec<Credential>);

/// The last pull of an image and when it ended; its lock is held by the one who pulls.
type Shared = Arc<tokio::sync::Mutex<Option<(Instant, Outcome)>>>;

#[derive(Debug)]
pub(crate) struct Queue {
    /// First come, first served; `None` for any number at a time.
    permits: Option<Semaphore>,
    rate: Option<Mutex<Bucket>>,
    /// Images that somebody pulls or waits for.
    wanted: Mutex<BTreeMap<Key, Shared>>,
}

impl Queue {
    pub(crate) fn new(settings: &Settings) -> Self {
        let permits = match settings.serialize_image_pulls {
            true => Some(1),
            false => settings.max_parallel_image_pulls,
        };
        let rate = (settings.registry_pull_qps > 0).then(|| {
            Mutex::new(Bucket::new(settings.registry_pull_qps.into(), settings.registry_burst.into()))
        });
        Self { permits: permits.map(Semaphore::new), rate, wanted: Mutex::default() }
    }

    /// Pulls the image, or waits for one who does; a pull that ends after we asked counts for us too, failed or
    /// not. When the one who pulls goes away, the next takes over.
    pub(crate) async fn pull(
        &self,
        service: &impl ImageService,
        image: &str,
        pod: &Pod,
        credentials: Vec<Credential>,
    ) -> Outcome {
        let asked = Instant::now();
        let wanted = Wanted::new(self, (image.to_owned(), credentials));
        let mut last = wanted.shared.lock().await;
        if let Some((_, outcome)) = last.as_ref().filter(|(ended, _)| *ended >= asked) {
            return outcome.clone();
        }
        let _permit = match &self.permits {
            // Never closed, so there is always a place in the end.
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        let outcome = if self.within_rate() {
            let started = Instant::now();
            let pulled = try_each(service, image, pod, &wanted.key.1).await;
            pulled.map(|reference| Pulled { reference, took: started.elapsed() })
        } else {
            Err(ServiceError("pull QPS exceeded".to_owned()))
        };
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    fn within_rate(&self) -> bool {
        self.rate
            .as_ref()
            .is_none_or(|rate| rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()))
    }

    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted().is_empty() && self.permits.as_ref().is_none_or(|p| p.available_permits() > 0)
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<Key, Shared>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With each credential in turn until one works; without any, as nobody.
async fn try_each(
    service: &impl ImageService,
    image: &str,
    pod: &Pod,
    credentials: &[Credential],
) -> Result<String, ServiceError> {
    if credentials.is_empty() {
        return service.pull_image(image, pod, None).await;
    }
    let mut failures = Vec::new();
    for credential in credentials {
        match service.pull_image(image, pod, Some(credential)).await {
            Ok(reference) => return Ok(reference),
            Err(ServiceError(failure)) if failures.contains(&failure) => {}
            Err(ServiceError(failure)) => failures.push(failure),
        }
    }
    // As Go prints several errors.
    Err(ServiceError(match failures.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }))
}

/// Keeps the entry of an image as long as somebody wants it, also when futures are dropped.
struct Wanted<'a> {
    queue: &'a Queue,
    key: Key,
    shared: Shared,
}

impl<'a> Wanted<'a> {
    fn new(queue: &'a Queue, key: Key) -> Self {
        let shared = queue.wanted().entry(key.clone()).or_default().clone();
        Self { queue, key, shared }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut wanted = self.queue.wanted();
        // The map's own and ours; new ones come only from the map, which we hold.
        if Arc::strong_count(&self.shared) <= 2 {
            wanted.remove(&self.key);
        }
    }
}

/// Tokens, and when they were last counted.
#[derive(Debug)]
struct Bucket {
    tokens: TokenBucket,
    at: Instant,
}

impl Bucket {
    fn new(per_second: f64, burst: f64) -> Self {
        Self { tokens: TokenBucket::new(per_second, burst), at: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        self.tokens = self.tokens.after(now.duration_since(self.at));
        self.at = now;
        self.tokens.take()
    }
}
