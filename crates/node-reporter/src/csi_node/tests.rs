use std::sync::Mutex;

use serde_json::json;

use super::change::{empty, is_of, of_csi_node, of_node, without_collisions};
use super::*;

fn node(metadata: Value) -> Node {
    let mut all = json!({"name": "node1", "uid": "u1"});
    all.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": all})).unwrap()
}

fn driver(node_id: &str, max_volumes: i64, topology: &[(&str, &str)]) -> Option<CsiDriver> {
    let topology = topology.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Some(CsiDriver { node_id: node_id.to_owned(), max_volumes, topology })
}

fn drivers(all: &[(&str, Option<CsiDriver>)]) -> CsiDrivers {
    all.iter().map(|(name, driver)| ((*name).to_owned(), driver.clone())).collect()
}

fn spec(csi_node: &CSINode) -> Value {
    serde_json::to_value(&csi_node.spec.drivers).unwrap()
}

#[test]
fn the_csi_node_is_of_its_node() {
    let of = empty(&node(json!({})));
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "u1"}]);
    assert_eq!(
        serde_json::to_value(&of.metadata).unwrap(),
        json!({"name": "node1", "ownerReferences": owner})
    );
    assert!(is_of(&of, &node(json!({}))));
    assert!(!is_of(&of, &node(json!({"uid": "u2"}))), "one that was made anew");
    assert!(!is_of(&CSINode::default(), &node(json!({}))));
}

#[test]
fn drivers_come_change_and_go() {
    let mut has = empty(&node(json!({})));
    let steps = [
        (
            drivers(&[("a", driver("n", 7, &[("z", "1"), ("r", "2")]))]),
            Some(
                json!([{"name": "a", "nodeID": "n", "topologyKeys": ["r", "z"], "allocatable": {"count": 7}}]),
            ),
        ),
        (drivers(&[("a", driver("n", 7, &[("z", "1"), ("r", "2")]))]), None),
        (
            drivers(&[("b", driver("m", 0, &[])), ("a", driver("n", 1 << 40, &[]))]),
            Some(json!([
                {"name": "a", "nodeID": "n", "allocatable": {"count": i32::MAX}},
                {"name": "b", "nodeID": "m"},
            ])),
        ),
        // Of what nobody tells in this run nothing is known: it stays.
        (drivers(&[]), None),
        (drivers(&[("b", driver("m", -3, &[]))]), None),
        (drivers(&[("a", None), ("c", None)]), Some(json!([{"name": "b", "nodeID": "m"}]))),
    ];
    for (drivers, want) in steps {
        let changed = of_csi_node(&has, &drivers);
        assert_eq!(changed.as_ref().map(spec), want, "{drivers:?}");
        has = changed.unwrap_or(has);
    }
}

#[test]
fn the_node_says_what_drivers_call_it_and_where_it_is() {
    let ids = |text: &str| json!({"annotations": {"csi.volume.kubernetes.io/nodeid": text}});
    for (has, drivers, want) in [
        (
            json!({}),
            drivers(&[("a", driver("n", 0, &[("zone", "1")]))]),
            Some(json!({
                "annotations": {"csi.volume.kubernetes.io/nodeid": "{\"a\":\"n\"}"}, "labels": {"zone": "1"},
            })),
        ),
        (ids("{\"a\":\"n\"}"), drivers(&[("a", driver("n", 0, &[]))]), None),
        (
            ids("{\"a\":\"n\"}"),
            drivers(&[("b", driver("m", 0, &[]))]),
            Some(ids("{\"a\":\"n\",\"b\":\"m\"}")),
        ),
        (ids("{\"a\":\"n\"}"), drivers(&[("b", None)]), None),
        (
            ids("{\"a\":\"n\"}"),
            drivers(&[("a", None)]),
            Some(json!({"annotations": {"csi.volume.kubernetes.io/nodeid": null}})),
        ),
    ] {
        let patch = of_node(&node(has), &drivers).unwrap();
        assert_eq!(patch, want.map(|metadata| json!({ "metadata": metadata })), "{drivers:?}");
    }
    let error = of_node(&node(ids("nonsense")), &drivers(&[("a", None)])).unwrap_err().to_string();
    assert!(error.starts_with("failed to parse node's \"csi.volume.kubernetes.io/nodeid\""), "{error}");
}

#[test]
fn a_driver_whose_topology_the_node_denies_is_left_out_alone() {
    let node = node(json!({"labels": {"zone": "1"}}));
    let all = drivers(&[("a", driver("n", 0, &[("zone", "2")])), ("b", driver("m", 0, &[("zone", "1")]))]);
    let fits: Vec<_> = without_collisions(&node, &all).into_keys().collect();
    assert_eq!(fits, ["b"]);
}

/// A server with one Node.
#[derive(Default)]
struct Server {
    csi_node: Mutex<Option<CSINode>>,
    errors: Mutex<Vec<ApiError>>,
    told: watch::Sender<Value>,
}

impl Server {
    fn failing(&self) -> Result<(), ApiError> {
        self.errors.lock().unwrap().pop().map_or(Ok(()), Err)
    }

    fn put(&self, csi_node: &CSINode) -> Result<CSINode, ApiError> {
        self.failing()?;
        self.told.send_replace(spec(csi_node));
        Ok(self.csi_node.lock().unwrap().insert(csi_node.clone()).clone())
    }
}

impl CsiNodeApi for Server {
    async fn node(&self) -> Result<Node, ApiError> {
        Ok(node(json!({})))
    }

    async fn patch_node_status(&self, _: &Value) -> Result<Node, ApiError> {
        Ok(node(json!({})))
    }

    async fn csi_node(&self) -> Result<CSINode, ApiError> {
        self.csi_node.lock().unwrap().clone().ok_or(ApiError::NotFound)
    }

    async fn create(&self, csi_node: &CSINode) -> Result<CSINode, ApiError> {
        self.put(csi_node)
    }

    async fn replace(&self, csi_node: &CSINode) -> Result<CSINode, ApiError> {
        self.put(csi_node)
    }

    async fn delete(&self) -> Result<(), ApiError> {
        *self.csi_node.lock().unwrap() = None;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_is_told_once_the_node_is_there_and_again_after_a_failure() {
    let (nodes, others) = (watch::Sender::new(None), watch::Sender::new(None));
    let all = watch::Sender::new(Arc::new(CsiDrivers::new()));
    let mut earlier = empty(&node(json!({"uid": "u0"})));
    earlier.spec.drivers =
        of_csi_node(&earlier, &drivers(&[("old", driver("o", 0, &[]))])).unwrap().spec.drivers;
    let server = Arc::new(Server { csi_node: Mutex::new(Some(earlier)), ..Server::default() });
    let mut told = server.told.subscribe();
    let api = Arc::clone(&server);
    let reporter =
        CsiNodes { api, drivers: all.subscribe(), node: nodes.subscribe(), other: others.subscribe() };
    tokio::spawn(reporter.run());
    others.send_replace(Some(false));
    nodes.send_replace(Some(Arc::new(node(json!({})))));
    // That of an earlier node goes.
    assert_eq!(*told.wait_for(|value| value.is_array()).await.unwrap(), json!([]));

    server.errors.lock().unwrap().extend([ApiError::Conflict, ApiError::Other("away".to_owned())]);
    all.send_replace(Arc::new(drivers(&[("a", driver("n", 0, &[]))])));
    let a = json!([{"name": "a", "nodeID": "n"}]);
    assert_eq!(*told.wait_for(|value| *value == a).await.unwrap(), a);
    all.send_replace(Arc::new(drivers(&[("a", None)])));
    told.wait_for(|value| *value == json!([])).await.unwrap();

    // The Node was deleted and made anew, and its CSINode with it.
    *server.csi_node.lock().unwrap() = None;
    all.send_replace(Arc::new(drivers(&[("a", driver("n", 0, &[]))])));
    told.wait_for(|value| *value == a).await.unwrap();
    *server.csi_node.lock().unwrap() = None;
    server.told.send_replace(Value::Null);
    nodes.send_replace(Some(Arc::new(node(json!({"uid": "u2"})))));
    told.wait_for(|value| *value == a).await.unwrap();
    let owner = server.csi_node.lock().unwrap().clone().unwrap().metadata.owner_references.unwrap();
    assert_eq!(owner[0].uid, "u2");
}
