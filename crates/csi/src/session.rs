//! One operation with a driver: its calls share a connection; those of each step a time limit, as the kubelet's do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node_proto::csi::v1::node_client::NodeClient;
use node_proto::csi::v1::node_service_capability::{Type, rpc};
use node_proto::csi::v1::*;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::drivers::NodeInfo;
use crate::error::Error;
use crate::metrics::Calls;
use crate::transport;

/// How long a step of an operation may take (upstream `csiTimeout`).
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// What a driver can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Volumes are staged before they are published.
    pub stage_unstage: bool,
    /// It tells how full a volume is.
    pub volume_stats: bool,
    /// It makes use of a volume that has grown.
    pub expand: bool,
    /// It tells one writer of a node from several.
    pub single_node_multi_writer: bool,
    /// It gives the files to the pod's group.
    pub volume_mount_group: bool,
}

impl Capabilities {
    fn of(response: &NodeGetCapabilitiesResponse) -> Self {
        let mut all = Self::default();
        for capability in &response.capabilities {
            let Some(Type::Rpc(rpc)) = &capability.r#type else { continue };
            match rpc.r#type() {
                rpc::Type::StageUnstageVolume => all.stage_unstage = true,
                rpc::Type::GetVolumeStats => all.volume_stats = true,
                rpc::Type::ExpandVolume => all.expand = true,
                rpc::Type::SingleNodeMultiWriter => all.single_node_multi_writer = true,
                rpc::Type::VolumeMountGroup => all.volume_mount_group = true,
                rpc::Type::Unknown | rpc::Type::VolumeCondition => {}
            }
        }
        all
    }
}

/// One operation with a driver. Dropping the future of a call cancels it at the driver.
#[derive(Debug)]
pub struct Session {
    channel: Channel,
    endpoint: Arc<Path>,
    calls: Calls,
    limit: Duration,
    end: Instant,
}

/// Writes the calls that are answered with nothing.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident $rpc:ident $method:literal ($request:ident);)*) => {
        impl Session {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// What the driver, or the connection, says.
                pub async fn $name(&self, request: $request) -> Result<(), Error> {
                    let send = |mut client: NodeClient<Channel>, request| async move { client.$rpc(request).await };
                    self.call($method, request, send).await.map(|_| ())
                }
            )*
        }
    };
}

calls! {
    /// Makes a volume usable on the node.
    stage node_stage_volume "NodeStageVolume" (NodeStageVolumeRequest);
    /// Undoes that.
    unstage node_unstage_volume "NodeUnstageVolume" (NodeUnstageVolumeRequest);
    /// Mounts a volume for one pod.
    publish node_publish_volume "NodePublishVolume" (NodePublishVolumeRequest);
    /// Undoes that.
    unpublish node_unpublish_volume "NodeUnpublishVolume" (NodeUnpublishVolumeRequest);
    /// Has what uses a volume use all of it, now that it has grown.
    expand node_expand_volume "NodeExpandVolume" (NodeExpandVolumeRequest);
}

impl Session {
    /// Connects with the first call. Within a tokio runtime.
    pub(crate) fn new(endpoint: Arc<Path>, calls: Calls, limit: Duration) -> Self {
        Self { channel: transport::channel(&endpoint), endpoint, calls, limit, end: Instant::now() + limit }
    }

    /// Begins the next step of the operation, which may take as long as the first.
    #[must_use]
    pub fn next_step(&self) -> Self {
        let (channel, endpoint, calls) =
            (self.channel.clone(), Arc::clone(&self.endpoint), self.calls.clone());
        Self { channel, endpoint, calls, limit: self.limit, end: Instant::now() + self.limit }
    }

    /// What the driver can do.
    ///
    /// # Errors
    /// What the driver, or the connection, says.
    pub async fn capabilities(&self) -> Result<Capabilities, Error> {
        let request = NodeGetCapabilitiesRequest {};
        let send = |mut client: NodeClient<Channel>, request| async move {
            client.node_get_capabilities(request).await
        };
        self.call("NodeGetCapabilities", request, send).await.map(|response| Capabilities::of(&response))
    }

    /// What the driver calls this node, and what it can take.
    ///
    /// # Errors
    /// What the driver, or the connection, says.
    pub async fn node_info(&self) -> Result<NodeInfo, Error> {
        let send =
            |mut client: NodeClient<Channel>, request| async move { client.node_get_info(request).await };
        let response = self.call("NodeGetInfo", NodeGetInfoRequest {}, send).await?;
        Ok(NodeInfo {
            node_id: response.node_id,
            max_volumes: response.max_volumes_per_node,
            topology: response.accessible_topology.map(|topology| topology.segments).unwrap_or_default(),
        })
    }

    /// How full a volume is.
    ///
    /// # Errors
    /// What the driver, or the connection, says.
    pub async fn stats(&self, request: NodeGetVolumeStatsRequest) -> Result<Vec<VolumeUsage>, Error> {
        let send = |mut client: NodeClient<Channel>, request| async move {
            client.node_get_volume_stats(request).await
        };
        self.call("NodeGetVolumeStats", request, send).await.map(|response| response.usage)
    }

    async fn call<Req, Res, F>(
        &self,
        method: &'static str,
        request: Req,
        send: impl FnOnce(NodeClient<Channel>, Request<Req>) -> F,
    ) -> Result<Res, Error>
    where
        F: Future<Output = Result<Response<Res>, Status>>,
    {
        let began = Instant::now();
        let left = self.end.saturating_duration_since(began);
        let mut request = Request::new(request);
        // The driver gives up at the same time.
        request.set_timeout(left);
        let answer = tokio::time::timeout(left, send(NodeClient::new(self.channel.clone()), request)).await;
        let answer = match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                let late = self.end <= Instant::now() + Duration::from_millis(1);
                Err(Error::of(method, &self.endpoint, &status, late))
            }
            Err(_) => Err(Error::deadline(method)),
        };
        self.calls.ended(method, &answer, began.elapsed());
        let failed = answer.as_ref().err().map(ToString::to_string);
        tracing::debug!(target: "csi", method, endpoint = %self.endpoint.display(), failed, "driver called");
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_step_has_all_of_the_time() {
        let session = Session::new(Path::new("/nowhere").into(), Calls::new("d", Arc::default()), TIMEOUT);
        tokio::time::advance(TIMEOUT - Duration::from_secs(5)).await;
        let next = session.next_step();
        assert_eq!(session.end - Instant::now(), Duration::from_secs(5));
        assert_eq!(next.end - Instant::now(), TIMEOUT);
        tokio::time::advance(TIMEOUT - Duration::from_secs(1)).await;
        assert_eq!(next.next_step().end - Instant::now(), TIMEOUT);
    }
}
