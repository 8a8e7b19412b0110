use super::*;

fn no_pods(_: &Path, _: Document) -> (Vec<Problem>, Vec<Problem>) {
    panic!("no pod was given")
}

fn config(text: &str) -> Checked {
    let header = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let text = format!("{header}{text}");
    let mut checked = check(Path::new("k.yaml"), text.as_bytes(), &Facts::default(), &no_pods);
    // These come and go with what the agent does.
    checked
        .warnings
        .retain(|warning| warning.message != IDLE && !warning.message.starts_with("done only in part"));
    checked
}

const IDLE: &str = "accepted, but without effect in this agent";

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn a_good_configuration_has_no_problems() {
    let checked = config("evictionHard:\n  memory.available: 200Mi\n");
    assert_eq!(checked.kind, Kind::KubeletConfiguration);
    assert_eq!((checked.problems, checked.warnings), (vec![], vec![]));
}

#[test]
fn all_problems_are_told_by_line_column_and_field() {
    let checked = config(
        "port: 70000\nevictionHard:\n  memory.available: none\nregisterWithTaints:\n- key: a\n  effect: \
         Never\nnosuch: 1\nport: 70001\n",
    );
    assert_eq!(
        lines(&checked.problems),
        [
            "k.yaml:5:3: evictionHard[memory.available]: \"none\" must be a quantity such as 100Mi or a \
             percentage such as 10%: quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            "k.yaml:8:3: registerWithTaints[0].effect: \"Never\" must be \"NoSchedule\", \"PreferNoSchedule\" or \
             \"NoExecute\"",
            "k.yaml:10:1: port: 70001 must be between 1 and 65535",
        ]
    );
    assert_eq!(
        lines(&checked.warnings),
        [
            "k.yaml:9:1: warning: nosuch: unknown field, ignored",
            "k.yaml:10:1: warning: port: set twice in the same place; the last one is used",
        ]
    );
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_place() {
    for (text, expected) in [
        ("maxPods: many\n", "k.yaml:3:1: maxPods: invalid type: string \"many\", expected i32"),
        ("maxPods: 3000000000\n", "k.yaml:3:1: maxPods: invalid value: integer `3000000000`, expected i32"),
        (
            "clusterDomain: yes\n",
            "k.yaml:3:1: clusterDomain: invalid type: boolean `true`, expected a string: put yes in \
             quotes",
        ),
        ("evictionHard: [a]\n", "k.yaml:3:1: evictionHard: invalid type: sequence, expected a map"),
    ] {
        assert_eq!(lines(&config(text).problems), [expected], "{text}");
    }
    let checked = config("syncFrequency: 10\n");
    assert!(lines(&checked.problems)[0].starts_with("k.yaml:3:1: syncFrequency: "), "{checked:?}");
}

#[test]
fn zeros_that_mean_nothing_and_further_documents_are_told() {
    let checked = config("syncFrequency: 0s\n---\nkind: Pod\n");
    assert_eq!(lines(&checked.problems), [""; 0]);
    assert_eq!(
        lines(&checked.warnings),
        [
            "k.yaml:3:1: warning: syncFrequency: is the same as not set here: the default counts",
            "k.yaml:4:1: warning: only the first document of a file is read; this one is ignored",
        ]
    );
}

#[test]
fn what_is_accepted_without_effect_is_told() {
    let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nhairpinMode: none\n";
    let checked = check(Path::new("k.yaml"), text.as_bytes(), &Facts::default(), &no_pods);
    assert_eq!(lines(&checked.warnings), [format!("k.yaml:3:1: warning: hairpinMode: {IDLE}")]);
}

#[test]
fn what_is_neither_configuration_nor_pod_is_refused() {
    let expected =
        "expected a KubeletConfiguration (kubelet.config.k8s.io/v1beta1) or a Pod, ConfigMap or Secret (v1)";
    for (text, problem) in [
        ("", format!("f: the file is empty: {expected}")),
        ("# only a comment\n", format!("f: the file is empty: {expected}")),
        ("[]", format!("f: {expected}")),
        ("a: b", format!("f:1:1: kind: is missing: {expected}")),
        (
            "apiVersion: v1\nkind: Service\n",
            format!("f:2:1: kind: \"Service\" is not used by this agent: {expected}"),
        ),
        ("a:\n\tc: d\n", "f:2:1: a tab can not indent: use spaces".to_owned()),
        ("a: \0", "f:1:4: control character U+0000 is not allowed".to_owned()),
    ] {
        let checked = check(Path::new("f"), text.as_bytes(), &Facts::default(), &no_pods);
        assert_eq!((checked.kind, lines(&checked.problems)), (Kind::Unknown, vec![problem]), "{text:?}");
    }
}

#[test]
fn a_configuration_needs_its_version() {
    for (version, message) in [
        ("", "k.yaml:1:1: expected apiVersion \"kubelet.config.k8s.io/v1beta1\", got none"),
        (
            "apiVersion: kubelet.config.k8s.io/v1\n",
            "k.yaml:1:1: expected apiVersion \"kubelet.config.k8s.io/v1beta1\", got \
             \"kubelet.config.k8s.io/v1\"",
        ),
    ] {
        let text = format!("{version}kind: KubeletConfiguration\n");
        let checked = check(Path::new("k.yaml"), text.as_bytes(), &Facts::default(), &no_pods);
        assert_eq!(lines(&checked.problems), [message]);
    }
}

#[test]
fn pods_are_checked_by_who_knows_them() {
    let pods = |path: &Path, manifest: Document| {
        let found = |message: &str| vec![problem(path, None, None, message.to_owned())];
        assert_eq!(manifest.value, serde_json::json!({"kind": "Pod"}));
        (found("bad"), found("odd"))
    };
    let checked = check(Path::new("p.yaml"), b"kind: Pod\n", &Facts::default(), &pods);
    assert_eq!(checked.kind, Kind::Pod);
    assert_eq!(lines(&checked.problems), ["p.yaml: bad"]);
    assert_eq!(text(&[checked]), "p.yaml: bad\np.yaml: warning: odd\n");
}

#[test]
fn results_are_shown_as_lines_and_as_json() {
    let all = [config("maxPods: -1\n"), config("clusterDNS: [dns]\n")];
    assert_eq!(
        text(&all),
        "k.yaml:3:1: maxPods: -1 must be 0 or more\n\
         k.yaml:3:14: warning: clusterDNS[0]: \"dns\" is not an IP address and is left out\n\
         k.yaml: KubeletConfiguration ok\n"
    );
    let value: Value = serde_json::from_str(&json(&all)).unwrap();
    assert_eq!(value[0]["kind"], "KubeletConfiguration");
    assert_eq!(value[0]["problems"][0]["field"], "maxPods");
    assert_eq!(value[0]["problems"][0]["line"], 3);
    assert_eq!(value[1]["problems"], serde_json::json!([]));
    assert_eq!(value[1]["warnings"][0]["column"], 14);
}
