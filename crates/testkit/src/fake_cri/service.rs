//! The gRPC side: every call is recorded, meets its fault, and then the model.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use node_proto::cri::v1::image_service_server::ImageService;
use node_proto::cri::v1::runtime_service_server::RuntimeService;
use node_proto::cri::v1::*;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use crate::faults::Fault;

use super::model::{Answer, Model};
use super::{Call, Shared, lock};

#[derive(Clone)]
pub(super) struct Service(pub(super) Arc<Shared>);

type Parts<T> = BoxStream<'static, Result<T, Status>>;

impl Service {
    async fn call<Req, Res>(
        &self,
        method: &'static str,
        request: Request<Req>,
        act: impl FnOnce(&mut Model, &Req) -> Answer<Res>,
    ) -> Answer<Response<Res>>
    where
        Req: Send + Sync + 'static,
    {
        let request = Arc::new(request.into_inner());
        let (fault, mut cleared) = {
            let mut faults = lock(&self.0.faults);
            (faults.take(&*request), faults.cleared())
        };
        lock(&self.0.calls).push(Call { method, request: request.clone() });
        self.0.changed.send_replace(());
        if let Some(fault) = &fault {
            if matches!(fault, Fault::Disconnect) {
                self.0.disconnect();
            }
            fault.before(&mut cleared).await?;
        }
        let answer = act(&mut lock(&self.0.model), &request);
        self.0.changed.send_replace(());
        if let Some(fault) = &fault {
            fault.after(&mut cleared).await;
        }
        answer.map(Response::new)
    }

    /// Events as Go's servers send them: the headers come with the first one.
    async fn events(
        &self,
        request: Request<GetEventsRequest>,
    ) -> Answer<Response<Parts<ContainerEventResponse>>> {
        let subscribed = self.call("GetContainerEvents", request, |model, _| model.subscribe()).await?;
        let (replay, receiver) = subscribed.into_inner();
        let live = stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((event, receiver)),
                    // A runtime drops events for a slow consumer too.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        let mut events = stream::iter(replay).chain(live).map(Ok).boxed().peekable();
        std::pin::Pin::new(&mut events).peek().await;
        Ok(Response::new(events.boxed()))
    }
}

/// A list in parts of two.
fn parts<T, P>(items: Vec<T>, part: fn(Vec<T>) -> P) -> impl Stream<Item = Result<P, Status>> + Send + 'static
where
    T: Send + 'static,
    P: 'static,
{
    stream::iter(items).chunks(2).map(move |items| Ok(part(items)))
}

/// Writes a service: calls that the model answers, calls that this runtime does not have, the streams among the
/// latter, and whatever else.
macro_rules! service {
    ($service:ident;
     model { $($name:ident $method:literal ($request:ident) -> $response:ident;)* }
     absent { $($aname:ident $amethod:literal ($arequest:ident) -> $aresponse:ident;)* }
     absent_streams { $($sname:ident $smethod:literal ($srequest:ident) -> $stream:ident [$part:ident];)* }
     also { $($rest:tt)* }
    ) => {
        #[tonic::async_trait]
        impl $service for Service {
            $(async fn $name(&self, request: Request<$request>) -> Answer<Response<$response>> {
                self.call($method, request, Model::$name).await
            })*
            $(async fn $aname(&self, request: Request<$arequest>) -> Answer<Response<$aresponse>> {
                self.call($amethod, request, |_, _| absent($amethod)).await
            })*
            $(type $stream = Parts<$part>;
            async fn $sname(&self, request: Request<$srequest>) -> Answer<Response<Self::$stream>> {
                self.call($smethod, request, |_, _| absent($smethod)).await
            })*
            $($rest)*
        }
    };
}

fn absent<T>(method: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("method {method} not implemented")))
}

service! {
    RuntimeService;
    model {
        version "Version"(VersionRequest) -> VersionResponse;
        run_pod_sandbox "RunPodSandbox"(RunPodSandboxRequest) -> RunPodSandboxResponse;
        stop_pod_sandbox "StopPodSandbox"(StopPodSandboxRequest) -> StopPodSandboxResponse;
        remove_pod_sandbox "RemovePodSandbox"(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
        pod_sandbox_status "PodSandboxStatus"(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
        list_pod_sandbox "ListPodSandbox"(ListPodSandboxRequest) -> ListPodSandboxResponse;
        create_container "CreateContainer"(CreateContainerRequest) -> CreateContainerResponse;
        start_container "StartContainer"(StartContainerRequest) -> StartContainerResponse;
        stop_container "StopContainer"(StopContainerRequest) -> StopContainerResponse;
        remove_container "RemoveContainer"(RemoveContainerRequest) -> RemoveContainerResponse;
        list_containers "ListContainers"(ListContainersRequest) -> ListContainersResponse;
        container_status "ContainerStatus"(ContainerStatusRequest) -> ContainerStatusResponse;
        update_container_resources "UpdateContainerResources"(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        reopen_container_log "ReopenContainerLog"(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
        exec_sync "ExecSync"(ExecSyncRequest) -> ExecSyncResponse;
        update_runtime_config "UpdateRuntimeConfig"(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
        status "Status"(StatusRequest) -> StatusResponse;
        runtime_config "RuntimeConfig"(RuntimeConfigRequest) -> RuntimeConfigResponse;
        update_pod_sandbox_resources "UpdatePodSandboxResources"(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    }
    absent {
        exec "Exec"(ExecRequest) -> ExecResponse;
        attach "Attach"(AttachRequest) -> AttachResponse;
        port_forward "PortForward"(PortForwardRequest) -> PortForwardResponse;
        container_stats "ContainerStats"(ContainerStatsRequest) -> ContainerStatsResponse;
        list_container_stats "ListContainerStats"(ListContainerStatsRequest) -> ListContainerStatsResponse;
        pod_sandbox_stats "PodSandboxStats"(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        list_pod_sandbox_stats "ListPodSandboxStats"(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        checkpoint_container "CheckpointContainer"(CheckpointContainerRequest) -> CheckpointContainerResponse;
        list_metric_descriptors "ListMetricDescriptors"(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics "ListPodSandboxMetrics"(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    }
    absent_streams {
        stream_container_stats "StreamContainerStats"(StreamContainerStatsRequest) -> StreamContainerStatsStream [StreamContainerStatsResponse];
        stream_pod_sandbox_stats "StreamPodSandboxStats"(StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsStream [StreamPodSandboxStatsResponse];
        stream_pod_sandbox_metrics "StreamPodSandboxMetrics"(StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsStream [StreamPodSandboxMetricsResponse];
    }
    also {
        type GetContainerEventsStream = Parts<ContainerEventResponse>;
        async fn get_container_events(
            &self,
            request: Request<GetEventsRequest>,
        ) -> Answer<Response<Self::GetContainerEventsStream>> {
            self.events(request).await
        }

        type StreamPodSandboxesStream = Parts<StreamPodSandboxesResponse>;
        async fn stream_pod_sandboxes(
            &self,
            request: Request<StreamPodSandboxesRequest>,
        ) -> Answer<Response<Self::StreamPodSandboxesStream>> {
            self.call("StreamPodSandboxes", request, |model, request| {
                let list = model.list_pod_sandbox(&ListPodSandboxRequest { filter: request.filter.clone() })?;
                Ok(parts(list.items, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }).boxed())
            })
            .await
        }

        type StreamContainersStream = Parts<StreamContainersResponse>;
        async fn stream_containers(
            &self,
            request: Request<StreamContainersRequest>,
        ) -> Answer<Response<Self::StreamContainersStream>> {
            self.call("StreamContainers", request, |model, request| {
                let list = model.list_containers(&ListContainersRequest { filter: request.filter.clone() })?;
                Ok(parts(list.containers, |containers| StreamContainersResponse { containers }).boxed())
            })
            .await
        }
    }
}

service! {
    ImageService;
    model {
        list_images "ListImages"(ListImagesRequest) -> ListImagesResponse;
        image_status "ImageStatus"(ImageStatusRequest) -> ImageStatusResponse;
        pull_image "PullImage"(PullImageRequest) -> PullImageResponse;
        remove_image "RemoveImage"(RemoveImageRequest) -> RemoveImageResponse;
        image_fs_info "ImageFsInfo"(ImageFsInfoRequest) -> ImageFsInfoResponse;
    }
    absent {}
    absent_streams {}
    also {
        type StreamImagesStream = Parts<StreamImagesResponse>;
        async fn stream_images(
            &self,
            request: Request<StreamImagesRequest>,
        ) -> Answer<Response<Self::StreamImagesStream>> {
            self.call("StreamImages", request, |model, request| {
                let list = model.list_images(&ListImagesRequest { filter: request.filter.clone() })?;
                Ok(parts(list.images, |images| StreamImagesResponse { images }).boxed())
            })
            .await
        }
    }
}
