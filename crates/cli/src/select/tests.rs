use serde_json::json;

use super::*;
use server::testing::{pod, running, snapshot, view};

fn pods() -> ViewSnapshot {
    let api = |name: &str, namespace: &str, uid: &str| {
        view(
            json!({ "metadata": { "name": name, "namespace": namespace, "uid": uid },
                    "spec": { "containers": [{ "name": "app" }] } }),
            json!({}),
        )
    };
    snapshot(vec![
        pod("web", running()),
        pod("web-admin", running()),
        api("web-node1", "other", "aaaa1111"),
        api("db-node1", "other", "aaaa2222"),
        api("node1", "other", "bbbb"),
    ])
}

#[test]
fn a_pod_is_found_by_each_of_its_names() {
    let snapshot = pods();
    for (wanted, found) in [
        ("web-node1", vec!["default/web-node1", "other/web-node1"]),
        ("default/web-node1", vec!["default/web-node1"]),
        ("web", vec!["default/web-node1"]),
        ("default/web", vec!["default/web-node1"]),
        ("other/web", vec![]),
        ("db", vec![]),
        ("db-node1", vec!["other/db-node1"]),
        ("aaaa2", vec!["other/db-node1"]),
        ("aaaa", vec!["other/web-node1", "other/db-node1"]),
        ("aaa", vec![]),
        ("other/aaaa2", vec![]),
        ("web-u", vec!["default/web-node1"]),
        ("nope", vec![]),
        ("", vec![]),
        ("/", vec![]),
    ] {
        let names: Vec<_> = matching(&snapshot, wanted)
            .iter()
            .map(|pod| format!("{}/{}", namespace(pod), name(pod)))
            .collect();
        assert_eq!(names, found, "{wanted:?}");
    }
}

#[test]
fn close_names_are_those_with_few_differences_or_a_common_part() {
    let snapshot = pods();
    for (wanted, found) in [
        ("wbe-node1", vec!["web-node1"]),
        ("wep", vec!["web-node1"]),
        ("admin", vec!["web-admin-node1"]),
        ("other/bd-node1", vec!["db-node1"]),
        ("completely-different", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(close(&snapshot, wanted), found, "{wanted:?}");
    }
}
