use super::*;

type Map = BTreeMap<String, String>;

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn pod_labels(uid: &str) -> Map {
    map(&[(labels::POD_NAME, "web"), (labels::POD_NAMESPACE, "ns"), (labels::POD_UID, uid)])
}

fn sandbox_status(id: &str, uid: &str, created_at: i64) -> v1::PodSandboxStatus {
    v1::PodSandboxStatus {
        id: id.into(),
        created_at,
        metadata: Some(v1::PodSandboxMetadata { attempt: 4, ..Default::default() }),
        network: Some(v1::PodSandboxNetworkStatus {
            ip: "10.1.0.5".into(),
            additional_ips: vec![v1::PodIp { ip: "fd00::5".into() }],
        }),
        labels: pod_labels(uid),
        annotations: map(&[(labels::CONFIG_SOURCE, "file")]),
        ..Default::default()
    }
}

fn container_status(id: &str, uid: &str, created_at: i64) -> SandboxContainer {
    let mut labels = pod_labels(uid);
    labels.insert(labels::CONTAINER_NAME.into(), "app".into());
    let status = v1::ContainerStatus {
        id: id.into(),
        created_at,
        labels,
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 9 }),
        annotations: map(&[(labels::CONTAINER_RESTART_COUNT, "3"), (labels::CONTAINER_HASH, "2f35d113")]),
        ..Default::default()
    };
    SandboxContainer { sandbox_id: "s".into(), status }
}

#[test]
fn a_pod_is_read_whole_and_newest_first() {
    let mut exited = container_status("c1", "u", 10);
    exited.status.set_state(v1::ContainerState::ContainerExited);
    exited.status.started_at = 11;
    exited.status.finished_at = 1_500_000_000;
    exited.status.exit_code = 7;
    exited.status.image = Some(v1::ImageSpec {
        image: "sha256:1".into(),
        user_specified_image: "busybox".into(),
        ..Default::default()
    });
    exited.status.user = Some(v1::ContainerUser {
        linux: Some(v1::LinuxContainerUser { uid: 1, gid: 2, supplemental_groups: vec![3] }),
    });
    let pod = observed_pod(
        vec![sandbox_status("s1", "u", 1), sandbox_status("s2", "u", 2)],
        vec![exited, container_status("c2", "u", 20)],
    )
    .unwrap();
    assert_eq!((pod.uid.as_str(), pod.key.to_string().as_str()), ("u", "ns/web"));
    let ids: Vec<_> = pod.sandboxes.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["s2", "s1"]);
    let sandbox = &pod.sandboxes[0];
    assert_eq!((sandbox.attempt, sandbox.state, sandbox.host_network), (4, SandboxState::Ready, false));
    assert_eq!(sandbox.ips, ["10.1.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
    assert_eq!(sandbox.config_source.as_deref(), Some("file"));
    let ids: Vec<_> = pod.containers.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["c2", "c1"]);
    let old = &pod.containers[1];
    assert_eq!(old.state, ContainerState::Exited);
    assert_eq!((old.name.as_str(), old.sandbox_id.as_str(), old.restart_count), ("app", "s", 3));
    assert_eq!((old.hash.as_deref(), old.exit_code, old.image.as_str()), (Some("2f35d113"), 7, "busybox"));
    assert_eq!(old.finished_at.unwrap().to_string(), "1970-01-01T00:00:01.5Z");
    assert_eq!(old.user.as_ref().unwrap().supplemental_groups, [3]);
    let new = &pod.containers[0];
    assert_eq!((new.state, new.started_at, new.finished_at), (ContainerState::Created, None, None));
}

#[test]
fn what_has_no_labels_of_ours_is_nobodys() {
    let mut bare = sandbox_status("s", "u", 1);
    bare.labels.remove(labels::POD_UID);
    assert_eq!(observed_pod(vec![bare.clone()], vec![]), None);
    assert_eq!(observed_pod(vec![], vec![]), None);
    // Among a pod's own it is left out, and so are another pod's.
    let mut nameless = container_status("c1", "u", 1);
    nameless.status.labels.remove(labels::CONTAINER_NAME);
    let pod = observed_pod(
        vec![bare, sandbox_status("s2", "u", 1), sandbox_status("s3", "other", 1)],
        vec![nameless, container_status("c2", "u", 1), container_status("c3", "other", 1)],
    )
    .unwrap();
    assert_eq!((pod.sandboxes.len(), pod.containers.len()), (1, 1));
    assert_eq!((pod.sandboxes[0].id.as_str(), pod.containers[0].id.as_str()), ("s2", "c2"));
}

#[test]
fn in_the_nodes_network_a_sandbox_has_no_ips() {
    let mut status = sandbox_status("s", "u", 1);
    let options = v1::NamespaceOption { network: v1::NamespaceMode::Node.into(), ..Default::default() };
    status.linux =
        Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options: Some(options) }) });
    let pod = observed_pod(vec![status], vec![]).unwrap();
    assert!(pod.sandboxes[0].host_network && pod.sandboxes[0].ips.is_empty());
}

#[test]
fn a_restart_count_that_is_not_noted_is_the_attempt() {
    let mut container = container_status("c", "u", 1);
    container.status.annotations.clear();
    let pod = observed_pod(vec![], vec![container]).unwrap();
    assert_eq!((pod.containers[0].restart_count, pod.containers[0].hash.as_deref()), (9, None));
}

fn listed(sandboxes: &[(&str, &str, i32)], containers: &[(&str, &str, i32)]) -> Vec<ListedPod> {
    let sandboxes: Vec<_> = sandboxes
        .iter()
        .map(|(uid, id, state)| v1::PodSandbox {
            id: (*id).into(),
            state: *state,
            labels: pod_labels(uid),
            annotations: map(&[(labels::CONFIG_SOURCE, "file")]),
            ..Default::default()
        })
        .collect();
    let containers: Vec<_> = containers
        .iter()
        .map(|(uid, id, state)| v1::Container {
            id: (*id).into(),
            state: *state,
            labels: pod_labels(uid),
            ..Default::default()
        })
        .collect();
    listed_pods(&sandboxes, &containers)
}

#[test]
fn a_fingerprint_changes_with_every_state_and_member_and_with_nothing_else() {
    let print = |s: &[(&str, &str, i32)], c: &[(&str, &str, i32)]| {
        listed(s, c).into_iter().find(|p| p.uid.as_str() == "u").unwrap().fingerprint
    };
    let base = print(&[("u", "s", 0)], &[("u", "a", 1), ("u", "b", 1)]);
    assert_eq!(base, print(&[("v", "x", 0), ("u", "s", 0)], &[("u", "b", 1), ("v", "y", 1), ("u", "a", 1)]));
    for other in [
        print(&[("u", "s", 1)], &[("u", "a", 1), ("u", "b", 1)]),
        print(&[("u", "s", 0)], &[("u", "a", 1), ("u", "b", 2)]),
        print(&[("u", "s", 0)], &[("u", "a", 1)]),
        print(&[("u", "s", 0), ("u", "t", 0)], &[("u", "a", 1), ("u", "b", 1)]),
        print(&[("u", "a", 0)], &[("u", "s", 1), ("u", "b", 1)]),
    ] {
        assert_ne!(base, other);
    }
}

#[test]
fn only_a_sandbox_that_names_its_source_is_ours() {
    let pods = listed(&[("u", "s", 0)], &[("u", "a", 1), ("v", "b", 1)]);
    let ours: Vec<_> = pods.iter().map(|p| (p.uid.as_str(), p.ours)).collect();
    assert_eq!(ours, [("u", true), ("v", false)]);
}

#[test]
fn what_the_runtime_grants_is_read_in_the_units_of_the_api() {
    let read = |shares, quota, period, memory| {
        let mut container = container_status("c", "u", 1);
        container.status.resources = Some(v1::ContainerResources {
            linux: Some(v1::LinuxContainerResources {
                cpu_shares: shares,
                cpu_quota: quota,
                cpu_period: period,
                memory_limit_in_bytes: memory,
                ..Default::default()
            }),
            ..Default::default()
        });
        let pod = observed_pod(Vec::new(), vec![container]).unwrap();
        pod.containers[0].resources.map(|r| (r.milli_cpu_request, r.milli_cpu_limit, r.memory_limit))
    };
    for (shares, quota, period, memory, want) in [
        (102, 50_000, 100_000, 64 << 20, Some((Some(100), Some(500), Some(64 << 20)))),
        (2, 1_000, 100_000, 0, Some((Some(2), Some(10), None))),
        (1024, -1, 100_000, -1, Some((Some(1000), None, None))),
        (1, 0, 100_000, 0, None),
        (0, 50_000, 0, 0, None),
    ] {
        assert_eq!(read(shares, quota, period, memory), want, "{shares} {quota} {period} {memory}");
    }
    let silent = observed_pod(Vec::new(), vec![container_status("c", "u", 1)]).unwrap();
    assert_eq!(silent.containers[0].resources, None);
}
