//! Volumes made of content: looked up first, then written at once, in the layout of the kubelet (upstream
//! `pkg/volume/{configmap,secret,downwardapi,projected}`).
//!
//! What is there already stays as long as it cannot be made new: a ConfigMap that is deleted, or a server that is away,
//! takes nothing from a pod that has its content, also across a restart of the agent.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use kube_model::Monotonic;
use kube_model::core::{Pod, PodSpec};
use kube_model::k8s_openapi::jiff::SignedDuration;
use kube_model::objects::{Kind, Object};
use tokio::time::Instant;
use volume_fs::atomic;
use volume_fs::mount::{self, Tmpfs};
use volume_plan::container_mounts::nested_mount_points;
use volume_plan::empty_dir;
use volume_plan::payload::{self, Facts, Found, Missing, Need};
use volume_plan::spec;

use crate::blocking::{self, On};
use crate::content::{ContentError, Token};
use crate::empty_dir::{fs_group, make_folder, mark_ready};
use crate::error::{SetUpError, Step};
use crate::manager::{Inner, find};
use crate::set_up::{Done, Job, exists, make_dir, make_pod_dirs};
use crate::settings::PodDirs;

/// All that a volume needs from elsewhere, found or not.
struct Gathered {
    objects: Vec<(Kind, String, Result<Arc<Object>, ContentError>)>,
    tokens: Vec<(String, Option<i64>, Result<Token, ContentError>)>,
}

pub(crate) async fn set_up(job: &Job, content: payload::Content<'_>, dirs: PodDirs) -> Done {
    let inner = &job.inner;
    // Nothing of the node is touched by this, so nobody who takes volumes down waits for a server.
    let gathered = gather(inner, &job.pod, content).await;
    let good = gathered.tokens.iter().filter_map(|(.., token)| token.as_ref().ok());
    let until = good.map(|token| moment(inner, token.refresh_at)).min();
    let hold = match job.hold().await {
        Ok(hold) => hold,
        Err(error) => return Err(error).into(),
    };
    let (inner, pod, name) = (Arc::clone(inner), Arc::clone(&job.pod), job.name.clone());
    let work = move || {
        let _hold = hold;
        let place = Place::new(&dirs, &pod, &name)?;
        write(&inner, &dirs, &pod, &place, &gathered).map_err(|error| (error, place.is_usable()))
    };
    match blocking::run(On::OwnDisk, work).await {
        Ok(Ok(())) => Done::Current { until },
        Ok(Err((error, usable))) => Done::Failed { step: Step::SetUp, error, usable },
        Err(cut_off) => Err(SetUpError(cut_off)).into(),
    }
}

async fn gather(inner: &Inner, pod: &Pod, content: payload::Content<'_>) -> Gathered {
    let (mut objects, mut tokens) = (Vec::new(), Vec::new());
    for need in content.needs() {
        match need {
            Need::Object(kind, name) => objects
                .push(async move { (kind, name.to_owned(), inner.content.object(pod, kind, name).await) }),
            Need::Token(token) => tokens.push(async move {
                let answer = inner.content.token(pod, token).await;
                (token.audience.to_owned(), token.expiration_seconds, answer)
            }),
        }
    }
    let (objects, tokens) = futures::join!(join_all(objects), join_all(tokens));
    Gathered { objects, tokens }
}

impl Gathered {
    fn as_found(&self) -> Found<'_> {
        let mut found = Found::default();
        for (kind, name, object) in &self.objects {
            let object = match object {
                Ok(object) => Ok(payload::Object { data: &object.data, binary_data: &object.binary_data }),
                Err(ContentError::NotFound(_)) => Err(Missing::NotFound),
                Err(ContentError::Unavailable(sentence)) => Err(Missing::Unreadable(sentence.clone())),
            };
            found.objects.insert((*kind, name.as_str()), object);
        }
        for (audience, expiration_seconds, token) in &self.tokens {
            let key = payload::Token { audience, expiration_seconds: *expiration_seconds };
            let token = match token {
                Ok(token) => Ok(payload::Secret(&token.token)),
                Err(error) => Err(error.to_string()),
            };
            found.tokens.insert(key, token);
        }
        found
    }
}

/// One such volume of a pod, and where it stands.
struct Place<'a> {
    name: &'a str,
    content: payload::Content<'a>,
    path: std::path::PathBuf,
}

impl<'a> Place<'a> {
    fn new(dirs: &PodDirs, pod: &'a Pod, name: &'a str) -> Result<Self, (SetUpError, bool)> {
        let kind = find(pod, name).map(spec::Kind::of);
        match (kind, kind.and_then(spec::Kind::plugin_dir)) {
            (Some(spec::Kind::Content(content)), Some(plugin)) => {
                Ok(Self { name, content, path: dirs.volume(plugin, name) })
            }
            _ => Err((SetUpError(format!("{name:?} is no volume made of content")), false)),
        }
    }

    /// Whether something whole is there, be it from an earlier run.
    fn is_usable(&self) -> bool {
        let mounted = !self.content.in_memory() || mount::is_mount_point(&self.path).unwrap_or(false);
        mounted && is_whole(&self.path)
    }
}

/// Whether all that a finished write leaves is there: a kill may have come between the files and the links to them.
fn is_whole(volume: &Path) -> bool {
    let Ok(entries) = fs::read_dir(volume.join("..data")) else { return false };
    entries.flatten().all(|entry| fs::symlink_metadata(volume.join(entry.file_name())).is_ok())
}

fn write(
    inner: &Inner,
    dirs: &PodDirs,
    pod: &Pod,
    place: &Place<'_>,
    gathered: &Gathered,
) -> Result<(), SetUpError> {
    let found = gathered.as_found();
    let facts = Facts { pod, allocatable: &inner.settings.allocatable };
    // Before anything is made: nothing is left on the node of a volume that cannot be.
    let files = place.content.files(facts, &found).map_err(|error| SetUpError(error.to_string()))?;
    make_pod_dirs(dirs)?;
    let path = &place.path;
    let is_mounted = exists(path)? && mount::is_mount_point(path)?;
    if !is_mounted {
        make_folder(path, false)?;
    }
    if place.content.in_memory() {
        let size = empty_dir::memory_size(None, pod, inner.settings.allocatable.memory);
        mount::tmpfs(path, Tmpfs { size })?;
    }
    for point in nested_mount_points(pod, place.name) {
        make_dir(&path.join(&*point), 0o755)?;
    }
    // As upstream, which makes these of an emptyDir.
    mark_ready(&dirs.empty_dir_mark(&format!("wrapped_{}", place.name)))?;
    let none = PodSpec::default();
    let group = fs_group(pod.spec.as_ref().unwrap_or(&none));
    let contents = files.iter().map(|(path, file)| atomic::Content {
        path,
        data: &file.data,
        mode: file.mode,
        owner: file.owner,
    });
    atomic::write(path, contents, group)?;
    Ok(())
}

/// A moment of tokio's clock on the manager's timeline.
fn moment(inner: &Inner, at: Instant) -> Monotonic {
    let left = at.saturating_duration_since(Instant::now());
    (inner.settings.now)() + SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX)
}
