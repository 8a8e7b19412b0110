//! One attempt at a socket: who it is, whether it can be used, and what it is told (upstream
//! `pkg/kubelet/pluginmanager/operationexecutor/operation_generator.go`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube_model::syntax;
use node_proto::pluginregistration::v1::registration_client::RegistrationClient;
use node_proto::pluginregistration::v1::{InfoRequest, PluginInfo, RegistrationStatus};
use tonic::{Response, Status};

use super::version::Version;
use crate::drivers::NodeInfo;
use crate::error::Error;
use crate::metrics::{Calls, Counted};
use crate::session::{Session, TIMEOUT};
use crate::transport;

/// How long a plugin may take to say who it is, and to hear what came of it.
const INFO: Duration = Duration::from_secs(1);
const NOTIFY: Duration = Duration::from_secs(5);

/// Longest name that a driver may have for the node.
const NODE_ID: usize = 256;

/// Who a driver is.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) name: String,
    pub(super) endpoint: PathBuf,
    pub(super) version: Version,
    pub(super) node: NodeInfo,
}

/// Asks who it is. One that cannot be used is told so.
pub(super) async fn learn(socket: &Path, counted: Arc<Counted>) -> Result<Learned, String> {
    let info = info(socket).await.map_err(|error| format!("its GetInfo failed: {error}"))?;
    match use_of(socket, info, counted).await {
        Ok(learned) => Ok(learned),
        Err(why) => {
            // What it does not hear it is told with the next attempt.
            let _ = notify(socket, Err(why.clone())).await;
            Err(why)
        }
    }
}

async fn use_of(socket: &Path, info: PluginInfo, counted: Arc<Counted>) -> Result<Learned, String> {
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
    let session = Session::new(endpoint.as_path().into(), Calls::new(&name, counted), TIMEOUT);
    let node = node_info(&name, &session).await?;
    Ok(Learned { name, endpoint, version, node })
}

/// Asks a driver for what it says of the node; a server can be told of it.
pub(crate) async fn node_info(name: &str, session: &Session) -> Result<NodeInfo, String> {
    let node = session.node_info().await;
    let node = node.map_err(|error| format!("NodeGetInfo of CSI driver {name} failed: {error}"))?;
    can_be_told(name, &node).map_err(|why| format!("NodeGetInfo of CSI driver {name}: {why}"))?;
    Ok(node)
}

/// Whether an API server can be told of it (upstream `pkg/apis/storage/validation` `validateCSINodeDriver`).
fn can_be_told(name: &str, node: &NodeInfo) -> Result<(), String> {
    if let Some(why) = too_long(name, 63).or_else(|| syntax::dns_subdomain(&name.to_ascii_lowercase())) {
        return Err(format!("the driver's name {name:?} {why}"));
    }
    if node.node_id.is_empty() {
        return Err("driverNodeID must not be empty".to_owned());
    }
    if let Some(why) = too_long(&node.node_id, NODE_ID) {
        return Err(format!("driverNodeID {why}"));
    }
    for (key, value) in &node.topology {
        if let Some(why) = syntax::qualified_name(key) {
            return Err(format!("the topology key {key:?} {why}"));
        }
        // It becomes a label of the node.
        if let Some(why) = syntax::label_value(value) {
            return Err(format!("the value {value:?} of the topology key {key:?} {why}"));
        }
    }
    Ok(())
}

fn too_long(text: &str, most: usize) -> Option<String> {
    (text.len() > most).then(|| format!("must be no more than {most} characters"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_server_would_take_is_said_at_once() {
        let node = |node_id: &str, topology: &[(&str, &str)]| NodeInfo {
            node_id: node_id.to_owned(),
            topology: topology.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..NodeInfo::default()
        };
        let long = "n".repeat(257);
        for (name, node, want) in [
            ("disk.CSI.test", node(&long[1..], &[("topology.disk/zone", "a-1"), ("rack", "")]), Ok(())),
            ("disk_csi", node("n", &[]), Err("the driver's name \"disk_csi\" must be")),
            (&long[..64], node("n", &[]), Err("must be no more than 63 characters")),
            ("d", node("", &[]), Err("driverNodeID must not be empty")),
            ("d", node(&long, &[]), Err("driverNodeID must be no more than 256 characters")),
            ("d", node("n", &[("a/b/c", "1")]), Err("the topology key \"a/b/c\" ")),
            ("d", node("n", &[("a", "1 2")]), Err("the value \"1 2\" of the topology key \"a\" must be")),
        ] {
            match (can_be_told(name, &node), want) {
                (Ok(()), Ok(())) => {}
                (Err(why), Err(want)) => assert!(why.contains(want), "{why}"),
                (found, want) => panic!("{name} {node:?}: {found:?}, not {want:?}"),
            }
        }
    }
}
