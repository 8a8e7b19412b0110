//! Defaults that no recording shows.

use super::*;

#[test]
fn defaults_beyond_the_recordings() {
    let spec = |text: &str| good(text).pod.spec.unwrap();
    let policy = |image: &str| {
        let text = WEB.replace("example.org/app:1", image);
        spec(&text).containers[0].image_pull_policy.clone().unwrap()
    };
    let digest = format!("a@sha256:{}", "0".repeat(64));
    for (image, expected) in [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("r:5000/a", "Always"),
        ("r:5000/a:1", "IfNotPresent"),
        (&digest, "IfNotPresent"),
        (&format!("\"a:latest@sha256:{}\"", "0".repeat(64)), "Always"),
    ] {
        assert_eq!(policy(image), expected, "{image}");
    }
    let host = spec(&(with("container", "ports: [{containerPort: 80}]") + "  hostNetwork: true\n"));
    assert_eq!(host.containers[0].ports.as_ref().unwrap()[0].host_port, Some(80));
    let volumes =
        spec(&with("spec", "volumes: [{name: a}, {name: b, downwardAPI: {}}, {name: c, projected: {}}]"));
    let volumes = volumes.volumes.unwrap();
    assert!(volumes[0].empty_dir.is_some());
    assert_eq!(volumes[1].downward_api.as_ref().unwrap().default_mode, Some(0o644));
    assert_eq!(volumes[2].projected.as_ref().unwrap().default_mode, Some(0o644));
    let probe = with("container", "livenessProbe: {grpc: {port: 1}}\nreadinessProbe: {httpGet: {port: web}}");
    let probed = spec(&probe).containers[0].clone();
    assert_eq!(probed.liveness_probe.unwrap().grpc.unwrap().service.as_deref(), Some(""));
    let get = probed.readiness_probe.unwrap().http_get.unwrap();
    assert_eq!((get.path.as_deref(), get.scheme.as_deref()), (Some("/"), Some("HTTP")));
    let tolerating =
        spec(&with("spec", "tolerations: [{operator: Exists, effect: NoExecute, tolerationSeconds: 5}]"));
    let tolerations = tolerating.tolerations.unwrap();
    assert_eq!((tolerations.len(), tolerations[0].toleration_seconds), (1, None));
}

#[test]
fn resources_of_the_pod_fill_each_other() {
    let resources = |own: &str| {
        let pod = good(&with("spec", &format!("resources: {own}"))).pod;
        serde_json::to_value(pod.spec.unwrap().resources).unwrap()
    };
    assert_eq!(
        resources("{limits: {cpu: 2, hugepages-2Mi: 4Mi}}"),
        json!({
            "limits": {"cpu": "2", "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "1", "memory": "64Mi", "hugepages-2Mi": "4Mi"}
        }),
    );
    // Only huge pages get a limit.
    assert_eq!(resources("{requests: {cpu: 1}}"), json!({"requests": {"cpu": "1"}}));
    assert_eq!(resources("{}"), json!({}));
}

#[test]
fn a_sidecar_may_have_what_an_init_container_may_not() {
    let lines = "initContainers: [{name: s, image: x, restartPolicy: Always, lifecycle: {preStop: {exec: {command: \
                 [a]}}}, startupProbe: {exec: {command: [b]}}}]";
    good(&with("spec", lines));
}

#[test]
fn a_pod_survives_being_written_and_read() {
    let pod = good(WEB).pod;
    let again: Pod = serde_json::from_str(&serde_json::to_string(&pod).unwrap()).unwrap();
    assert_eq!(again, pod);
}

proptest! {
    /// A manifest that was typed half or wrong is a pod or problems, each with a message, never a panic.
    #[test]
    fn a_damaged_manifest_never_panics(at in 0..WEB.len(), cut in 0..40usize, insert in "[-:{}\\[\\]a-c0-9'\" \n~&*|>]{0,6}") {
        let end = (at + cut).min(WEB.len());
        let text = format!("{}{insert}{}", &WEB[..at], &WEB[end..]);
        if let Err(problems) = read(text.as_bytes(), origin()) {
            prop_assert!(!problems.is_empty() && problems.iter().all(|p| !p.message.is_empty()));
        }
    }
}
