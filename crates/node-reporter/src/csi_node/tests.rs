use std::sync::Mutex;

use serde_json::json;

use super::change::{collision, empty, is_of, of_csi_node, of_node};
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
    let a = json!({"name": "a", "nodeID": "n", "topologyKeys": ["r", "z"], "allocatable": {"count": 7}});
    let more =
        json!({"name": "a", "nodeID": "n", "topologyKeys": ["r", "z"], "allocatable": {"count": i32::MAX}});
    let (b, elsewhere) =
        (json!({"name": "b", "nodeID": "m"}), json!({"name": "a", "nodeID": "n", "topologyKeys": ["r"]}));
    let both = [("z", "1"), ("r", "2")];
    let steps = [
        ("a", driver("n", 7, &both), vec![json!([a])]),
        ("a", driver("n", 7, &both), vec![]),
        ("b", driver("m", 0, &[]), vec![json!([a, b])]),
        ("b", driver("m", -3, &[]), vec![]),
        // How many volumes it can take may change; else it goes first.
        ("a", driver("n", 1 << 40, &both), vec![json!([more, b])]),
        ("a", driver("n", 0, &both[1..]), vec![json!([b]), json!([b, elsewhere])]),
        ("a", driver("o", 0, &[]), vec![json!([b]), json!([b, {"name": "a", "nodeID": "o"}])]),
        ("a", None, vec![json!([b])]),
        ("c", None, vec![]),
    ];
    for (name, driver, want) in steps {
        let mut changes = Vec::new();
        while let Some(changed) = of_csi_node(&has, name, driver.as_ref()) {
            changes.push(spec(&changed));
            has = changed;
        }
        assert_eq!(changes, want, "{name} {driver:?}");
    }
}

#[test]
fn the_node_says_what_drivers_call_it_and_where_it_is() {
    let ids = |text: &str| json!({"annotations": {"csi.volume.kubernetes.io/nodeid": text}});
    for (has, name, driver, want) in [
        (
            json!({}),
            "a",
            driver("n", 0, &[("zone", "1")]),
            Some(json!({
                "annotations": {"csi.volume.kubernetes.io/nodeid": "{\"a\":\"n\"}"}, "labels": {"zone": "1"},
            })),
        ),
        (ids("{\"a\":\"n\"}"), "a", driver("n", 0, &[]), None),
        (ids("{\"a\":\"n\"}"), "b", driver("m", 0, &[]), Some(ids("{\"a\":\"n\",\"b\":\"m\"}"))),
        (ids("{\"a\":\"n\"}"), "b", None, None),
        (
            ids("{\"a\":\"n\"}"),
            "a",
            None,
            Some(json!({"annotations": {"csi.volume.kubernetes.io/nodeid": null}})),
        ),
    ] {
        let patch = of_node(&node(has), name, driver.as_ref()).unwrap();
        assert_eq!(patch, want.map(|metadata| json!({ "metadata": metadata })), "{name} {driver:?}");
    }
    let error = of_node(&node(ids("nonsense")), "a", None).unwrap_err().to_string();
    assert!(error.starts_with("failed to parse node's \"csi.volume.kubernetes.io/nodeid\""), "{error}");
}

#[test]
fn a_topology_that_the_node_denies_is_a_collision() {
    let node = node(json!({"labels": {"zone": "1"}}));
    let zone = |zone| driver("n", 0, &[("zone", zone), ("other", "1")]);
    assert!(collision(&node, None).is_ok() && collision(&node, zone("1").as_ref()).is_ok());
    let error = collision(&node, zone("2").as_ref()).unwrap_err().to_string();
    let said =
        "topology value collision: driver reported \"zone\":\"2\" but existing label is \"zone\":\"1\"";
    assert!(error.contains(said), "{error}");
}

/// A server with one Node.
#[derive(Default)]
struct Server {
    labels: Mutex<BTreeMap<String, String>>,
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
        Ok(node(json!({"labels": *self.labels.lock().unwrap()})))
    }

    async fn patch_node_status(&self, patch: &Value) -> Result<Node, ApiError> {
        for (key, value) in patch["metadata"]["labels"].as_object().into_iter().flatten() {
            if key == "forbidden" {
                return Err(ApiError::Forbidden("is not allowed to modify labels".to_owned()));
            }
            self.labels.lock().unwrap().insert(key.clone(), value.as_str().unwrap().to_owned());
        }
        self.node().await
    }

    async fn csi_node(&self) -> Result<CSINode, ApiError> {
        self.csi_node.lock().unwrap().clone().ok_or(ApiError::NotFound)
    }

    async fn create(&self, csi_node: &CSINode) -> Result<CSINode, ApiError> {
        self.put(csi_node)
    }

    async fn replace(&self, csi_node: &CSINode) -> Result<CSINode, ApiError> {
        let has = self.csi_node.lock().unwrap().clone().unwrap();
        for (old, new) in
            has.spec.drivers.iter().flat_map(|old| csi_node.spec.drivers.iter().map(move |new| (old, new)))
        {
            let same = old.node_id == new.node_id && old.topology_keys == new.topology_keys;
            if old.name == new.name && !same {
                return Err(ApiError::Other("spec.drivers: Invalid value: field is immutable".to_owned()));
            }
        }
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
    earlier.spec.drivers = of_csi_node(&earlier, "old", driver("o", 0, &[]).as_ref()).unwrap().spec.drivers;
    let server = Arc::new(Server { csi_node: Mutex::new(Some(earlier)), ..Server::default() });
    let mut told = server.told.subscribe();
    let api = Arc::clone(&server);
    let problem = watch::Sender::new(Some(CSI_NODE_IS_MISSING.to_owned()));
    let is_ready = problem.subscribe();
    let reporter = CsiNodes {
        api,
        drivers: all.subscribe(),
        node: nodes.subscribe(),
        other: others.subscribe(),
        problem,
    };
    tokio::spawn(reporter.run());
    others.send_replace(Some(false));
    nodes.send_replace(Some(Arc::new(node(json!({})))));
    // That of an earlier node goes.
    assert_eq!(*told.wait_for(|value| value.is_array()).await.unwrap(), json!([]));
    is_ready.clone().wait_for(Option::is_none).await.unwrap();

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

#[tokio::test(start_paused = true)]
async fn one_driver_that_the_server_does_not_want_keeps_no_other() {
    let (nodes, others) =
        (watch::Sender::new(Some(Arc::new(node(json!({}))))), watch::Sender::new(Some(false)));
    let all = watch::Sender::new(Arc::new(drivers(&[
        ("a", driver("n", 0, &[("forbidden", "1")])),
        ("b", driver("n", 0, &[("zone", "1")])),
        // Of two that say otherwise the first is told of.
        ("c", driver("n", 0, &[("zone", "2")])),
        ("d", driver("n", 0, &[])),
    ])));
    let server = Arc::<Server>::default();
    let mut told = server.told.subscribe();
    let api = Arc::clone(&server);
    let problem = watch::Sender::default();
    let reporter = CsiNodes {
        api,
        drivers: all.subscribe(),
        node: nodes.subscribe(),
        other: others.subscribe(),
        problem,
    };
    tokio::spawn(reporter.run());
    let names = |value: &Value| {
        value.as_array().into_iter().flatten().map(|driver| driver["name"].to_string()).collect::<String>()
    };
    told.wait_for(|value| names(value) == "\"b\"\"d\"").await.unwrap();
    // The label is put right: it is looked at again.
    server.labels.lock().unwrap().remove("zone");
    server.labels.lock().unwrap().insert("zone".to_owned(), "2".to_owned());
    let waited = told.wait_for(|value| names(value).contains("\"c\"")).await.unwrap();
    assert_eq!(names(&waited), "\"b\"\"d\"\"c\"");
    drop(waited);

    // A driver that calls the node otherwise is told of, too.
    all.send_replace(Arc::new(drivers(&[("d", driver("m", 0, &[]))])));
    told.wait_for(|value| value.as_array().unwrap().iter().any(|has| has["nodeID"] == "m")).await.unwrap();
}
