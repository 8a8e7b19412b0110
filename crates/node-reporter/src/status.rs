//! What the Node's status says. Rule: upstream `pkg/kubelet/nodestatus/setters.go`.

use std::collections::BTreeSet;

use kube_model::Timestamp;
use kube_model::core::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeDaemonEndpoints, NodeFeatures, NodeStatus,
    NodeSwapStatus, NodeSystemInfo,
};
use kube_model::view::EventType;

use crate::conditions::{self, PRESSURES};
use crate::facts::{Facts, Settings};
use admission::Resources;

/// Most names of an image.
const MOST_NAMES: usize = 5;

/// Something to be told about the node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: EventType,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The status that `before` becomes. `pressures` says which of [`PRESSURES`] are to be told of. What others wrote
/// stays: conditions, extended resources, attached volumes.
pub(crate) fn status(
    settings: &Settings,
    facts: &Facts,
    pressures: [bool; 3],
    before: &NodeStatus,
    now: Timestamp,
) -> (NodeStatus, Vec<Event>) {
    let mut status = before.clone();
    let mut events = Vec::new();
    let name = &settings.name;
    let mut tell = |reason: &'static str| {
        events.push(Event {
            kind: EventType::Normal,
            reason,
            message: format!("Node {name} status is now: {reason}"),
        });
    };

    if !settings.external_cloud || status.addresses.is_none() {
        status.addresses = Some(addresses(settings, facts));
    }
    let (capacity, allocatable) = (settings.resources.capacity_list(), settings.resources.allocatable_list());
    let mut conditions = status.conditions.take().unwrap_or_default();
    for (pressure, high) in PRESSURES.iter().zip(pressures) {
        // A condition that is new is told of, too.
        if conditions::set(&mut conditions, pressure.condition(high), now) != Some(false) {
            tell(pressure.event(high));
        }
    }
    let ready = conditions::ready(&settings.limits, facts, &capacity);
    let is_ready = ready.status == "True";
    match conditions::set(&mut conditions, ready, now) {
        Some(true) if !is_ready => tell("NodeNotReady"),
        // A kubelet's node is never ready from the beginning; ours is if the runtime answers fast enough.
        Some(true) | None if is_ready => tell("NodeReady"),
        _ => {}
    }
    status.conditions = Some(conditions);

    let rebooted = before.node_info.as_ref().map(|info| info.boot_id.as_str());
    let boot_id = &facts.hardware.boot_id;
    if rebooted.is_some_and(|before| !before.is_empty() && before != boot_id) {
        events.push(Event {
            kind: EventType::Warning,
            reason: "Rebooted",
            message: format!("Node {name} has been rebooted, boot id: {boot_id}"),
        });
    }
    (status.capacity, status.allocatable) = with_foreign(capacity, allocatable, before);
    status.node_info = Some(node_info(settings, facts));
    status.daemon_endpoints = settings
        .port
        .map(|port| NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }) });
    status.images = Some(images(settings, &facts.images));
    let mut handlers = facts.runtime.handlers.clone();
    handlers.sort_by(|a, b| a.name.cmp(&b.name));
    status.runtime_handlers = (!handlers.is_empty()).then_some(handlers);
    status.features = facts
        .runtime
        .supplemental_groups_policy
        .map(|known| NodeFeatures { supplemental_groups_policy: Some(known) });
    let in_use = &facts.volumes_in_use;
    let kept = status.volumes_in_use.take().filter(|_| !in_use.all);
    let volumes: BTreeSet<_> = in_use.names.iter().cloned().chain(kept.into_iter().flatten()).collect();
    status.volumes_in_use = Some(volumes.into_iter().collect::<Vec<_>>()).filter(|all| !all.is_empty());
    status.declared_features = Some(settings.declared_features.clone()).filter(|all| !all.is_empty());
    (status, events)
}

fn addresses(settings: &Settings, facts: &Facts) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let hostname = address("Hostname", settings.name.clone());
    if settings.external_cloud {
        return vec![hostname];
    }
    let internal = facts.addresses.iter().map(|ip| address("InternalIP", ip.to_string()));
    internal.chain([hostname]).collect()
}

/// Resources that others wrote into the capacity, such as those of no device plugin, are kept and can be had.
fn with_foreign(
    mut capacity: Resources,
    mut allocatable: Resources,
    before: &NodeStatus,
) -> (Option<Resources>, Option<Resources>) {
    // What is not written any more is gone: a size of huge pages that the kernel lost.
    let ours = |name: &str| name.starts_with("hugepages-") || !name.contains('/');
    for (name, amount) in before.capacity.iter().flatten().filter(|(name, _)| !ours(name)) {
        capacity.insert(name.clone(), amount.clone());
        allocatable.insert(name.clone(), amount.clone());
    }
    (Some(capacity), Some(allocatable))
}

fn node_info(settings: &Settings, facts: &Facts) -> NodeSystemInfo {
    let (hardware, runtime) = (&facts.hardware, &facts.runtime);
    NodeSystemInfo {
        machine_id: hardware.machine_id.clone(),
        system_uuid: hardware.system_uuid.clone(),
        boot_id: hardware.boot_id.clone(),
        kernel_version: hardware.kernel_version.clone(),
        os_image: hardware.os_image.clone(),
        container_runtime_version: format!("{}://{}", runtime.name, runtime.version),
        kubelet_version: settings.version.clone(),
        kube_proxy_version: String::new(),
        operating_system: "linux".to_owned(),
        architecture: hardware.architecture.clone(),
        swap: (hardware.swap > 0).then_some(NodeSwapStatus { capacity: Some(hardware.swap) }),
    }
}

/// The largest first. Rule: upstream `Images`.
fn images(settings: &Settings, all: &[ContainerImage]) -> Vec<ContainerImage> {
    let mut images = all.to_vec();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    images.truncate(settings.max_images.unwrap_or(usize::MAX));
    for image in &mut images {
        if let Some(names) = &mut image.names {
            names.truncate(MOST_NAMES);
        }
    }
    images
}

/// Whether two statuses differ in more than the times of the heartbeat.
pub(crate) fn is_changed(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(a) != still(b)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::facts::VolumesInUse;
    use crate::testing::{facts, settings};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reasons(events: &[Event]) -> Vec<&str> {
        events.iter().map(|e| e.reason).collect()
    }

    #[test]
    fn a_new_node_tells_of_its_pressures_and_then_of_readiness() {
        let (settings, mut facts) = (settings(), facts());
        facts.runtime.problems = vec!["container runtime is down".to_owned()];
        let (first, events) = status(&settings, &facts, [false; 3], &NodeStatus::default(), at(1));
        let pressures = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"];
        assert_eq!(reasons(&events), pressures);
        assert_eq!(events[0].message, "Node node1 status is now: NodeHasSufficientMemory");
        let (_, events) = status(&settings, &facts, [false; 3], &first, at(2));
        assert_eq!(reasons(&events), [""; 0]);
        facts.runtime.problems.clear();
        let (second, events) = status(&settings, &facts, [true, false, false], &first, at(3));
        assert_eq!(reasons(&events), ["NodeHasInsufficientMemory", "NodeReady"]);
        let (_, events) = status(&settings, &facts, [false; 3], &NodeStatus::default(), at(3));
        assert_eq!(reasons(&events), [&pressures[..], &["NodeReady"]].concat(), "ready from the beginning");
        facts.hardware.boot_id = "other".to_owned();
        let (_, events) = status(&settings, &facts, [true, false, false], &second, at(4));
        assert_eq!(reasons(&events), ["Rebooted"]);
    }

    #[test]
    fn volumes_are_in_use_until_all_that_are_is_known() {
        let (settings, mut facts) = (settings(), facts());
        let mut before = NodeStatus::default();
        for (names, all, want) in [
            (&[][..], false, None),
            (&["b", "a"][..], false, Some(["a", "b"].as_slice())),
            (&["c"][..], false, Some(["a", "b", "c"].as_slice())),
            (&["c"][..], true, Some(["c"].as_slice())),
            (&[][..], true, None),
        ] {
            facts.volumes_in_use =
                VolumesInUse { names: names.iter().map(ToString::to_string).collect(), all, revision: 0 };
            before = status(&settings, &facts, [false; 3], &before, at(1)).0;
            let want = want.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(before.volumes_in_use, want, "{names:?} {all}");
        }
    }

    #[test]
    fn it_says_what_the_kubelet_says() {
        let mut facts = facts();
        facts.images = serde_json::from_value(json!([
            {"names": ["a"], "sizeBytes": 1},
            {"names": ["1", "2", "3", "4", "5", "6"], "sizeBytes": 2},
        ]))
        .unwrap();
        let mut settings = settings();
        settings.max_images = Some(1);
        let (status, _) = status(&settings, &facts, [false; 3], &NodeStatus::default(), at(1));
        let mut status = serde_json::to_value(&status).unwrap();
        let conditions = status["conditions"].take();
        let kinds: Vec<&Value> = conditions.as_array().unwrap().iter().map(|c| &c["type"]).collect();
        assert_eq!(kinds, ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]);
        assert_eq!(
            status,
            json!({
                "conditions": null,
                "addresses": [
                    {"type": "InternalIP", "address": "192.0.2.2"}, {"type": "Hostname", "address": "node1"}
                ],
                "capacity": {"cpu": "2", "ephemeral-storage": "1Gi", "memory": "1Gi", "pods": "110"},
                "allocatable": {"cpu": "2", "ephemeral-storage": "1Gi", "memory": "1Gi", "pods": "110"},
                "declaredFeatures": ["ExtendWebSocketsToKubelet"],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                "nodeInfo": {
                    "machineID": "m", "systemUUID": "s", "bootID": "b", "kernelVersion": "6.1", "osImage": "Debian",
                    "containerRuntimeVersion": "containerd://2.1.9", "kubeletVersion": "v1.36.2",
                    "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"
                },
                "images": [{"names": ["1", "2", "3", "4", "5"], "sizeBytes": 2}],
            })
        );
    }

    #[test]
    fn what_others_wrote_stays() {
        let before: NodeStatus = serde_json::from_value(json!({
            "capacity": {"example.com/dongle": "4", "hugepages-1Gi": "1Gi", "cpu": "9"},
            "conditions": [{"type": "KernelDeadlock", "status": "False"}],
            "volumesAttached": [{"name": "v", "devicePath": "d"}],
            "addresses": [{"type": "ExternalIP", "address": "203.0.113.1"}],
        }))
        .unwrap();
        let mut settings = settings();
        settings.external_cloud = true;
        let (after, _) = status(&settings, &facts(), [false; 3], &before, at(1));
        let after = serde_json::to_value(after).unwrap();
        assert_eq!(
            after["capacity"],
            json!({
                "cpu": "2", "ephemeral-storage": "1Gi", "example.com/dongle": "4", "memory": "1Gi", "pods": "110"
            })
        );
        assert_eq!(after["allocatable"], after["capacity"]);
        assert_eq!(after["conditions"][0], json!({"type": "KernelDeadlock", "status": "False"}));
        assert_eq!(after["volumesAttached"], json!([{"name": "v", "devicePath": "d"}]));
        assert_eq!(after["addresses"], json!([{"type": "ExternalIP", "address": "203.0.113.1"}]));
    }

    #[test]
    fn a_heartbeat_is_no_change() {
        let (settings, mut facts) = (settings(), facts());
        let (first, _) = status(&settings, &facts, [false; 3], &NodeStatus::default(), at(1));
        let (second, _) = status(&settings, &facts, [false; 3], &first, at(9));
        assert!(first != second && !is_changed(&first, &second));
        facts.hardware.os_image = "Debian 13".to_owned();
        let (third, _) = status(&settings, &facts, [false; 3], &first, at(9));
        assert!(is_changed(&first, &third));
    }
}
