use serde_json::json;

use super::*;
use server::testing::{container, now, pod, running, view};

#[test]
fn the_table_looks_like_kubectls() {
    let mut restarted = container("app", false, 3, json!({ "waiting": { "reason": "CrashLoopBackOff" } }));
    restarted["lastState"] = json!({ "terminated": { "exitCode": 1, "finishedAt": "2026-11-23T11:54:00Z" } });
    let pods = [
        pod("web", running()),
        pod("crash", json!({ "phase": "Running", "containerStatuses": [restarted] })),
        view(
            json!({ "metadata": { "name": "bare", "namespace": "kube-system" } }),
            json!({ "phase": "Pending" }),
        ),
    ];
    let mut table = Table::new(false);
    let rows: Vec<_> = pods.iter().map(|pod| table.row(pod, now())).collect();
    assert_eq!(
        table.render(&rows),
        "\
NAMESPACE     NAME          READY   STATUS             RESTARTS     AGE         IP
default       web-node1     1/1     Running            0            10m         10.88.0.5
default       crash-node1   0/1     CrashLoopBackOff   3 (6m ago)   10m         <none>
kube-system   bare          0/0     Pending            0            <unknown>   <none>
"
    );
}

#[test]
fn a_wide_table_adds_node_uid_and_images() {
    let mut table = Table::new(true);
    let rows = [table.row(&pod("web", running()), now())];
    assert_eq!(
        table.render(&rows),
        "\
NAMESPACE   NAME        READY   STATUS    RESTARTS   AGE   IP          NODE    UID       IMAGES
default     web-node1   1/1     Running   0          10m   10.88.0.5   node1   web-uid   busybox:1
"
    );
}

#[test]
fn later_rows_line_up_with_the_first_and_have_no_header() {
    let mut table = Table::new(false);
    assert_eq!(table.render(&[]), "");
    let first = [table.row(&pod("a-long-name", running()), now())];
    let second = [table.row(&pod("b", running()), now())];
    let first = table.render(&first);
    let second = table.render(&second);
    assert!(first.starts_with("NAMESPACE"));
    assert_eq!(second, "default     b-node1             1/1     Running   0          10m   10.88.0.5\n");
    assert_eq!(first.lines().nth(1).and_then(|line| line.find("1/1")), second.find("1/1"));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let bad = pod("p", json!({ "phase": "Pending", "reason": "a\u{1b}[2Jb\nc" }));
    assert_eq!(Table::new(false).row(&bad, now())[3], "a\u{fffd}[2Jb\u{fffd}c");
}
