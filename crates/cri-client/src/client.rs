//! The client: one method per RPC.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use node_proto::cri::v1::image_service_client::ImageServiceClient;
use node_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Response;
use tonic::transport::Channel;

use crate::connection::{Connection, Observer};
use crate::connector::Connector;
use crate::endpoint::{Endpoint, EndpointError};
use crate::error::{Error, ErrorKind};
use crate::events::{self, EventItem};
use crate::v1::*;

/// The kubelet's `runtimeRequestTimeout`.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Largest message either way: the kubelet's limit. Nodes whose lists are larger need the `stream_*` calls.
const MAX_MESSAGE: usize = 16 << 20;

/// A CRI v1 client. Cheap to clone; clones share the connection.
///
/// Connects when a call needs it. While nobody listens, calls fail at once with [`ErrorKind::Unavailable`], and
/// the socket is tried again after 100 ms at first and 3 s at most. Every method is one call, with the deadline
/// of the kubelet; dropping its future cancels the call in the runtime.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Connection,
    image: Connection,
    request_timeout: Duration,
}

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    runtime: Connector,
    image: Option<Endpoint>,
    request_timeout: Duration,
    observer: Observer,
}

impl Builder {
    fn new(runtime: Connector) -> Self {
        Self { runtime, image: None, request_timeout: DEFAULT_REQUEST_TIMEOUT, observer: Observer::default() }
    }

    /// How long a call may take, where no other rule holds. Default: [`DEFAULT_REQUEST_TIMEOUT`].
    ///
    /// `RunPodSandbox` has twice as long, `StopContainer` and `ExecSync` have their own timeout on top,
    /// `CheckpointContainer` the longer of both; `PullImage` and an `ExecSync` without timeout have no deadline.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Where the ImageService is. Default: where the RuntimeService is.
    ///
    /// # Errors
    /// When the text is neither `unix:///path` nor `/path`.
    pub fn image_endpoint(mut self, endpoint: &str) -> Result<Self, EndpointError> {
        self.image = Some(endpoint.parse()?);
        Ok(self)
    }

    /// Who hears of each call that was answered or failed: the method as CRI names it (`RunPodSandbox`), how long it
    /// took, and whether it failed. It must not block. Calls that were given up are not told of. Default: nobody.
    pub fn observer(
        mut self,
        observe: impl Fn(&'static str, Duration, bool) + Send + Sync + 'static,
    ) -> Self {
        self.observer = Observer(Some(Arc::new(observe)));
        self
    }

    /// Makes the client; connects to nothing yet.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(self) -> Client {
        let connect = |connector| Connection::new(connector, self.observer.clone());
        let image = self.image.filter(|image| *image != *self.runtime.endpoint);
        let image = image.map(|endpoint| connect(Connector::unix(endpoint)));
        let runtime = connect(self.runtime);
        let image = image.unwrap_or_else(|| runtime.clone());
        Client(Arc::new(Inner { runtime, image, request_timeout: self.request_timeout }))
    }
}

/// Writes the methods of one service, one line each: `unary` calls, and `collected` streams, whose parts are
/// joined once the stream has ended well. Boxed: requests and tonic's futures take up to 26 KiB, which belong on
/// the heap while a call lasts, not in its caller's task for good.
macro_rules! service {
    ($connection:ident, $client:ident;
     unary { $($(#[$doc:meta])* $name:ident $method:literal ($request:ident) -> $response:ident;)* }
     collected { $($(#[$sdoc:meta])* $sname:ident $smethod:literal ($srequest:ident) -> [$item:ident] $field:ident;)* }
    ) => {
        impl Client {
            $(
                $(#[$doc])*
                pub fn $name(
                    &self,
                    request: $request,
                ) -> impl Future<Output = Result<$response, Error>> + Send {
                    let send = |channel, request| async move { $client(channel).$name(request).await };
                    Box::pin(self.0.$connection.call($method, self.0.request_timeout, request, send))
                }
            )*
            $(
                $(#[$sdoc])*
                pub fn $sname(
                    &self,
                    request: $srequest,
                ) -> impl Future<Output = Result<Vec<$item>, Error>> + Send {
                    let send = |channel, request| async move {
                        let mut parts = $client(channel).$sname(request).await?.into_inner();
                        let mut whole = Vec::new();
                        while let Some(part) = parts.message().await? {
                            whole.extend(part.$field);
                        }
                        Ok(Response::new(whole))
                    };
                    Box::pin(self.0.$connection.call($smethod, self.0.request_timeout, request, send))
                }
            )*
        }
    };
}

service! {
    runtime, runtime_client;
    unary {
        /// Creates and starts a sandbox; it is ready on success.
        run_pod_sandbox "RunPodSandbox"(RunPodSandboxRequest) -> RunPodSandboxResponse;
        /// Kills what runs in a sandbox and gives back its network. Idempotent.
        stop_pod_sandbox "StopPodSandbox"(StopPodSandboxRequest) -> StopPodSandboxResponse;
        /// Removes a sandbox and its containers. Idempotent.
        remove_pod_sandbox "RemovePodSandbox"(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
        /// One sandbox, with its addresses.
        pod_sandbox_status "PodSandboxStatus"(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
        /// The sandboxes that match.
        list_pod_sandbox "ListPodSandbox"(ListPodSandboxRequest) -> ListPodSandboxResponse;
        /// Creates a container in a ready sandbox.
        create_container "CreateContainer"(CreateContainerRequest) -> CreateContainerResponse;
        /// Starts a created container.
        start_container "StartContainer"(StartContainerRequest) -> StartContainerResponse;
        /// Stops a container: stop signal, grace period, kill. Idempotent.
        stop_container "StopContainer"(StopContainerRequest) -> StopContainerResponse;
        /// Removes a container, by force when it runs. Idempotent.
        remove_container "RemoveContainer"(RemoveContainerRequest) -> RemoveContainerResponse;
        /// The containers that match.
        list_containers "ListContainers"(ListContainersRequest) -> ListContainersResponse;
        /// One container, with times and exit code.
        container_status "ContainerStatus"(ContainerStatusRequest) -> ContainerStatusResponse;
        /// Changes a container's limits in place.
        update_container_resources "UpdateContainerResources"(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        /// Makes the runtime open the log file anew after a rotation.
        reopen_container_log "ReopenContainerLog"(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
        /// Runs a command to its end. A command that outlives its own timeout is [`ErrorKind::DeadlineExceeded`].
        exec_sync "ExecSync"(ExecSyncRequest) -> ExecSyncResponse;
        /// Prepares a command with streams; answers with their URL.
        exec "Exec"(ExecRequest) -> ExecResponse;
        /// Prepares streams to a running container; answers with their URL.
        attach "Attach"(AttachRequest) -> AttachResponse;
        /// Prepares streams to ports of a sandbox; answers with their URL.
        port_forward "PortForward"(PortForwardRequest) -> PortForwardResponse;
        /// Statistics of one container.
        container_stats "ContainerStats"(ContainerStatsRequest) -> ContainerStatsResponse;
        /// Statistics of the containers that match.
        list_container_stats "ListContainerStats"(ListContainerStatsRequest) -> ListContainerStatsResponse;
        /// Statistics of one sandbox.
        pod_sandbox_stats "PodSandboxStats"(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        /// Statistics of the sandboxes that match.
        list_pod_sandbox_stats "ListPodSandboxStats"(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        /// Tells the runtime the node's pod CIDR.
        update_runtime_config "UpdateRuntimeConfig"(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
        /// Whether the runtime and its network are ready.
        status "Status"(StatusRequest) -> StatusResponse;
        /// Writes a running container to an archive.
        checkpoint_container "CheckpointContainer"(CheckpointContainerRequest) -> CheckpointContainerResponse;
        /// What the metrics of [`Client::list_pod_sandbox_metrics`] are.
        list_metric_descriptors "ListMetricDescriptors"(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
        /// Metrics of all sandboxes.
        list_pod_sandbox_metrics "ListPodSandboxMetrics"(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
        /// The runtime's cgroup driver.
        runtime_config "RuntimeConfig"(RuntimeConfigRequest) -> RuntimeConfigResponse;
        /// Tells the runtime a pod's new limits.
        update_pod_sandbox_resources "UpdatePodSandboxResources"(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    }
    collected {
        /// [`Client::list_pod_sandbox`] without the message limit; new in CRI 1.36.
        stream_pod_sandboxes "StreamPodSandboxes"(StreamPodSandboxesRequest) -> [PodSandbox] pod_sandboxes;
        /// [`Client::list_containers`] without the message limit; new in CRI 1.36.
        stream_containers "StreamContainers"(StreamContainersRequest) -> [Container] containers;
        /// [`Client::list_container_stats`] without the message limit; new in CRI 1.36.
        stream_container_stats "StreamContainerStats"(StreamContainerStatsRequest) -> [ContainerStats] container_stats;
        /// [`Client::list_pod_sandbox_stats`] without the message limit; new in CRI 1.36.
        stream_pod_sandbox_stats "StreamPodSandboxStats"(StreamPodSandboxStatsRequest) -> [PodSandboxStats] pod_sandbox_stats;
        /// [`Client::list_pod_sandbox_metrics`] without the message limit; new in CRI 1.36.
        stream_pod_sandbox_metrics "StreamPodSandboxMetrics"(StreamPodSandboxMetricsRequest) -> [PodSandboxMetrics] pod_sandbox_metrics;
    }
}

service! {
    image, image_client;
    unary {
        /// The images that match.
        list_images "ListImages"(ListImagesRequest) -> ListImagesResponse;
        /// One image; an unknown one is a response without an image.
        image_status "ImageStatus"(ImageStatusRequest) -> ImageStatusResponse;
        /// Pulls an image. No deadline.
        pull_image "PullImage"(PullImageRequest) -> PullImageResponse;
        /// Removes an image with all its tags. Idempotent.
        remove_image "RemoveImage"(RemoveImageRequest) -> RemoveImageResponse;
        /// The filesystems of images and containers.
        image_fs_info "ImageFsInfo"(ImageFsInfoRequest) -> ImageFsInfoResponse;
    }
    collected {
        /// [`Client::list_images`] without the message limit; new in CRI 1.36.
        stream_images "StreamImages"(StreamImagesRequest) -> [Image] images;
    }
}

impl Client {
    /// Starts from the runtime's endpoint, `unix:///path` or `/path`.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn builder(endpoint: &str) -> Result<Builder, EndpointError> {
        Ok(Builder::new(Connector::unix(endpoint.parse()?)))
    }

    /// Begins a client of what `connect` connects to: TCP in a test, a runtime in the same process. Errors call it
    /// `name`. It is called for each new connection, and may fail: then it is called again later.
    pub fn connector<C, F, S>(name: impl Into<String>, connect: C) -> Builder
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Builder::new(Connector::new(Endpoint::named(name.into()), connect))
    }

    /// The handshake: who the runtime is, and whether it speaks CRI v1 at all.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] when what answers is no CRI v1 runtime, else as every call.
    pub async fn version(&self) -> Result<VersionResponse, Error> {
        const METHOD: &str = "Version";
        let request = VersionRequest { version: "0.1.0".into() };
        let send = |channel, request| async move { runtime_client(channel).version(request).await };
        let answer = self.0.runtime.call(METHOD, self.0.request_timeout, request, send).await;
        let missing = match answer {
            Ok(version) => match missing_field(&version) {
                None => return Ok(version),
                Some(field) => format!("its answer has no {field}"),
            },
            Err(error) if error.is_unimplemented() => {
                format!("the service runtime.v1.RuntimeService is not served there: {}", error.message())
            }
            Err(error) => return Err(error),
        };
        Err(self.0.runtime.error(METHOD, ErrorKind::Incompatible { message: missing }))
    }

    /// The events of all containers, across reconnects. Each call is a subscription of its own; dropping the
    /// stream ends it.
    pub fn container_events(&self) -> impl Stream<Item = EventItem> + Send + use<> {
        events::events(self.clone())
    }

    pub(crate) fn runtime(&self) -> &Connection {
        &self.0.runtime
    }
}

pub(crate) fn runtime_client(channel: Channel) -> RuntimeServiceClient<Channel> {
    RuntimeServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

fn image_client(channel: Channel) -> ImageServiceClient<Channel> {
    ImageServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

/// The kubelet refuses a runtime that leaves one of these out.
fn missing_field(version: &VersionResponse) -> Option<&'static str> {
    [
        ("version", &version.version),
        ("runtime_name", &version.runtime_name),
        ("runtime_version", &version.runtime_version),
        ("runtime_api_version", &version.runtime_api_version),
    ]
    .into_iter()
    .find_map(|(name, value)| value.is_empty().then_some(name))
}
