//! What goes on inside pods, for those who look in from outside: logs, and streams to processes and ports. All
//! servers of one agent share it: the one on 10250, the local socket, and whoever else hands logs on.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use http::StatusCode;
use kube_model::view::PodView;
use kube_model::{Timestamp, pod};

use crate::View;
use crate::host::Streaming;
use crate::kubelet::find_pod;
use crate::logs::{LogOptions, LogStream, LogWatch, Running, container_id};

/// The way into the pods of one agent.
pub struct PodStreams {
    pub(crate) view: Arc<dyn View>,
    pub(crate) streaming: Arc<dyn Streaming>,
    log_watch: LogWatch,
    running: Arc<Running>,
    wall: fn() -> Timestamp,
}

/// Why there is no log. The words are the kubelet's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NoLog {
    /// The HTTP status that goes with it.
    pub status: StatusCode,
    /// What to tell the client.
    pub message: String,
}

impl NoLog {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl PodStreams {
    /// Puts the parts together. Nothing is opened before somebody comes. `wall` is the clock that times in requests
    /// are counted from.
    pub fn new(view: Arc<dyn View>, streaming: Arc<dyn Streaming>, wall: fn() -> Timestamp) -> Arc<Self> {
        let running = Running::new(Arc::clone(&view));
        Arc::new(Self { view, streaming, log_watch: LogWatch::default(), running, wall })
    }

    /// The log of a container, piece by piece. `query` is that of `/containerLogs` and of `/log` in Kubernetes' API:
    /// `follow`, `previous`, `timestamps`, `sinceSeconds`, `sinceTime`, `tailLines`, `limitBytes`. What fails once the
    /// container is found is the last piece, as with the kubelet.
    ///
    /// # Errors
    /// When the query makes no sense, there is no such pod or container, or it has no log.
    pub async fn log(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: &str,
    ) -> Result<BoxStream<'static, Bytes>, NoLog> {
        let options = LogOptions::parse(query, (self.wall)())
            .map_err(|bad| NoLog::new(bad.status(), bad.to_string()))?;
        let Some(pod) = find_pod(&self.view.snapshot(), namespace, name) else {
            return Err(NoLog::new(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist")));
        };
        if !has_container(&pod, container) {
            let none = format!("container {container:?} not found in pod {name:?}");
            return Err(NoLog::new(StatusCode::NOT_FOUND, none));
        }
        if let Some(stream) = options.stream {
            let refusal = format!(
                "unable to return the given log stream: {stream:?}. Please enable PodLogsQuerySplitStreams feature \
                 gate in kubelet"
            );
            return Err(NoLog::new(StatusCode::BAD_REQUEST, refusal));
        }
        let id = container_id(name, &pod.status, container, options.previous)
            .map_err(|none| NoLog::new(StatusCode::BAD_REQUEST, none))?;
        // From here on the kubelet has begun to answer 200, and its errors are the body.
        let path = match self.streaming.log_path(bare(id)).await {
            Ok(path) => path,
            Err(error) => {
                tracing::debug!(%id, error = %util::causes(&error), "No log path");
                return Ok(one_piece(format!("unable to retrieve container logs for {id}")));
            }
        };
        let follow = options.follow.then(|| {
            let ended = Arc::clone(&self.running).ended(id.to_owned()).boxed();
            (&self.log_watch, ended)
        });
        Ok(match LogStream::open(path, &options, follow).await {
            Ok(log) => log.into_stream().boxed(),
            Err(error) => one_piece(error.to_string()),
        })
    }
}

impl std::fmt::Debug for PodStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodStreams").finish_non_exhaustive()
    }
}

/// The runtime's ID without its scheme.
pub(crate) fn bare(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, id)| id)
}

fn one_piece(text: String) -> BoxStream<'static, Bytes> {
    futures::stream::iter([Bytes::from(text)]).boxed()
}

fn has_container(pod: &PodView, name: &str) -> bool {
    let spec = pod.pod.spec.as_ref();
    let ephemeral = || spec?.ephemeral_containers.as_ref()?.iter().find(|c| c.name == name).map(drop);
    spec.is_some_and(|spec| pod::container(spec, name).is_some()) || ephemeral().is_some()
}
