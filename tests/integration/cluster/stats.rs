//! What the node says that its pods use, on both lines of containerd.

use serde_json::{Value, json};
use testkit::env::{BUSYBOX, Line};

use super::{ClusterNode, is_ready};

const PROXY: &str = "/api/v1/nodes/node1/proxy";

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {value:#}"))
}

/// A pod that keeps one core busy and holds 8 MiB, with a file of 1 MiB and a log, and with another file in a volume.
fn busy() -> Value {
    let mount = json!([{"name": "data", "mountPath": "/data"}]);
    json!({"volumes": [{"name": "data", "emptyDir": {}}], "initContainers": [{
        "name": "fill", "image": BUSYBOX, "volumeMounts": mount,
        "command": ["sh", "-c", "head -c 2097152 /dev/zero > /data/file"],
    }], "containers": [{
        "name": "app", "image": BUSYBOX,
        "command": ["sh", "-c", "echo started; head -c 1048576 /dev/zero > /big; while :; do :; done"],
        "resources": {"limits": {"memory": "64Mi"}}, "volumeMounts": mount,
        "readinessProbe": {"exec": {"command": ["true"]}},
    }]})
}

fn the_summary_tells_what_a_pod_uses(line: Line) {
    let node = ClusterNode::start(line);
    node.create("busy", busy());
    node.create("host", json!({"hostNetwork": true}));
    for pod in ["busy", "host"] {
        node.until_pod(pod, "is ready", is_ready);
    }
    let summary = node.until("the summary has rates", &format!("{PROXY}/stats/summary"), |summary| {
        let pods = summary["pods"].as_array();
        let mut apps = pods.into_iter().flatten().map(|pod| &pod["containers"][0]);
        // The writable layer is measured by the runtime from time to time.
        apps.clone().count() == 2
            && apps.all(|app| app["cpu"]["usageNanoCores"].is_u64())
            && summary.pointer("/pods/0/containers/0/rootfs/usedBytes").and_then(Value::as_u64)
                >= Some(1 << 20)
            // The probe's program is one more for as long as it runs.
            && summary.pointer("/pods/0/process_stats/process_count") == Some(&json!(1))
    });
    let of_node = &summary["node"];
    let data = &summary["pods"][0]["volume"][0];
    assert_eq!((&data["name"], number(data, "/inodesUsed")), (&json!("data"), 2), "{data:#}");
    assert!((2 << 20..3 << 20).contains(&number(data, "/usedBytes")), "{data:#}");
    assert!(number(&summary, "/pods/0/ephemeral-storage/usedBytes") > 3 << 20, "it is the pod's, too");
    assert_eq!(of_node["nodeName"], "node1");
    let busy = &summary["pods"][0];
    assert_eq!(busy["podRef"]["name"], "busy");
    let app = &busy["containers"][0];
    assert_eq!(app["name"], "app");
    // The little that a machine leaves to it that has much else to do.
    assert!(number(app, "/cpu/usageNanoCores") > 10_000_000, "{app:#}");
    assert!(
        number(busy, "/cpu/usageCoreNanoSeconds") >= number(app, "/cpu/usageCoreNanoSeconds"),
        "{busy:#}"
    );
    assert!(number(of_node, "/cpu/usageNanoCores") > 100_000_000, "{of_node:#}");
    let working_set = number(app, "/memory/workingSetBytes");
    assert!(working_set > 0 && working_set <= number(busy, "/memory/workingSetBytes"), "{busy:#}");
    assert_eq!(number(app, "/memory/availableBytes"), (64 << 20) - working_set);
    assert!(
        number(app, "/logs/usedBytes") > 0 && number(busy, "/ephemeral-storage/usedBytes") > 1 << 20,
        "{busy:#}"
    );
    assert_eq!(busy["network"]["name"], "eth0", "{busy:#}");
    assert_eq!(summary["pods"][1]["network"], Value::Null, "the node's network is not the pod's");
    for pointer in
        ["/fs/availableBytes", "/runtime/imageFs/usedBytes", "/rlimit/curproc", "/memory/availableBytes"]
    {
        assert!(number(of_node, pointer) > 0, "{pointer}");
    }
    let roles: Vec<&str> = of_node["systemContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(roles, ["kubelet", "pods"]);

    let metrics = node.kubectl(&["get", "--raw", &format!("{PROXY}/metrics/resource")]);
    for line in [
        "container_cpu_usage_seconds_total{container=\"app\",namespace=\"default\",pod=\"busy\"} ",
        "container_memory_working_set_bytes{container=\"app\",namespace=\"default\",pod=\"host\"} ",
        "pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"busy\"} ",
        "node_memory_working_set_bytes ",
        "resource_scrape_error 0",
    ] {
        assert!(metrics.lines().any(|l| l.starts_with(line)), "{line} in {metrics}");
    }
    the_counters_tell_what_happened(&node);
}

/// Two pods were started, and one of them is probed.
fn the_counters_tell_what_happened(node: &ClusterNode) {
    node.kubectl(&["get", "--raw", &format!("{PROXY}/healthz")]);
    for (page, lines) in [
        (
            "/metrics",
            &[
                "kubelet_cgroup_version ",
                "kubelet_cgroup_manager_duration_seconds_count{operation_type=\"create\"} ",
                "kubelet_containers_per_pod_count_count 2",
                "kubelet_mirror_pods 0",
                "kubelet_node_name{node=\"node1\"} 1",
                "kubelet_orphaned_runtime_pods_total 0",
                "kubelet_pod_start_duration_seconds_count 2",
                "kubelet_pod_start_sli_duration_seconds_count 2",
                "kubelet_pod_start_total_duration_seconds_count 2",
                "kubelet_pod_status_sync_duration_seconds_count ",
                "kubelet_working_pods{config=\"desired\",lifecycle=\"sync\",static=\"\"} 2",
                "kubernetes_build_info{",
                "kubelet_volume_metric_collection_duration_seconds_count{metric_source=\"du\"} ",
                "storage_operation_duration_seconds_count{migrated=\"false\",operation_name=\"volume_mount\",\
                 status=\"success\",volume_plugin=\"kubernetes.io/empty-dir\"} 1",
                "volume_manager_total_volumes{plugin_name=\"kubernetes.io/empty-dir\",\
                 state=\"actual_state_of_world\"} 1",
                "volume_operation_total_seconds_count{operation_name=\"overall_volume_mount\",\
                 plugin_name=\"kubernetes.io/empty-dir\"} 1",
            ][..],
        ),
        (
            "/metrics/probes",
            &[
                "prober_probe_duration_seconds_count{container=\"app\",namespace=\"default\",pod=\"busy\",\
                 probe_type=\"Readiness\"} ",
                "prober_probe_total{container=\"app\",namespace=\"default\",pod=\"busy\",pod_uid=\"",
            ],
        ),
        ("/metrics/slis", &["kubernetes_healthcheck{name=\"syncloop\",type=\"healthz\"} 1"]),
    ] {
        let served = node.kubectl(&["get", "--raw", &format!("{PROXY}{page}")]);
        for line in lines {
            assert!(served.lines().any(|l| l.starts_with(line)), "{line} in {page}: {served}");
        }
    }
}

#[test]
fn the_summary_tells_what_a_pod_uses_with_containerd_2_1() {
    the_summary_tells_what_a_pod_uses(Line::V2_1);
}

#[test]
fn the_summary_tells_what_a_pod_uses_with_containerd_1_6() {
    the_summary_tells_what_a_pod_uses(Line::V1_6);
}
