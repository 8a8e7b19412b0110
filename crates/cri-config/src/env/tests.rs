use super::*;
use crate::test_pods::{pod, spec};
use kube_model::downward::Allocatable;

/// The environment of the container `app`, one `NAME=value` a line.
fn env(spec_json: &str) -> Result<String, String> {
    env_with(spec_json, None)
}

fn env_with(spec_json: &str, references: Option<&References<'_>>) -> Result<String, String> {
    let mut pod = pod(spec_json);
    pod.metadata.labels = Some([("app".to_owned(), "front".to_owned())].into());
    pod.metadata.annotations = Some([("a.b/c".to_owned(), "note".to_owned())].into());
    let settings = Settings {
        node_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        allocatable: Allocatable { milli_cpu: 3500, memory: 8 << 30, ephemeral_storage: 100 },
        ..Settings::default()
    };
    let ips = ["10.1.0.5".parse().unwrap(), "fd01::5".parse().unwrap()];
    let env = Env::new(&pod, spec(&pod), &spec(&pod).containers[0], &ips, &settings, references)
        .map_err(|e| e.to_string())?;
    let line = |(name, value): (&String, &Vec<u8>)| format!("{name}={}", value.escape_ascii());
    Ok(env.variables.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn data(values: &[(&str, &[u8])]) -> Data {
    values.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
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
fn what_references_build_is_bounded_and_the_variable_is_named() {
    let of = |last: usize| {
        let line = |i: usize| match i {
            0 => r#"{"name":"V0","value":"xxxxxxxxxxxxxxxx"}"#.to_owned(),
            i => format!(r#"{{"name":"V{i}","value":"{}"}}"#, format!("$(V{})", i - 1).repeat(4)),
        };
        with_env(&format!("[{}]", (0..=last).map(line).collect::<Vec<_>>().join(",")))
    };
    assert!(env(&of(8)).unwrap().ends_with(&"x".repeat(16 << 16)));
    let expected = "pod ns/web, container app: env[V10].value: what its references stand for is too long: the variables, \
                    command and arguments of a container may come to 6291456 bytes";
    assert_eq!(env(&of(19)).unwrap_err(), expected);
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
        ("spec.host", "node1"),
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

/// `envFrom` and `env` of the container `app`.
fn with_both(env_from: &str, env: &str) -> String {
    format!(r#"{{"containers":[{{"name":"app","envFrom":{env_from},"env":{env}}}]}}"#)
}

#[test]
fn objects_and_services_become_variables_and_the_later_is_stronger() {
    let (cm, other) = (data(&[("a", b"1"), ("b-c", b"2")]), data(&[("a", b"3")]));
    let secret = data(&[("p", b"s3cret"), ("raw", b"\xff\n")]);
    let services = [("WEB_PORT".to_owned(), "80".to_owned()), ("a".to_owned(), "service".to_owned())].into();
    let found = References {
        services: &services,
        objects: [
            ((Kind::ConfigMap, "cm"), Ok(&cm)),
            ((Kind::ConfigMap, "other"), Ok(&other)),
            // Names of the two kinds do not meet.
            ((Kind::Secret, "cm"), Ok(&secret)),
            ((Kind::ConfigMap, "gone"), Err(Missing::NotFound)),
            ((Kind::Secret, "gone"), Err(Missing::NotFound)),
        ]
        .into(),
        files: BTreeMap::new(),
    };
    let map = |key: &str, more: &str| format!(r#"{{"configMapKeyRef":{{"name":"cm","key":"{key}"{more}}}}}"#);
    for (case, env_from, env, want) in [
        ("services", "[]", "[]", "WEB_PORT=80\na=service"),
        (
            "a whole map over services, prefixed, names as they are",
            r#"[{"configMapRef":{"name":"cm"}},{"prefix":"X_","configMapRef":{"name":"cm"}}]"#,
            "[]",
            "WEB_PORT=80\nX_a=1\nX_b-c=2\na=1\nb-c=2",
        ),
        (
            "the later of two maps",
            r#"[{"configMapRef":{"name":"cm"}},{"configMapRef":{"name":"other"}}]"#,
            "[]",
            "WEB_PORT=80\na=3\nb-c=2",
        ),
        (
            "a whole secret, bytes as they are",
            r#"[{"secretRef":{"name":"cm"}}]"#,
            "[]",
            "WEB_PORT=80\na=service\np=s3cret\nraw=\\xff\\n",
        ),
        (
            "env over envFrom, which it sees",
            r#"[{"configMapRef":{"name":"cm"}}]"#,
            r#"[{"name":"Z","value":"$(a)$(WEB_PORT)$(later)"},{"name":"a","value":"mine"},{"name":"later"}]"#,
            "WEB_PORT=80\nZ=180$(later)\na=mine\nb-c=2\nlater=",
        ),
        (
            "single keys",
            "[]",
            &format!(
                r#"[{{"name":"A","valueFrom":{}}},{{"name":"B","valueFrom":{{"secretKeyRef":
                    {{"name":"cm","key":"raw"}}}}}},{{"name":"C","value":"$(A)"}}]"#,
                map("a", "")
            ),
            "A=1\nB=\\xff\\n\nC=1\nWEB_PORT=80\na=service",
        ),
        (
            "what is optional and not there leaves what was there",
            r#"[{"configMapRef":{"name":"gone","optional":true}},{"secretRef":{"name":"gone","optional":true}}]"#,
            &format!(
                r#"[{{"name":"a","valueFrom":{}}},{{"name":"B","valueFrom":{{"configMapKeyRef":
                    {{"name":"gone","key":"k","optional":true}}}}}},{{"name":"C","valueFrom":{{"secretKeyRef":
                    {{"name":"gone","key":"k","optional":true}}}}}}]"#,
                map("none", r#","optional":true"#)
            ),
            "WEB_PORT=80\na=service",
        ),
    ] {
        assert_eq!(env_with(&with_both(env_from, env), Some(&found)).as_deref(), Ok(want), "{case}");
    }
}

#[test]
fn what_is_missing_is_said_in_the_kubelets_words() {
    let (cm, secret) = (data(&[("a", b"1")]), data(&[("raw", b"\xff")]));
    let locked = r#"secret "ns/locked" is forbidden: no relationship found"#;
    let found = References {
        services: &BTreeMap::new(),
        objects: [
            ((Kind::ConfigMap, "cm"), Ok(&cm)),
            ((Kind::Secret, "sec"), Ok(&secret)),
            ((Kind::ConfigMap, "nope"), Err(Missing::NotFound)),
            ((Kind::Secret, "nope"), Err(Missing::NotFound)),
            ((Kind::Secret, "locked"), Err(Missing::Unreadable(locked.to_owned()))),
        ]
        .into(),
        files: BTreeMap::new(),
    };
    let key_ref = |source: &str, name: &str, key: &str| {
        format!(r#"[{{"name":"A","valueFrom":{{"{source}":{{"name":"{name}","key":"{key}"}}}}}}]"#)
    };
    for (env_from, env, want) in [
        ("[]", key_ref("configMapKeyRef", "nope", "a"), r#"configmap "nope" not found"#),
        ("[]", key_ref("secretKeyRef", "nope", "a"), r#"secret "nope" not found"#),
        (r#"[{"configMapRef":{"name":"nope"}}]"#, "[]".to_owned(), r#"configmap "nope" not found"#),
        (
            r#"[{"secretRef":{"name":"nope","optional":false}}]"#,
            "[]".to_owned(),
            r#"secret "nope" not found"#,
        ),
        ("[]", key_ref("configMapKeyRef", "cm", "k"), "couldn't find key k in ConfigMap ns/cm"),
        ("[]", key_ref("secretKeyRef", "sec", "k"), "couldn't find key k in Secret ns/sec"),
        // That it may be missing does not say that it may be refused.
        (r#"[{"secretRef":{"name":"locked","optional":true}}]"#, "[]".to_owned(), locked),
        (
            r#"[{"secretRef":{"name":"sec"}}]"#,
            r#"[{"name":"A","value":"x$(raw)"}]"#.to_owned(),
            "pod ns/web, container app: env[A].value: $(raw) is not UTF-8 text, which is all that can be put \
             in here",
        ),
    ] {
        let error = env_with(&with_both(env_from, &env), Some(&found)).unwrap_err();
        assert_eq!(error, want, "{env_from} {env}");
    }
}

#[test]
fn a_value_of_a_file_becomes_a_variable_or_says_why_not() {
    let key = |key| FileKey { volume: "v", path: "env", key };
    let no_file = FileKey { volume: "v", path: "none", key: "A" };
    let unreadable = "couldn't parse env file: it has no sense";
    let found = References {
        services: &BTreeMap::new(),
        objects: BTreeMap::new(),
        files: [
            (key("A"), Ok(Some(&b"one\ntwo\xff"[..]))),
            (key("none"), Ok(None)),
            (no_file, Err(Missing::NotFound)),
            (FileKey { path: "wrong", ..key("A") }, Err(Missing::Unreadable(unreadable.to_owned()))),
        ]
        .into(),
    };
    for (path, key, optional, want) in [
        ("env", "A", false, Ok("X=one\\ntwo\\xff\nY=y")),
        ("env", "none", true, Ok("X=x\nY=y")),
        ("none", "A", true, Ok("X=x\nY=y")),
        (
            "env",
            "none",
            false,
            Err(r#"environment variable key "none" not found in file "env" of volume "v""#),
        ),
        ("none", "A", false, Err(r#"couldn't parse env file: there is no file "none" in volume "v""#)),
        ("wrong", "A", true, Err(unreadable)),
    ] {
        let env = format!(
            r#"[{{"name":"X","value":"x"}},{{"name":"Y","value":"y"}},{{"name":"X","valueFrom":{{"fileKeyRef":
                {{"volumeName":"v","path":"{path}","key":"{key}","optional":{optional}}}}}}}]"#
        );
        let found = env_with(&with_both("[]", &env), Some(&found));
        assert_eq!(found, want.map(str::to_owned).map_err(str::to_owned), "{path} {key} {optional}");
    }
}

#[test]
fn only_what_a_container_needs_is_to_be_looked_up() {
    let pod = pod(&with_both(
        r#"[{"configMapRef":{"name":"a"}},{"secretRef":{"name":"a"}},{"prefix":"X_"}]"#,
        r#"[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"b","key":"k"}}},
            {"name":"B","valueFrom":{"configMapKeyRef":{"name":"b","key":"l"}}},
            {"name":"C","value":"own","valueFrom":{"secretKeyRef":{"name":"unused","key":"k"}}},
            {"name":"D","valueFrom":{"secretKeyRef":{"name":"c","key":"k"}}},
            {"name":"E","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},
            {"name":"F","valueFrom":{"fileKeyRef":{"volumeName":"v","path":"p","key":"k"}}},
            {"name":"G","value":"own","valueFrom":{"fileKeyRef":{"volumeName":"w","path":"p","key":"k"}}}]"#,
    ));
    let files: Vec<_> = files(&spec(&pod).containers[0]).into_iter().collect();
    assert_eq!(files, [FileKey { volume: "v", path: "p", key: "k" }]);
    assert_eq!(
        references(&spec(&pod).containers[0]).into_iter().collect::<Vec<_>>(),
        [(Kind::ConfigMap, "a"), (Kind::ConfigMap, "b"), (Kind::Secret, "a"), (Kind::Secret, "c")]
    );
}

#[test]
fn values_are_not_printed() {
    let secret = data(&[("password", b"s3cret")]);
    let services = [("WEB_PORT".to_owned(), "8080".to_owned())].into();
    let key = FileKey { volume: "v", path: "p", key: "k" };
    let found = References {
        services: &services,
        objects: [((Kind::Secret, "sec"), Ok(&secret))].into(),
        files: [(key, Ok(Some(&b"s3cret"[..])))].into(),
    };
    let printed = format!("{found:?}");
    assert!(printed.contains("sec") && printed.contains("WEB_PORT"), "{printed}");
    assert!(!printed.contains("s3cret") && !printed.contains("8080"), "{printed}");
}
