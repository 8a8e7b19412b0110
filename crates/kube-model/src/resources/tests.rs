#![expect(clippy::disallowed_methods, reason = "the recordings that it is compared with are files")]

use serde_json::{Value, json};

use super::*;

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn spec(value: Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

fn asks(name: &str, cpu: &str, memory: &str) -> Value {
    json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}}})
}

#[test]
fn requests_are_the_larger_of_running_and_starting() {
    let sidecar = |cpu: &str| {
        let mut c = asks("side", cpu, "0");
        c["restartPolicy"] = json!("Always");
        c
    };
    for (what, want, spec) in [
        ("containers add up", 300, json!({"containers": [asks("a", "100m", "0"), asks("b", "200m", "0")]})),
        (
            "a greedy init container counts alone",
            900,
            json!({"containers": [asks("a", "100m", "0")], "initContainers": [asks("i", "900m", "0"), asks("j", "500m", "0")]}),
        ),
        (
            "a sidecar runs beside the containers",
            300,
            json!({"containers": [asks("a", "100m", "0")], "initContainers": [sidecar("200m"), asks("i", "50m", "0")]}),
        ),
        (
            "an init container runs beside the sidecars before it only",
            1100,
            json!({"containers": [asks("a", "100m", "0")], "initContainers": [sidecar("200m"), asks("i", "900m", "0"), sidecar("300m")]}),
        ),
        (
            "pod-level requests replace the sum, overhead comes on top",
            1250,
            json!({"containers": [asks("a", "100m", "0")], "resources": {"requests": {"cpu": "1"}}, "overhead": {"cpu": "250m"}}),
        ),
        (
            "fractions are summed before rounding",
            1,
            json!({"containers": [asks("a", "0.5m", "0"), asks("b", "0.5m", "0")]}),
        ),
    ] {
        let spec = self::spec(spec);
        assert_eq!(requests(&spec).milli_cpu(), Some(want), "{what}");
    }
}

#[test]
fn overhead_counts_in_a_limit_only_where_there_is_one() {
    let spec = spec(json!({
        "containers": [{"name": "a", "resources": {"limits": {"memory": "1Mi"}}}],
        "overhead": {"cpu": "250m", "memory": "1Ki"}
    }));
    assert_eq!(limits(&spec).memory(), Some((1 << 20) + 1024));
    assert_eq!(limits(&spec).milli_cpu(), None);
    assert!(all_limited(&spec, MEMORY));
    assert!(!all_limited(&spec, CPU));
}

#[test]
fn one_container_without_limit_leaves_the_pod_unbounded() {
    let limited = json!({"name": "a", "resources": {"limits": {"cpu": "1"}}});
    let mut spec = json!({"containers": [limited, {"name": "b"}]});
    assert!(!all_limited(&self::spec(spec.clone()), CPU));
    spec["resources"] = json!({"limits": {"cpu": "2"}});
    assert!(all_limited(&self::spec(spec), CPU));
}

#[test]
fn hugepages_are_summed_by_page_size() {
    let list = json!({"requests": {"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi", "cpu": "1"}});
    let spec =
        spec(json!({"containers": [{"name": "a", "resources": list}, {"name": "b", "resources": list}]}));
    let want = BTreeMap::from([(2 << 20, 8 << 20), (1 << 30, 2 << 30)]);
    assert_eq!(requests(&spec).hugepages(), want);
}

#[test]
fn cpu_is_converted_as_the_kubelet_does() {
    for (milli, want_shares, want_quota) in [
        (0, 2, None),
        (1, 2, Some(1000)),
        (3, 3, Some(1000)),
        (10, 10, Some(1000)),
        (100, 102, Some(10_000)),
        (250, 256, Some(25_000)),
        (1000, 1024, Some(100_000)),
        (1_000_000, 262_144, Some(100_000_000)),
        (i64::MAX, 262_144, Some(i64::MAX / 1000)),
        (-5, 2, None),
    ] {
        assert_eq!((shares(milli), quota(milli, 100_000)), (want_shares, want_quota), "{milli}m");
    }
    for (shares, want) in
        [(0, 1), (2, 1), (256, 10), (1024, 39), (102_400, 3906), (262_144, 10_000), (u64::MAX, 10_000)]
    {
        assert_eq!(weight(shares), want, "{shares}");
    }
}

#[test]
fn an_oom_score_follows_class_and_memory_request() {
    const CAPACITY: i64 = 1000 << 20;
    let burstable = |memory: &str| asks("c", "1m", memory);
    let mut sidecar = burstable("100Mi");
    sidecar["restartPolicy"] = json!("Always");
    sidecar["name"] = json!("side");
    for (what, want, name, value) in [
        ("best effort", 1000, "c", json!({"spec": {"containers": [{"name": "c"}]}})),
        ("a fifth of the memory", 800, "c", json!({"spec": {"containers": [burstable("200Mi")]}})),
        ("no memory request", 999, "c", json!({"spec": {"containers": [burstable("0")]}})),
        ("more than there is", 3, "c", json!({"spec": {"containers": [burstable("5Gi")]}})),
        (
            "a sidecar outlives the smallest container",
            700,
            "side",
            json!({"spec": {"containers": [burstable("300Mi"), burstable("400Mi")], "initContainers": [sidecar]}}),
        ),
        (
            "pod-level memory that nobody requests is divided",
            700,
            "c",
            json!({"spec": {"containers": [burstable("200Mi"), burstable("0")], "resources": {"requests": {"memory": "400Mi"}}}}),
        ),
        (
            "node-critical by priority",
            -997,
            "c",
            json!({"spec": {"containers": [{"name": "c"}], "priorityClassName": "system-node-critical", "priority": 2_000_001_000}}),
        ),
        (
            "the class name alone does not do",
            1000,
            "c",
            json!({"spec": {"containers": [{"name": "c"}], "priorityClassName": "system-node-critical"}}),
        ),
    ] {
        let mut value = value;
        value["metadata"] = json!({});
        let pod = pod(value);
        let (_, container) = pod::container(pod.spec.as_ref().unwrap(), name).unwrap();
        assert_eq!(oom_score_adj(&pod, container, CAPACITY), want, "{what}");
    }
}

/// What the real kubelet told its runtime about each pod, on a node with 23.5 GiB of memory.
#[test]
fn class_shares_quota_and_oom_score_agree_with_the_recordings() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/pods");
    let mut containers_seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let recording: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let Some(calls) = recording["cri"].as_array() else { continue };
        // Its status holds stand-ins for times.
        let recorded = &recording["pod_after_100s"];
        let pod = pod(json!({"metadata": recorded["metadata"], "spec": recorded["spec"]}));
        let spec = pod.spec.as_ref().unwrap();
        let number = |value: &Value| value.as_str().map(|s| s.parse::<i64>().unwrap());
        for call in calls {
            let config = &call["request"]["config"];
            let linux = &config["linux"]["resources"];
            match call["call"].as_str().unwrap() {
                "RunPodSandbox" => {
                    let cgroup = QosClass::of(&pod).pod_cgroup(&crate::PodUid::from("$UID"));
                    assert_eq!(config["linux"]["cgroup_parent"], json!(cgroup), "{path:?}");
                    let want = requests(spec).milli_cpu().unwrap_or(0);
                    assert_eq!(number(&linux["cpu_shares"]), Some(shares(want) as i64), "{path:?}");
                    let want = limits(spec).milli_cpu().unwrap_or(0);
                    assert_eq!(number(&linux["cpu_quota"]), quota(want, 100_000), "{path:?}");
                    assert_eq!(number(&linux["memory_limit_in_bytes"]), limits(spec).memory(), "{path:?}");
                }
                "CreateContainer" => {
                    let name = config["metadata"]["name"].as_str().unwrap();
                    let (_, container) = pod::container(spec, name).unwrap();
                    let hash = &config["annotations"][crate::labels::CONTAINER_HASH];
                    assert_eq!(hash, &json!(crate::hash::container_hash(container)), "{path:?}");
                    let score = i64::from(oom_score_adj(&pod, container, 25_233_000_000));
                    assert_eq!(number(&linux["oom_score_adj"]), Some(score), "{path:?} {name}");
                    containers_seen += 1;
                }
                _ => {}
            }
        }
    }
    assert!(containers_seen > 40, "{containers_seen}");
}
