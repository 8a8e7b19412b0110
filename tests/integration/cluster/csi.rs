//! Drivers of volumes (CSI): how the cluster hears of them, and what pods have of them.

use serde_json::{Value, json};
use testkit::env::{Line, until};
use testkit::fake_csi::{CsiOptions, FakeCsi};

use super::{ClusterNode, SOON};

const CSI_NODE: &str = "/apis/storage.k8s.io/v1/csinodes/node1";

impl ClusterNode {
    /// Has a driver make itself known to the agent.
    fn register(&self, driver: &FakeCsi) {
        driver.register(&self.agent.root().join("plugins_registry")).unwrap();
        let told =
            until("the driver is told that it is registered", SOON, || match driver.statuses().last() {
                Some(status) if status.plugin_registered => Ok(()),
                other => Err(format!("{other:?}")),
            });
        told.unwrap();
    }

    fn until_drivers(&self, want: &Value) {
        self.until(&format!("the CSINode has {want}"), CSI_NODE, |object| {
            let none = json!([]);
            let drivers = &object["spec"]["drivers"];
            (if drivers.is_null() { &none } else { drivers }) == want
        });
    }
}

#[test]
fn the_cluster_hears_of_drivers_that_come_and_go() {
    let mut node = ClusterNode::start(Line::V2_1);
    node.until_drivers(&json!([]));
    let uid = node.until_node("is there", |_| true)["metadata"]["uid"].clone();
    let owners =
        node.until("the CSINode is there", CSI_NODE, |_| true)["metadata"]["ownerReferences"].clone();
    assert_eq!(owners, json!([{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": uid}]));

    let options = CsiOptions::new("one.csi.test").max_volumes(7).topology("topology.test/zone", "a");
    let one = FakeCsi::start(options).unwrap();
    let two = FakeCsi::start(CsiOptions::new("two.csi.test")).unwrap();
    node.register(&one);
    let has_one = json!({
        "name": "one.csi.test", "nodeID": "node-of-one.csi.test", "topologyKeys": ["topology.test/zone"],
        "allocatable": {"count": 7},
    });
    node.until_drivers(&json!([has_one]));
    node.register(&two);
    let has_two = json!({"name": "two.csi.test", "nodeID": "node-of-two.csi.test", "topologyKeys": null});
    node.until_drivers(&json!([has_one, has_two]));
    node.until_node("says what drivers call it", |node| {
        let ids =
            node["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"].as_str().unwrap_or_default();
        let ids: Value = serde_json::from_str(ids).unwrap_or_default();
        ids == json!({"one.csi.test": "node-of-one.csi.test", "two.csi.test": "node-of-two.csi.test"})
            && node["metadata"]["labels"]["topology.test/zone"] == "a"
    });

    // Those that are not there yet after a restart are left as they are.
    node.agent.kill9();
    one.unregister();
    node.agent.start_again().unwrap();
    node.agent.wait_healthy().unwrap();
    node.register(&two);
    node.until_drivers(&json!([has_one, has_two]));
    two.unregister();
    node.until_drivers(&json!([has_one]));
    node.until_node("has forgotten one", |node| {
        let ids = node["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"].as_str();
        ids == Some("{\"one.csi.test\":\"node-of-one.csi.test\"}")
    });
    let denied: Vec<_> =
        node.cluster.audit().unwrap().into_iter().filter(|r| r.code == 403 || r.code == 401).collect();
    assert!(denied.is_empty(), "{denied:?}");
}
