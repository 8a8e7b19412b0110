//! Getting the images of containers: pull policy, credentials, one pull at a time, a limit on the rate, and back-off
//! after failures, with the reasons, messages and events of the kubelet.
//!
//! Owns the queue and the back-off of all pulls. Must not know the CRI: the runtime stands behind
//! [`ImageService`]. Rules: upstream `pkg/kubelet/images`.

mod backoff;
pub mod credentials;
mod error;
mod name;
mod policy;
mod queue;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use kube_model::PodUid;
use kube_model::core::Pod;
use kube_model::duration::GoDuration;
use kube_model::view::EventType;
use tokio::time::Instant;

pub use error::{ImageError, PullSecretError, Reason, ServiceError};
pub use name::{InvalidName, with_default_tag};
pub use policy::PullPolicy;

use backoff::Backoff;
use credentials::{Credential, Keyring};
use queue::{Pulled, Queue};

/// The part of the runtime that knows images, and who knows credentials.
pub trait ImageService: Send + Sync {
    /// The image if it is on the node.
    fn image_status(
        &self,
        image: &str,
    ) -> impl Future<Output = Result<Option<ImageInfo>, ServiceError>> + Send;

    /// Fetches the image for a pod; answers with a reference that `image_status` knows.
    fn pull_image(
        &self,
        image: &str,
        pod: &Pod,
        credential: Option<&Credential>,
    ) -> impl Future<Output = Result<String, ServiceError>> + Send;

    /// One of the pod's `imagePullSecrets`, asked for when there is something to pull.
    fn pull_secret(
        &self,
        pod: &Pod,
        name: &str,
    ) -> impl Future<Output = Result<Keyring, PullSecretError>> + Send;

    /// An image of this many bytes was pulled for a pod, which took so long including waiting. Nobody need care.
    fn pulled(&self, _pod: &Pod, _size: u64, _took: Duration) {}

    /// The credentials of the node itself, good for every pod; none by default.
    fn node_keyring(&self) -> impl Future<Output = Keyring> + Send {
        std::future::ready(Keyring::default())
    }
}

/// An image on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// The runtime's ID: what a container is created from.
    pub id: String,
    /// Size in bytes.
    pub size: u64,
    /// Whom its processes run as unless the pod says otherwise.
    pub user: ImageUser,
}

/// User of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// A number; 0 when the image names none.
    Uid(i64),
    /// A name: only the image itself knows which number it has.
    Name(String),
}

/// Something to tell the owner of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEvent {
    /// Normal or warning.
    pub kind: EventType,
    /// `Pulling`, `Pulled`, `Failed`, `BackOff`, `InspectFailed`, `ErrImageNeverPull` or
    /// `FailedToRetrieveImagePullSecret`.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// How images are pulled.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `serializeImagePulls`: one at a time; true by default.
    pub serialize_image_pulls: bool,
    /// `maxParallelImagePulls`: how many at a time when not serialized; `None`, the default, for no limit.
    pub max_parallel_image_pulls: Option<usize>,
    /// `registryPullQPS`: pulls a second over time; 5 by default, 0 for no limit. What is above it fails.
    pub registry_pull_qps: u32,
    /// `registryBurst`: pulls at once before that limit holds; 10 by default.
    pub registry_burst: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            registry_pull_qps: 5,
            registry_burst: 10,
        }
    }
}

/// Gets images for the containers of all pods. See the README for an example.
#[derive(Debug)]
pub struct Images<S> {
    service: S,
    queue: Queue,
    /// By pod, then by image as the pod names it.
    backoff: Mutex<BTreeMap<PodUid, BTreeMap<String, Backoff>>>,
}

impl<S: ImageService> Images<S> {
    /// With nothing pulled and nothing failed yet.
    pub fn new(service: S, settings: &Settings) -> Self {
        Self { service, queue: Queue::new(settings), backoff: Mutex::default() }
    }

    /// Makes sure that the image is on the node, as the policy says, and tells what there is.
    ///
    /// `on_event` hears of each step. Pods that ask for one image with the same credentials at the same time share
    /// one pull. Dropping the future gives its place in the queue to the next.
    ///
    /// # Errors
    /// The waiting reason and message of the container; [`ImageError::retry_after`] says how long asking again
    /// is answered with [`Reason::ImagePullBackOff`].
    pub async fn ensure(
        &self,
        pod: &Pod,
        image: &str,
        policy: PullPolicy,
        on_event: &(dyn Fn(ImageEvent) + Send + Sync),
    ) -> Result<ImageInfo, ImageError> {
        let ask = Ask { pod, image, on_event };
        let result = self.get(&ask, policy).await;
        if let Err(error) = &result {
            // The kubelet says it twice: what went wrong, and that the container does not start for it.
            ask.tell(EventType::Warning, "Failed", format!("Error: {}", error.reason.as_str()));
        }
        result
    }

    /// Forgets the back-off of a pod that is gone.
    pub fn forget(&self, pod: &PodUid) {
        self.backoff().remove(pod);
    }

    /// What a pod is pulled with has changed: the next attempt need not wait. One that fails waits as long as it would have.
    pub fn retry(&self, pod: &PodUid) {
        self.backoff().get_mut(pod).into_iter().flat_map(BTreeMap::values_mut).for_each(Backoff::retry);
    }

    async fn get(&self, ask: &Ask<'_>, policy: PullPolicy) -> Result<ImageInfo, ImageError> {
        let image = ask.image;
        let full = with_default_tag(image).map_err(|e| {
            let message = format!("Failed to apply default image tag {image:?}: {e}");
            ask.refuse("InspectFailed", Reason::InvalidImageName, message)
        })?;
        if policy != PullPolicy::Always {
            if let Some(info) = self.inspect(ask, &full).await? {
                let message = format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                );
                ask.tell(EventType::Normal, "Pulled", message);
                return Ok(info);
            }
            if policy == PullPolicy::Never {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                return Err(ask.refuse("ErrImageNeverPull", Reason::ErrImageNeverPull, message));
            }
        }
        self.pull(ask, &full).await
    }

    async fn inspect(&self, ask: &Ask<'_>, reference: &str) -> Result<Option<ImageInfo>, ImageError> {
        self.service.image_status(reference).await.map_err(|e| {
            let message = format!("Failed to inspect image {:?}: {e}", ask.image);
            ask.refuse("InspectFailed", Reason::ImageInspectError, message)
        })
    }

    async fn pull(&self, ask: &Ask<'_>, full: &str) -> Result<ImageInfo, ImageError> {
        let Ask { pod, image, .. } = *ask;
        let (uid, _) = kube_model::pod::identity(pod);
        if let Some(error) = self.in_backoff(&uid, image) {
            ask.tell(EventType::Normal, "BackOff", format!("Back-off pulling image {image:?}"));
            return Err(error);
        }
        let credentials = self.credentials(ask, full).await;
        ask.tell(EventType::Normal, "Pulling", format!("Pulling image {image:?}"));
        let asked = Instant::now();
        let pulled = self.queue.pull(&self.service, full, pod, credentials).await;
        let waited = asked.elapsed();
        match pulled {
            Ok(Pulled { reference, took }) => {
                self.succeeded(&uid, image);
                let info = self.inspect(ask, &reference).await?.ok_or_else(|| {
                    let message = format!("Failed to inspect image {image:?}: gone after it was pulled");
                    ask.refuse("InspectFailed", Reason::ImageInspectError, message)
                })?;
                self.service.pulled(pod, info.size, waited);
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {} bytes.",
                    go_millis(took),
                    go_millis(waited),
                    info.size
                );
                ask.tell(EventType::Normal, "Pulled", message);
                Ok(info)
            }
            Err(failure) => {
                let message = format!("Failed to pull image {image:?}: {failure}");
                ask.tell(EventType::Warning, "Failed", message);
                let mut error = ImageError::from_pull(image, &failure);
                let mut backoff = self.backoff();
                let entry = backoff.entry(uid).or_default().entry(image.to_owned()).or_default();
                error.retry_after = Some(entry.failed(Instant::now(), &error));
                Err(error)
            }
        }
    }

    /// What may open the image's registry: the pod's own first, then the node's. A secret that cannot be had is
    /// told, and the pull goes on without.
    async fn credentials(&self, ask: &Ask<'_>, full: &str) -> Vec<Credential> {
        const GOES_ON: &str = "attempting to pull the image may not succeed.";
        let secrets = ask.pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        // The API lets entries without a name through.
        let names: Vec<&str> = secrets.map(|secret| secret.name.as_str()).filter(|n| !n.is_empty()).collect();
        let answers = join_all(names.iter().map(|name| self.service.pull_secret(ask.pod, name))).await;
        let (mut of_pod, mut missing) = (Keyring::default(), Vec::new());
        for (name, answer) in names.into_iter().zip(answers) {
            match answer {
                Ok(keyring) => of_pod.append(keyring),
                Err(PullSecretError::Missing) => missing.push(name),
                Err(PullSecretError::Invalid(why)) => {
                    let message = format!("Unable to use image pull secret {name}: {why}; {GOES_ON}");
                    ask.tell(EventType::Warning, "FailedToRetrieveImagePullSecret", message);
                }
            }
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            let message = format!("Unable to retrieve some image pull secrets ({missing}); {GOES_ON}");
            ask.tell(EventType::Warning, "FailedToRetrieveImagePullSecret", message);
        }
        let mut credentials = of_pod.lookup(full);
        credentials.extend(self.service.node_keyring().await.lookup(full));
        credentials
    }

    fn in_backoff(&self, uid: &PodUid, image: &str) -> Option<ImageError> {
        let backoff = self.backoff();
        let entry = backoff.get(uid)?.get(image)?;
        let left = entry.left(Instant::now())?;
        let message = format!("Back-off pulling image {image:?}: {}", entry.last_failure());
        Some(ImageError { reason: Reason::ImagePullBackOff, message, retry_after: Some(left) })
    }

    fn succeeded(&self, uid: &PodUid, image: &str) {
        let mut backoff = self.backoff();
        if let Some(images) = backoff.get_mut(uid) {
            images.remove(image);
            if images.is_empty() {
                backoff.remove(uid);
            }
        }
    }

    fn backoff(&self) -> MutexGuard<'_, BTreeMap<PodUid, BTreeMap<String, Backoff>>> {
        // Each change is one step, so a panic elsewhere leaves the map whole.
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call of [`Images::ensure`].
struct Ask<'a> {
    pod: &'a Pod,
    image: &'a str,
    on_event: &'a (dyn Fn(ImageEvent) + Send + Sync),
}

impl Ask<'_> {
    fn tell(&self, kind: EventType, reason: &'static str, message: String) {
        (self.on_event)(ImageEvent { kind, reason, message });
    }

    fn refuse(&self, event: &'static str, reason: Reason, message: String) -> ImageError {
        self.tell(EventType::Warning, event, message.clone());
        ImageError { reason, message, retry_after: None }
    }
}

/// As Go prints a duration cut to milliseconds.
fn go_millis(duration: Duration) -> GoDuration {
    GoDuration::from_nanos(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
