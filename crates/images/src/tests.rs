//! Against a scripted runtime, with the clock under control.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::json;

use super::*;

/// A runtime whose pulls take a second each and end as scripted; without a script they succeed.
#[derive(Default)]
struct Runtime {
    present: Mutex<BTreeSet<String>>,
    script: Mutex<VecDeque<&'static str>>,
    pulls: Mutex<Vec<String>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    broken: Option<&'static str>,
    /// By name: a `.dockercfg`.
    secrets: BTreeMap<&'static str, &'static str>,
    /// A `.dockercfg` too.
    of_node: &'static str,
    /// The only user that may pull; empty: all may.
    welcome: &'static str,
    /// Sizes and times of pulls.
    pulled: Mutex<Vec<(u64, Duration)>>,
}

struct Handle(Arc<Runtime>);

impl ImageService for Handle {
    async fn image_status(&self, image: &str) -> Result<Option<ImageInfo>, ServiceError> {
        if let Some(message) = self.0.broken {
            return Err(ServiceError(message.into()));
        }
        let there = self.0.present.lock().unwrap().contains(image);
        let info = || ImageInfo { id: format!("sha256:{image}"), size: 7, user: ImageUser::Uid(0) };
        Ok(there.then(info))
    }

    async fn pull_image(
        &self,
        image: &str,
        _pod: &Pod,
        credential: Option<&Credential>,
    ) -> Result<String, ServiceError> {
        struct Leave<'a>(&'a AtomicUsize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let now = self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        let _leave = Leave(&self.0.at_once);
        self.0.most_at_once.fetch_max(now, Ordering::SeqCst);
        let user = credential.map(|c| c.username.as_str());
        let as_user = user.map(|user| format!(" as {user}")).unwrap_or_default();
        self.0.pulls.lock().unwrap().push(format!("{image}{as_user}"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(failure) = self.0.script.lock().unwrap().pop_front() {
            return Err(ServiceError(failure.into()));
        }
        if !self.0.welcome.is_empty() && user != Some(self.0.welcome) {
            return Err(ServiceError(format!("{} is not welcome", user.unwrap_or("nobody"))));
        }
        self.0.present.lock().unwrap().insert(image.to_owned());
        Ok(image.to_owned())
    }

    fn pulled(&self, _: &Pod, size: u64, took: Duration) {
        self.0.pulled.lock().unwrap().push((size, took));
    }

    async fn pull_secret(&self, _pod: &Pod, name: &str) -> Result<Keyring, PullSecretError> {
        let text = self.0.secrets.get(name).ok_or(PullSecretError::Missing)?;
        Ok(Keyring::from_dockercfg(text.as_bytes())?)
    }

    async fn node_keyring(&self) -> Keyring {
        Keyring::from_dockercfg(self.0.of_node.as_bytes()).unwrap_or_default()
    }
}

/// The images of a node, and the events that were heard.
struct Node {
    runtime: Arc<Runtime>,
    images: Images<Handle>,
    events: Mutex<Vec<String>>,
}

impl Node {
    fn new(settings: &Settings, runtime: Runtime) -> Self {
        let runtime = Arc::new(runtime);
        let images = Images::new(Handle(runtime.clone()), settings);
        Self { runtime, images, events: Mutex::default() }
    }

    async fn ensure(&self, uid: &str, image: &str, policy: PullPolicy) -> Result<ImageInfo, ImageError> {
        self.ensure_with(&[], uid, image, policy).await
    }

    /// With these pull secrets.
    async fn ensure_with(
        &self,
        secrets: &[&str],
        uid: &str,
        image: &str,
        policy: PullPolicy,
    ) -> Result<ImageInfo, ImageError> {
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        let spec = json!({"containers": [], "imagePullSecrets": secrets});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": spec})).unwrap();
        let heard = |e: ImageEvent| {
            self.events.lock().unwrap().push(format!("{:?} {} {}", e.kind, e.reason, e.message));
        };
        self.images.ensure(&pod, image, policy, &heard).await
    }

    fn pulls(&self) -> Vec<String> {
        self.runtime.pulls.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

fn failing(script: &[&'static str]) -> Runtime {
    Runtime { script: Mutex::new(script.iter().copied().collect()), ..Runtime::default() }
}

const NOT_FOUND: &str = "rpc error: code = NotFound desc = no such image";

#[tokio::test(start_paused = true)]
async fn the_policy_decides_whether_an_image_is_pulled() {
    use PullPolicy::{Always, IfNotPresent, Never};
    for (policy, present, want, pulls) in [
        (Always, false, Ok(()), 1),
        (Always, true, Ok(()), 1),
        (IfNotPresent, false, Ok(()), 1),
        (IfNotPresent, true, Ok(()), 0),
        (Never, false, Err(Reason::ErrImageNeverPull), 0),
        (Never, true, Ok(()), 0),
    ] {
        let runtime = Runtime::default();
        if present {
            runtime.present.lock().unwrap().insert("a:latest".into());
        }
        let node = Node::new(&Settings::default(), runtime);
        let got = node.ensure("u", "a", policy).await;
        assert_eq!(got.map(|_| ()).map_err(|e| e.reason), want, "{policy:?} {present}");
        assert_eq!(node.pulls().len(), pulls, "{policy:?} {present}");
        let timed = node.runtime.pulled.lock().unwrap().clone();
        assert_eq!(timed, vec![(7, Duration::from_secs(1)); pulls], "{policy:?} {present}");
    }
}

#[test]
fn a_missing_policy_follows_from_the_tag() {
    use PullPolicy::{Always, IfNotPresent, Never};
    for (policy, image, want) in [
        (None, "a", Always),
        (None, "a:latest", Always),
        (None, "a:v1", IfNotPresent),
        (None, "host:5000/a", Always),
        (Some("Never"), "a", Never),
        (Some("Always"), "a:v1", Always),
        (Some("IfNotPresent"), "a", IfNotPresent),
    ] {
        let container = kube_model::core::Container {
            image: Some(image.into()),
            image_pull_policy: policy.map(str::to_owned),
            ..Default::default()
        };
        assert_eq!(PullPolicy::of(&container), want, "{policy:?} {image}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_and_messages_are_the_kubelets() {
    let node = Node::new(&Settings::default(), failing(&[NOT_FOUND]));
    let error = node.ensure("u", "a", PullPolicy::IfNotPresent).await.unwrap_err();
    assert_eq!((error.reason, error.message.as_str()), (Reason::ErrImagePull, NOT_FOUND));
    assert_eq!(error.retry_after, Some(Duration::from_secs(10)));
    assert_eq!(
        node.events(),
        [
            "Normal Pulling Pulling image \"a\"",
            &format!("Warning Failed Failed to pull image \"a\": {NOT_FOUND}"),
            "Warning Failed Error: ErrImagePull",
        ]
    );

    tokio::time::advance(Duration::from_secs(4)).await;
    let error = node.ensure("u", "a", PullPolicy::IfNotPresent).await.unwrap_err();
    assert_eq!(error.reason, Reason::ImagePullBackOff);
    assert_eq!(error.message, format!("Back-off pulling image \"a\": ErrImagePull: {NOT_FOUND}"));
    assert_eq!(error.retry_after, Some(Duration::from_secs(6)));
    assert_eq!(
        node.events(),
        ["Normal BackOff Back-off pulling image \"a\"", "Warning Failed Error: ImagePullBackOff"]
    );

    tokio::time::advance(Duration::from_secs(6)).await;
    let info = node.ensure("u", "a", PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!(info.id, "sha256:a:latest");
    node.ensure("u", "a", PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!(
        node.events(),
        [
            "Normal Pulling Pulling image \"a\"",
            "Normal Pulled Successfully pulled image \"a\" in 1s (1s including waiting). Image size: 7 bytes.",
            "Normal Pulled Container image \"a\" already present on machine and can be accessed by the pod",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_failure_has_its_reason_and_message() {
    let invalid = "Failed to apply default image tag \"Not A Valid//Name\": couldn't parse image name \"Not A Valid//Name\": invalid reference format: repository name (/Name) must be lowercase";
    for (runtime, image, policy, reason, message, event) in [
        (
            Runtime::default(),
            "Not A Valid//Name",
            PullPolicy::IfNotPresent,
            Reason::InvalidImageName,
            invalid,
            "InspectFailed",
        ),
        (
            Runtime::default(),
            "a:1",
            PullPolicy::Never,
            Reason::ErrImageNeverPull,
            "Container image \"a:1\" is not present with pull policy of Never",
            "ErrImageNeverPull",
        ),
        (
            Runtime { broken: Some("no answer"), ..Runtime::default() },
            "a",
            PullPolicy::IfNotPresent,
            Reason::ImageInspectError,
            "Failed to inspect image \"a\": no answer",
            "InspectFailed",
        ),
        (
            failing(&["RegistryUnavailable: it is down"]),
            "a",
            PullPolicy::Always,
            Reason::RegistryUnavailable,
            "image pull failed for a because the registry is unavailable: it is down",
            "Failed",
        ),
        (
            failing(&["SignatureValidationFailed"]),
            "a",
            PullPolicy::Always,
            Reason::SignatureValidationFailed,
            "image pull failed for a because the signature validation failed",
            "Failed",
        ),
    ] {
        let node = Node::new(&Settings::default(), runtime);
        let error = node.ensure("u", image, policy).await.unwrap_err();
        assert_eq!((error.reason, error.message.as_str()), (reason, message));
        let events = node.events();
        assert!(events.iter().any(|e| e.starts_with(&format!("Warning {event} "))), "{events:?}");
        assert_eq!(*events.last().unwrap(), format!("Warning Failed Error: {}", reason.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_to_five_minutes_and_begins_anew_after_ten() {
    let node = Node::new(&Settings::default(), failing(&[NOT_FOUND; 9]));
    let mut delays = Vec::new();
    for _ in 0..7 {
        let delay = node.ensure("u", "a", PullPolicy::Always).await.unwrap_err().retry_after.unwrap();
        delays.push(delay.as_secs());
        tokio::time::advance(delay).await;
    }
    assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    tokio::time::advance(Duration::from_secs(301)).await;
    let error = node.ensure("u", "a", PullPolicy::Always).await.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn back_off_is_for_one_pod_and_one_image() {
    let node = Node::new(&Settings::default(), failing(&[NOT_FOUND]));
    node.ensure("u", "a", PullPolicy::Always).await.unwrap_err();
    node.ensure("u", "b", PullPolicy::Always).await.unwrap();
    node.ensure("v", "a", PullPolicy::Always).await.unwrap();
    let error = node.ensure("u", "a", PullPolicy::Always).await.unwrap_err();
    assert_eq!(error.reason, Reason::ImagePullBackOff);
    node.images.forget(&PodUid::from("u"));
    node.ensure("u", "a", PullPolicy::Always).await.unwrap();
    assert!(node.images.backoff().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_pulled_with_something_else_now_is_tried_at_once_and_its_failures_count() {
    let node = Node::new(&Settings::default(), failing(&[NOT_FOUND; 2]));
    node.images.retry(&PodUid::from("u"));
    node.ensure("u", "a", PullPolicy::Always).await.unwrap_err();
    node.images.retry(&PodUid::from("v"));
    let error = node.ensure("u", "a", PullPolicy::Always).await.unwrap_err();
    assert_eq!(error.reason, Reason::ImagePullBackOff);
    node.images.retry(&PodUid::from("u"));
    let error = node.ensure("u", "a", PullPolicy::Always).await.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(20)));
    node.images.retry(&PodUid::from("u"));
    node.ensure("u", "a", PullPolicy::Always).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn as_many_pulls_run_at_once_as_are_allowed() {
    let parallel =
        |max| Settings { serialize_image_pulls: false, max_parallel_image_pulls: max, ..Settings::default() };
    for (settings, most, seconds) in
        [(Settings::default(), 1, 6), (parallel(Some(2)), 2, 3), (parallel(None), 6, 1)]
    {
        let node = Node::new(&settings, Runtime::default());
        let start = Instant::now();
        let names = ["a", "b", "c", "d", "e", "f"];
        let all = join_all(names.map(|i| node.ensure("u", i, PullPolicy::Always))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(node.runtime.most_at_once.load(Ordering::SeqCst), most);
        assert_eq!(start.elapsed().as_secs(), seconds, "{settings:?}");
        assert_eq!(node.pulls(), names.map(|n| format!("{n}:latest")), "first come, first served");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_want_one_image_at_once_share_one_pull() {
    let node = Node::new(&Settings::default(), Runtime::default());
    let pods = ["u1", "u2", "u3"];
    let all = join_all(pods.map(|u| node.ensure(u, "a", PullPolicy::Always))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(node.pulls().len(), 1);
    // Who asks later wants to know whether there is a newer one.
    tokio::time::advance(Duration::from_millis(1)).await;
    node.ensure("u4", "a", PullPolicy::Always).await.unwrap();
    assert_eq!(node.pulls().len(), 2);
    assert!(node.images.queue.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_shared_failure_is_each_pods_own() {
    let node = Node::new(&Settings::default(), failing(&[NOT_FOUND]));
    let all = join_all(["u1", "u2"].map(|u| node.ensure(u, "a", PullPolicy::Always))).await;
    for result in all {
        let error = result.unwrap_err();
        assert_eq!((error.reason, error.retry_after), (Reason::ErrImagePull, Some(Duration::from_secs(10))));
    }
    assert_eq!(node.pulls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_is_given_up_leaves_its_place_to_the_next() {
    let node = Node::new(&Settings::default(), Runtime::default());
    let half = Duration::from_millis(500);
    let given_up = async {
        let pull = node.ensure("u1", "a", PullPolicy::Always);
        assert!(tokio::time::timeout(half, pull).await.is_err());
    };
    let (same, other) =
        (node.ensure("u2", "a", PullPolicy::Always), node.ensure("u3", "b", PullPolicy::Always));
    let ((), same, other) = futures::join!(given_up, same, other);
    assert!(same.is_ok() && other.is_ok());
    assert_eq!(node.runtime.most_at_once.load(Ordering::SeqCst), 1);
    assert!(node.images.queue.is_idle());
}

#[tokio::test(start_paused = true)]
async fn pulls_above_the_rate_fail() {
    let settings = Settings { registry_pull_qps: 1, registry_burst: 2, ..Settings::default() };
    let settings = Settings { serialize_image_pulls: false, ..settings };
    let node = Node::new(&settings, Runtime::default());
    let all = join_all(["a", "b", "c"].map(|i| node.ensure("u", i, PullPolicy::Always))).await;
    let messages: Vec<_> = all.into_iter().map(|r| r.map(|_| ()).map_err(|e| e.message)).collect();
    assert_eq!(messages, [Ok(()), Ok(()), Err("pull QPS exceeded".to_owned())]);
    tokio::time::advance(Duration::from_secs(10)).await;
    node.ensure("u", "c", PullPolicy::Always).await.unwrap();

    let node = Node::new(&Settings { registry_pull_qps: 0, ..settings }, Runtime::default());
    let names: Vec<String> = (0..50).map(|i| format!("i{i}")).collect();
    let all = join_all(names.iter().map(|i| node.ensure("u", i, PullPolicy::Always))).await;
    assert!(all.iter().all(Result::is_ok), "0 is no limit");
}

/// Two pods' secrets for `example.com`, and the node's credentials for it.
fn private(welcome: &'static str) -> Runtime {
    Runtime {
        secrets: [
            ("ann", r#"{"example.com":{"username":"ann"}}"#),
            ("bob", r#"{"example.com":{"username":"bob"},"other.com":{"username":"other"}}"#),
            ("broken", r#"{"example.com":{"auth":"s3cret"}}"#),
        ]
        .into(),
        of_node: r#"{"example.com":{"username":"node"}}"#,
        welcome,
        ..Runtime::default()
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_are_tried_in_turn_the_pods_before_the_nodes() {
    for (welcome, secrets, image, want) in [
        ("ann", &["ann", "bob"][..], "example.com/a", "example.com/a:latest as ann"),
        (
            "bob",
            &["ann", "", "bob"],
            "example.com/a",
            "example.com/a:latest as ann|example.com/a:latest as bob",
        ),
        ("node", &["ann"], "example.com/a", "example.com/a:latest as ann|example.com/a:latest as node"),
        ("node", &[], "example.com/a", "example.com/a:latest as node"),
        ("", &["ann", "bob"], "third.com/a", "third.com/a:latest"),
        ("other", &["ann", "bob"], "other.com/a:v1", "other.com/a:v1 as other"),
    ] {
        let node = Node::new(&Settings::default(), private(welcome));
        node.ensure_with(secrets, "u", image, PullPolicy::Always).await.unwrap();
        assert_eq!(node.pulls().join("|"), want, "{welcome} {secrets:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_no_credential_works_every_failure_is_told_once() {
    for (script, want) in
        [(&[][..], "[ann is not welcome, node is not welcome]"), (&[NOT_FOUND, NOT_FOUND], NOT_FOUND)]
    {
        let runtime = Runtime { script: failing(script).script, ..private("nobody") };
        let node = Node::new(&Settings::default(), runtime);
        let pulled = node.ensure_with(&["ann"], "u", "example.com/a", PullPolicy::Always).await;
        assert_eq!(pulled.unwrap_err().message, want);
        assert_eq!(node.pulls().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_had_is_told_and_the_pull_goes_on() {
    let node = Node::new(&Settings::default(), private("ann"));
    let secrets = ["gone", "broken", "ann", "away"];
    node.ensure_with(&secrets, "u", "example.com/a", PullPolicy::IfNotPresent).await.unwrap();
    let reason = "Warning FailedToRetrieveImagePullSecret";
    let events = node.events();
    assert_eq!(
        events[..3],
        [
            format!(
                "{reason} Unable to use image pull secret broken: auth of \"example.com\" must be base64 of \
                 username:password; attempting to pull the image may not succeed."
            ),
            format!(
                "{reason} Unable to retrieve some image pull secrets (gone, away); attempting to pull the image \
                 may not succeed."
            ),
            "Normal Pulling Pulling image \"example.com/a\"".to_owned(),
        ]
    );
    // Nobody asks for secrets when there is nothing to pull.
    node.ensure_with(&secrets, "u", "example.com/a", PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!(node.events().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_shared_only_by_those_with_the_same_credentials() {
    let node = Node::new(&Settings::default(), Runtime { of_node: "{}", ..private("bob") });
    let pods = [("ann", "u1"), ("bob", "u2"), ("ann", "u3"), ("bob", "u4")];
    let pull = |(secret, uid): (&'static str, &'static str)| {
        let node = &node;
        async move { node.ensure_with(&[secret], uid, "example.com/a", PullPolicy::Always).await.is_ok() }
    };
    assert_eq!(join_all(pods.map(pull)).await, [false, true, false, true]);
    assert_eq!(node.pulls(), ["example.com/a:latest as ann", "example.com/a:latest as bob"]);
    assert!(node.images.queue.is_idle());
}
