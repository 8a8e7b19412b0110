//! What is to be changed of CSINode and Node, as they are.

use std::collections::BTreeMap;

use kube_model::core::Node;
use kube_model::k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};

use super::CsiDriver;
use crate::traits::ApiError;

/// What each driver calls the node, as a JSON object.
const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";

/// The CSINode of a node without drivers; it goes with the Node.
pub(super) fn empty(node: &Node) -> CSINode {
    let name = node.metadata.name.clone().unwrap_or_default();
    let mut csi_node = CSINode { spec: CSINodeSpec { drivers: Vec::new() }, ..CSINode::default() };
    csi_node.metadata.name = Some(name.clone());
    csi_node.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name,
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }]);
    csi_node
}

/// Whether it is of this Node, not of an earlier one of the name.
pub(super) fn is_of(csi_node: &CSINode, node: &Node) -> bool {
    let owners = csi_node.metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.kind == "Node").any(|owner| {
        node.metadata.name.as_ref() == Some(&owner.name) && node.metadata.uid.as_ref() == Some(&owner.uid)
    })
}

/// Whether the node has labels that say otherwise than the driver's topology.
///
/// # Errors
/// They do, in upstream's words: nothing is said of the driver.
pub(super) fn collision(node: &Node, driver: Option<&CsiDriver>) -> Result<(), ApiError> {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let mut topology = driver.into_iter().flat_map(|driver| &driver.topology);
    match topology
        .find_map(|(key, value)| label(key).filter(|has| *has != value).map(|has| (key, value, has)))
    {
        None => Ok(()),
        Some((key, value, has)) => Err(ApiError::Other(format!(
            "detected topology value collision: driver reported {key:?}:{value:?} but existing label is {key:?}:{has:?}"
        ))),
    }
}

/// The patch that has the Node say what it has to.
///
/// # Errors
/// What drivers call the node cannot be read there.
pub(super) fn of_node(
    node: &Node,
    name: &str,
    driver: Option<&CsiDriver>,
) -> Result<Option<Value>, ApiError> {
    let annotation = node.metadata.annotations.as_ref().and_then(|all| all.get(NODE_ID));
    let mut ids: BTreeMap<String, String> = match annotation.filter(|text| !text.is_empty()) {
        None => BTreeMap::new(),
        Some(text) => serde_json::from_str(text).map_err(|error| {
            ApiError::Other(format!(
                "failed to parse node's {NODE_ID:?} annotation value ({text:?}): {error}"
            ))
        })?,
    };
    let before = ids.clone();
    match driver {
        Some(driver) => ids.insert(name.to_owned(), driver.node_id.clone()),
        None => ids.remove(name),
    };
    let mut metadata = Map::new();
    if ids != before {
        let text = if ids.is_empty() { Value::Null } else { json!(json!(ids).to_string()) };
        metadata.insert("annotations".to_owned(), json!({ NODE_ID: text }));
    }
    // Labels of a driver that has gone stay, as upstream: volumes may name them.
    let has = |key: &str| node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(key));
    let topology = driver.into_iter().flat_map(|driver| &driver.topology);
    let missing = topology.filter(|(key, _)| !has(key));
    let missing: Map<String, Value> = missing.map(|(key, value)| (key.clone(), json!(value))).collect();
    if !missing.is_empty() {
        metadata.insert("labels".to_owned(), missing.into());
    }
    Ok((!metadata.is_empty()).then(|| json!({ "metadata": metadata })))
}

/// The next step to the CSINode as it has to be, if it is not: the server lets nobody change a driver's entry, but for how
/// many volumes it can take, so that it goes first (upstream `pkg/apis/storage/validation` `ValidateCSINodeUpdate`).
pub(super) fn of_csi_node(found: &CSINode, name: &str, driver: Option<&CsiDriver>) -> Option<CSINode> {
    let wanted = driver.map(|driver| entry(name, driver));
    let mut drivers = found.spec.drivers.clone();
    match (drivers.iter().position(|has| has.name == name), wanted) {
        (None, None) => return None,
        (None, Some(wanted)) => drivers.push(wanted),
        (Some(at), None) => drop(drivers.remove(at)),
        (Some(at), Some(wanted)) => {
            match (is_same(&drivers[at], &wanted), count(&drivers[at]) == count(&wanted)) {
                (true, true) => return None,
                (true, false) => drivers[at].allocatable = wanted.allocatable,
                (false, _) => drop(drivers.remove(at)),
            }
        }
    }
    Some(CSINode { spec: CSINodeSpec { drivers }, ..found.clone() })
}

fn entry(name: &str, driver: &CsiDriver) -> CSINodeDriver {
    if driver.max_volumes < 0 {
        let limit = driver.max_volumes;
        tracing::error!("Invalid attach limit value {limit} cannot be added to CSINode object for {name:?}");
    }
    let count = i32::try_from(driver.max_volumes.min(i32::MAX.into())).ok().filter(|count| *count > 0);
    let keys: Vec<String> = driver.topology.keys().cloned().collect();
    CSINodeDriver {
        name: name.to_owned(),
        node_id: driver.node_id.clone(),
        topology_keys: (!keys.is_empty()).then_some(keys),
        allocatable: count.map(|count| VolumeNodeResources { count: Some(count) }),
    }
}

/// Whether they say the same of the node, whatever the order of the keys.
fn is_same(one: &CSINodeDriver, other: &CSINodeDriver) -> bool {
    let keys = |driver: &CSINodeDriver| {
        let mut keys = driver.topology_keys.clone().unwrap_or_default();
        keys.sort();
        keys
    };
    one.node_id == other.node_id && keys(one) == keys(other)
}

/// How many volumes, whichever way nothing is said.
fn count(driver: &CSINodeDriver) -> Option<i32> {
    driver.allocatable.as_ref().and_then(|allocatable| allocatable.count)
}
