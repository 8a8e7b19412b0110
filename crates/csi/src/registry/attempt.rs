//! One attempt at a socket: who it is, whether it can be used, and what it is told (upstream
//! `pkg/kubelet/pluginmanager/operationexecutor/operation_generator.go`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use node_proto::pluginregistration::v1::registration_client::RegistrationClient;
use node_proto::pluginregistration::v1::{InfoRequest, PluginInfo, RegistrationStatus};
use tonic::{Response, Status};

use super::version::Version;
use crate::drivers::NodeInfo;
use crate::error::Error;
use crate::session::{Session, TIMEOUT};
use crate::transport;

/// How long a plugin may take to say who it is, and to hear what came of it.
const INFO: Duration = Duration::from_secs(1);
const NOTIFY: Duration = Duration::from_secs(5);

/// Who a driver is.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) name: String,
    pub(super) endpoint: PathBuf,
    pub(super) version: Version,
    pub(super) node: NodeInfo,
}

/// Asks who it is. One that cannot be used is told so.
pub(super) async fn learn(socket: &Path) -> Result<Learned, String> {
    let info = info(socket).await.map_err(|error| format!("its GetInfo failed: {error}"))?;
    match use_of(socket, info).await {
        Ok(learned) => Ok(learned),
        Err(why) => {
            // What it does not hear it is told with the next attempt.
            let _ = notify(socket, Err(why.clone())).await;
            Err(why)
        }
    }
}

async fn use_of(socket: &Path, info: PluginInfo) -> Result<Learned, String> {
    let PluginInfo { r#type: kind, name, endpoint, supported_versions } = info;
    if kind != "CSIPlugin" {
        let at = socket.display();
        return Err(format!(
            "RegisterPlugin error -- no handler registered for plugin type: {kind} at socket {at}"
        ));
    }
    if name.is_empty() {
        return Err("RegisterPlugin error -- the plugin has no name".to_owned());
    }
    let endpoint = if endpoint.is_empty() { socket.to_owned() } else { PathBuf::from(&endpoint) };
    let version = Version::highest(&supported_versions).map_err(|why| {
        format!("validation failed for CSI Driver {name} at endpoint {}: {why}", endpoint.display())
    })?;
    let node = Session::new(endpoint.as_path().into(), TIMEOUT).node_info().await;
    let node = node.map_err(|error| format!("NodeGetInfo of CSI driver {name} failed: {error}"))?;
    if node.node_id.is_empty() {
        return Err(format!("NodeGetInfo of CSI driver {name}: driverNodeID must not be empty"));
    }
    Ok(Learned { name, endpoint, version, node })
}

async fn info(socket: &Path) -> Result<PluginInfo, Error> {
    let mut client = RegistrationClient::new(transport::channel(socket));
    within("GetInfo", INFO, socket, client.get_info(InfoRequest {})).await
}

/// Tells it whether it is registered, and why not.
pub(super) async fn notify(socket: &Path, registered: Result<(), String>) -> Result<(), String> {
    let plugin_registered = registered.is_ok();
    let status = RegistrationStatus { plugin_registered, error: registered.err().unwrap_or_default() };
    let mut client = RegistrationClient::new(transport::channel(socket));
    let told =
        within("NotifyRegistrationStatus", NOTIFY, socket, client.notify_registration_status(status)).await;
    told.map(|_| ()).map_err(|error| format!("it could not be told that it is registered: {error}"))
}

async fn within<T>(
    method: &'static str,
    limit: Duration,
    socket: &Path,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Error::of(method, socket, &status, false)),
        Err(_) => Err(Error::late(method, limit)),
    }
}
