use super::*;
use crate::settings::Allocatable;
use crate::test_pods::{pod, spec};

/// The environment of the container `app`, one `NAME=value` a line.
fn env(spec_json: &str) -> Result<String, String> {
    let mut pod = pod(spec_json);
    pod.metadata.labels = Some([("app".to_owned(), "front".to_owned())].into());
    pod.metadata.annotations = Some([("a.b/c".to_owned(), "note".to_owned())].into());
    let settings = Settings {
        node_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        allocatable: Allocatable { milli_cpu: 3500, memory: 8 << 30, ephemeral_storage: 100 },
        ..Settings::default()
    };
    let ips = ["10.1.0.5".parse().unwrap(), "fd01::5".parse().unwrap()];
    let env = Env::new(&pod, spec(&pod), &spec(&pod).containers[0], &ips, &settings)
        .map_err(|e| e.of_container(&pod, "app").to_string())?;
    Ok(env.0.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("\n"))
}

fn with_env(env: &str) -> String {
    format!(r#"{{"nodeName":"node1","containers":[{{"name":"app","env":{env}}}]}}"#)
}

#[test]
fn a_value_sees_the_variables_before_it() {
    let spec = with_env(
        r#"[{"name":"A","value":"$(B)"},{"name":"B","value":"1"},{"name":"C","value":"$(B)$(A)"},
            {"name":"A","value":"$(A)!"},{"name":"E"}]"#,
    );
    assert_eq!(env(&spec).unwrap(), "A=$(B)!\nB=1\nC=1$(B)\nE=");
}

#[test]
fn fields_of_the_pod_become_values() {
    for (path, want) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "uid-1"),
        ("metadata.labels['app']", "front"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['a.b/c']", "note"),
        ("spec.nodeName", "node1"),
        ("spec.serviceAccountName", ""),
        ("status.hostIP", "10.0.0.1"),
        ("status.hostIPs", "10.0.0.1,fd00::1"),
        ("status.podIP", "10.1.0.5"),
        ("status.podIPs", "10.1.0.5,fd01::5"),
    ] {
        let spec = with_env(&format!(
            r#"[{{"name":"X","valueFrom":{{"fieldRef":{{"fieldPath":"{path}"}}}}}},{{"name":"Y","value":"$(X)"}}]"#
        ));
        assert_eq!(env(&spec).unwrap(), format!("X={want}\nY={want}"), "{path}");
    }
}

#[test]
fn resources_are_rounded_up_to_their_divisor() {
    let resources = r#"{"limits":{"cpu":"1500m","hugepages-2Mi":"4Mi"},
        "requests":{"cpu":"250m","memory":"33Mi","ephemeral-storage":"0"}}"#;
    for (resource, divisor, want) in [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1", "1"),
        ("requests.memory", "0", "34603008"),
        ("requests.memory", "1Mi", "33"),
        ("requests.memory", "32Mi", "2"),
        ("requests.ephemeral-storage", "1", "0"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
        // What is not limited is limited by the node.
        ("limits.memory", "1Gi", "8"),
        ("limits.ephemeral-storage", "1", "100"),
    ] {
        let spec = format!(
            r#"{{"containers":[{{"name":"app","resources":{resources},"env":[{{"name":"X","valueFrom":
                {{"resourceFieldRef":{{"resource":"{resource}","divisor":"{divisor}"}}}}}}]}}]}}"#
        );
        assert_eq!(env(&spec).unwrap(), format!("X={want}"), "{resource} / {divisor}");
    }
}

#[test]
fn a_limit_can_be_anothers_the_pods_or_the_nodes() {
    let spec = |pod: &str, resource: &str| {
        format!(
            r#"{{"resources":{pod},"initContainers":[{{"name":"i","resources":{{"limits":{{"memory":"1Mi"}}}}}}],
                "containers":[{{"name":"app","env":[{{"name":"X","valueFrom":{{"resourceFieldRef":
                {{"resource":"{resource}","containerName":"i"}}}}}}]}}]}}"#
        )
    };
    let pod = r#"{"limits":{"memory":"9","cpu":"7"}}"#;
    assert_eq!(env(&spec(pod, "limits.memory")).unwrap(), "X=1048576");
    assert_eq!(env(&spec(pod, "limits.cpu")).unwrap(), "X=7");
    assert_eq!(env(&spec("{}", "limits.cpu")).unwrap(), "X=4");
}

#[test]
fn what_cannot_be_had_is_refused_with_its_field() {
    for (source, field) in [
        (r#"{"fieldRef":{"fieldPath":"status.phase"}}"#, "fieldRef"),
        (r#"{"fieldRef":{"fieldPath":"metadata.labels"}}"#, "fieldRef"),
        (r#"{"configMapKeyRef":{"name":"c","key":"k"}}"#, "configMapKeyRef"),
        (r#"{"secretKeyRef":{"name":"c","key":"k"}}"#, "secretKeyRef"),
        (r#"{"fileKeyRef":{"volumeName":"v","path":"p","key":"k"}}"#, "fileKeyRef"),
        (r#"{"resourceFieldRef":{"resource":"limits.gpu"}}"#, "resourceFieldRef"),
        (r#"{"resourceFieldRef":{"resource":"cpu"}}"#, "resourceFieldRef"),
        (r#"{"resourceFieldRef":{"resource":"limits.cpu","containerName":"x"}}"#, "resourceFieldRef"),
        (r#"{"resourceFieldRef":{"resource":"limits.cpu","divisor":"x"}}"#, "resourceFieldRef"),
    ] {
        let error = env(&with_env(&format!(r#"[{{"name":"X","valueFrom":{source}}}]"#))).unwrap_err();
        let want = format!("pod ns/web, container app: env[X].valueFrom.{field}: ");
        assert!(error.starts_with(&want), "{error}");
    }
    let from = r#"{"containers":[{"name":"app","envFrom":[{"secretRef":{"name":"s"}}]}]}"#;
    assert!(env(from).unwrap_err().starts_with("pod ns/web, container app: envFrom: "));
}
