use kube_model::core::Pod;
use serde_json::{Value, json};

use super::*;

fn pod(pod: Value) -> Pod {
    serde_json::from_value(pod).unwrap()
}

fn with_spec(spec: Value) -> Pod {
    pod(json!({"metadata": {"name": "p"}, "spec": spec}))
}

fn requesting(requests: Value) -> Value {
    json!({"containers": [{"name": "app", "resources": {"requests": requests}}]})
}

fn node() -> Node {
    let allocatable =
        [("cpu", "2"), ("memory", "1Gi"), ("pods", "3"), ("hugepages-2Mi", "4Mi"), ("example.com/fpga", "1")];
    let labels = [("disk", "hdd"), ("cores", "8"), (OS_LABEL, OS)];
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Node {
        name: "node1".to_owned(),
        labels: labels.map(own).into(),
        taints: Vec::new(),
        allocatable: allocatable.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into(),
        supplemental_groups_policy: false,
        host: Arc::new(Host { sysctls: SysctlAllowlist::new("6.1", &[]).unwrap(), apparmor: false }),
    }
}

fn allocations(pods: &[Pod]) -> Allocations {
    let mut all = Allocations::default();
    for (number, pod) in pods.iter().enumerate() {
        all.set(&number.to_string().as_str().into(), &Arc::new(pod.clone()));
    }
    all
}

/// The reason, or the empty text.
fn verdict(pod: &Pod, node: &Node, others: &[Pod]) -> String {
    admit(pod, node, &allocations(others)).map_or_else(|rejection| rejection.reason, |()| String::new())
}

#[test]
fn the_recorded_pod_is_rejected_in_the_recorded_words() {
    let recording: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/api/too-much-cpu.json")).unwrap();
    let others = ["100m", "250m"].map(|cpu| with_spec(requesting(json!({"cpu": cpu}))));
    let rejection = admit(&pod(recording["created"].clone()), &node(), &allocations(&others)).unwrap_err();
    let event = &recording["events_at_the_end"][0];
    assert_eq!(json!([rejection.reason, rejection.message]), json!([event["reason"], event["message"]]));
}

#[test]
fn static_pods_are_rejected_in_the_recorded_words() {
    for (recording, others) in [
        (include_str!("../../../tests/fixtures/pods/too-much-cpu.json"), vec!["1661m"]),
        (include_str!("../../../tests/fixtures/pods/node-selector-mismatch.json"), vec![]),
        (include_str!("../../../tests/fixtures/pods/sysctl-unsafe.json"), vec![]),
    ] {
        let recording: Value = serde_json::from_str(recording).unwrap();
        let mut rejected = pod(recording["manifest"].clone());
        let source = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
        rejected.metadata.annotations.get_or_insert_default().extend([source]);
        let others: Vec<_> =
            others.into_iter().map(|cpu| with_spec(requesting(json!({"cpu": cpu})))).map(critical).collect();
        let rejection = admit(&rejected, &node(), &allocations(&others)).unwrap_err();
        let status = &recording["pod_after_100s"]["status"];
        let message = format!("Pod was rejected: {}", rejection.message);
        assert_eq!(json!([rejection.reason, message]), json!([status["reason"], status["message"]]));
    }
}

fn critical(mut pod: Pod) -> Pod {
    pod.spec.as_mut().unwrap().priority = Some(2_000_000_000);
    pod
}

#[test]
fn resources_are_counted_together() {
    let others = [with_spec(requesting(json!({"cpu": "1500m", "memory": "1000Mi", "example.com/fpga": 1})))];
    for (requests, reason) in [
        (json!({}), ""),
        (json!({"cpu": "500m", "memory": "24Mi"}), ""),
        (json!({"cpu": "501m"}), "OutOfcpu"),
        (json!({"cpu": "501m", "memory": "25Mi"}), "OutOfcpu"),
        (json!({"memory": "25Mi"}), "OutOfmemory"),
        (json!({"ephemeral-storage": "1"}), "OutOfephemeral-storage"),
        (json!({"hugepages-2Mi": "4Mi"}), ""),
        (json!({"hugepages-2Mi": "6Mi"}), "OutOfhugepages-2Mi"),
        (json!({"hugepages-1Gi": "1Gi"}), "OutOfhugepages-1Gi"),
        (json!({"example.com/fpga": "1"}), "OutOfexample.com/fpga"),
        // What the node does not list is not its to count.
        (json!({"example.com/gpu": "1"}), ""),
    ] {
        assert_eq!(verdict(&with_spec(requesting(requests.clone())), &node(), &others), reason, "{requests}");
    }
    let three =
        [others[0].clone(), with_spec(json!({"containers": []})), with_spec(json!({"containers": []}))];
    assert_eq!(verdict(&with_spec(json!({"containers": []})), &node(), &three), "OutOfpods");
    let unmeasured = Node { allocatable: BTreeMap::new(), ..node() };
    assert_eq!(verdict(&with_spec(requesting(json!({"cpu": "64"}))), &unmeasured, &three), "");
}

#[test]
fn a_critical_pod_comes_in_when_there_is_room() {
    let half = || with_spec(requesting(json!({"cpu": "1500m"})));
    assert_eq!(verdict(&critical(half()), &node(), &[]), "");
    for other in [half(), critical(half())] {
        let rejection =
            admit(&critical(half()), &node(), &allocations(std::slice::from_ref(&other))).unwrap_err();
        assert_eq!(rejection.reason, "UnexpectedAdmissionError");
        assert!(
            rejection.message.ends_with("to reclaim resources: [(res: cpu, q: 1000), ]"),
            "{}",
            rejection.message
        );
        let mut elsewhere = critical(half());
        elsewhere.spec.as_mut().unwrap().node_selector = Some([("disk".to_owned(), "ssd".to_owned())].into());
        assert_eq!(verdict(&elsewhere, &node(), &[other]), "NodeAffinity");
    }
}

#[test]
fn nodes_are_selected_by_labels_and_name() {
    let term = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    let name = |operator: &str| json!({"matchFields": [{"key": "metadata.name", "operator": operator, "values": ["node1"]}]});
    for (terms, fits) in [
        (json!([]), false),
        (json!([{}]), false),
        (json!([term("disk", "In", json!(["ssd", "hdd"]))]), true),
        (json!([term("disk", "In", json!(["ssd"]))]), false),
        (json!([term("disk", "In", json!(["ssd"])), term("disk", "Exists", json!([]))]), true),
        (json!([term("disk", "NotIn", json!(["hdd"]))]), false),
        (json!([term("zone", "NotIn", json!(["a"]))]), true),
        (json!([term("zone", "Exists", json!([]))]), false),
        (json!([term("zone", "DoesNotExist", json!([]))]), true),
        (json!([term("cores", "Gt", json!(["7"]))]), true),
        (json!([term("cores", "Lt", json!(["8"]))]), false),
        (json!([term("disk", "Gt", json!(["7"]))]), false),
        (json!([term("disk", "Like", json!(["h*"]))]), false),
        (json!([name("In")]), true),
        (json!([name("NotIn")]), false),
    ] {
        let affinity = json!({"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        let reason = if fits { "" } else { "NodeAffinity" };
        let pod = with_spec(json!({"containers": [], "affinity": affinity}));
        assert_eq!(verdict(&pod, &node(), &[]), reason, "{terms}");
    }
    let select = |disk: &str| with_spec(json!({"containers": [], "nodeSelector": {"disk": disk}}));
    assert_eq!(verdict(&select("hdd"), &node(), &[]), "");
    assert!(admit(&select("ssd"), &node(), &Allocations::default()).unwrap_err().may_be_old_news());
}

#[test]
fn only_taints_that_drive_out_count_and_not_for_static_pods() {
    let taint =
        |effect: &str| serde_json::from_value(json!({"key": "k", "value": "v", "effect": effect})).unwrap();
    let tainted = Node { taints: vec![taint("NoSchedule"), taint("NoExecute")], ..node() };
    for (tolerations, fits) in [
        (json!([]), false),
        (json!([{"operator": "Exists"}]), true),
        (json!([{"key": "k", "operator": "Exists", "effect": "NoExecute"}]), true),
        (json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]), false),
        (json!([{"key": "k", "value": "v"}]), true),
        (json!([{"key": "k", "operator": "Equal", "value": "w"}]), false),
        (json!([{"key": "other", "operator": "Exists"}]), false),
    ] {
        let mut pod = with_spec(json!({"containers": [], "tolerations": tolerations}));
        assert_eq!(verdict(&pod, &tainted, &[]), if fits { "" } else { "TaintToleration" }, "{tolerations}");
        let source = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
        pod.metadata.annotations = Some([source].into());
        assert_eq!(verdict(&pod, &tainted, &[]), "", "{tolerations}");
    }
}

#[test]
fn a_port_of_the_node_is_for_one_pod() {
    let with = |port: Value| with_spec(json!({"containers": [{"name": "app", "ports": [port]}]}));
    let there = [with(json!({"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}))];
    for (port, fits) in [
        (json!({"containerPort": 80}), true),
        (json!({"containerPort": 80, "hostPort": 81}), true),
        (json!({"containerPort": 80, "hostPort": 80}), false),
        (json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"}), true),
        (json!({"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.2"}), true),
    ] {
        assert_eq!(
            verdict(&with(port.clone()), &node(), &there),
            if fits { "" } else { "NodePorts" },
            "{port}"
        );
    }
}

#[test]
fn pods_of_other_systems_are_not_for_this_node() {
    let labelled = pod(json!({"metadata": {"labels": {OS_LABEL: "windows"}}, "spec": {"containers": []}}));
    assert_eq!(verdict(&labelled, &node(), &[]), "PodOSSelectorNodeLabelDoesNotMatch");
    let named = with_spec(json!({"containers": [], "os": {"name": "windows"}}));
    assert_eq!(verdict(&named, &node(), &[]), "PodOSNotSupported");
    assert_eq!(verdict(&with_spec(json!({"containers": [], "os": {"name": "linux"}})), &node(), &[]), "");
}

#[test]
fn a_policy_for_groups_needs_a_runtime_that_knows_it() {
    let with = |policy: &str| {
        with_spec(json!({"containers": [], "securityContext": {"supplementalGroupsPolicy": policy}}))
    };
    let knows = Node { supplemental_groups_policy: true, ..node() };
    let reason = "SupplementalGroupsPolicyNotSupported";
    for (policy, node, want) in [("Merge", node(), ""), ("Strict", node(), reason), ("Strict", knows, "")] {
        assert_eq!(verdict(&with(policy), &node, &[]), want, "{policy}");
    }
}

#[test]
fn the_first_reason_is_told_in_the_kubelets_order() {
    let unsafe_sysctl = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    let confined = json!({"appArmorProfile": {"type": "RuntimeDefault"}});
    let windows = json!({"name": "windows"});
    for (spec, want) in [
        (json!({"containers": [], "securityContext": unsafe_sysctl, "os": windows}), "SysctlForbidden"),
        (json!({"containers": [], "securityContext": confined, "os": windows}), "PodOSNotSupported"),
        (json!({"containers": [], "securityContext": confined, "nodeSelector": {"a": "b"}}), "NodeAffinity"),
        (json!({"containers": [], "securityContext": confined}), "AppArmor"),
    ] {
        assert_eq!(verdict(&with_spec(spec.clone()), &node(), &[]), want, "{spec}");
    }
}

#[test]
fn what_others_have_is_told_from_what_the_node_is() {
    for reason in ["OutOfcpu", "OutOfpods", "NodePorts", "UnexpectedAdmissionError"] {
        assert!(is_for_others(reason), "{reason}");
    }
    for reason in ["NodeAffinity", "TaintToleration", "SysctlForbidden", "AppArmor", "PodOSNotSupported"] {
        assert!(!is_for_others(reason), "{reason}");
    }
}
