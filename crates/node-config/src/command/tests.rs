use std::os::unix::ffi::OsStringExt;

use super::*;

fn read(line: &str) -> Result<Command, UsageError> {
    parse(line.split_whitespace().map(OsString::from))
}

fn error(line: &str) -> String {
    match read(line) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{line}: accepted"),
    }
}

#[test]
fn no_subcommand_means_the_agent() {
    let Command::Run(line) = read("--root-dir=/r -v 2").unwrap() else { panic!("not run") };
    assert_eq!(line.0.values.flags.root_dir, "/r");
    assert_eq!(line.0.values.config.logging.verbosity, 2);
    let Command::Config(line) = read("config --root-dir=/r").unwrap() else { panic!("not config") };
    assert_eq!(line.0.values.flags.root_dir, "/r");
}

#[test]
fn subcommands_take_their_own_flags_and_words() {
    let pods = |names: &[&str], output, watch, root: &str| PodsArgs {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        output,
        watch,
        root_dir: root.into(),
    };
    for (line, expected) in [
        ("pods", pods(&[], Output::Text, false, "/var/lib/kubelet")),
        ("pods web db -o wide", pods(&["web", "db"], Output::Wide, false, "/var/lib/kubelet")),
        ("pods -ojson -w", pods(&[], Output::Json, true, "/var/lib/kubelet")),
        ("pods -wo yaml x --root_dir /r", pods(&["x"], Output::Yaml, true, "/r")),
    ] {
        let Command::Ask(Ask::Pods(args)) = read(line).unwrap() else { panic!("{line}") };
        assert_eq!(args, expected, "{line}");
    }
    let Command::Ask(Ask::Sources(args)) = read("sources -o yaml --root-dir=/r").unwrap() else {
        panic!("not sources")
    };
    assert_eq!(args, SourcesArgs { output: Output::Yaml, root_dir: "/r".into() });
    let Command::Ask(Ask::Explain(args)) = read("explain web --root-dir=/r -o json").unwrap() else {
        panic!("not explain")
    };
    assert_eq!(args, ExplainArgs { pod: "web".into(), output: Output::Json, root_dir: "/r".into() });
}

fn of_pod(namespace: Option<&str>, root: &str) -> PodArgs {
    PodArgs { root_dir: root.into(), namespace: namespace.map(str::to_owned), pod: "web".to_owned() }
}

#[test]
fn logs_are_asked_for_as_of_kubectl() {
    let plain = LogsArgs {
        pod: of_pod(None, "/var/lib/kubelet"),
        container: None,
        follow: false,
        previous: false,
        since: None,
        tail: None,
        limit_bytes: None,
        timestamps: false,
    };
    let all = LogsArgs {
        pod: of_pod(Some("ns"), "/r"),
        container: Some("app".to_owned()),
        follow: true,
        previous: true,
        since: Some(Since::Ago(std::time::Duration::from_secs(90))),
        tail: Some(0),
        limit_bytes: Some(7),
        timestamps: true,
    };
    let time = Since::Time("2026-11-23T12:00:00Z".parse().unwrap());
    for (line, expected) in [
        ("logs web", plain.clone()),
        ("logs -fp web -nns --root-dir=/r -c app --since 1m30s --tail=0 --limit-bytes 7 --timestamps", all),
        ("logs --since-time=2026-11-23T12:00:00Z web", LogsArgs { since: Some(time), ..plain }),
    ] {
        let Command::Ask(Ask::Logs(args)) = read(line).unwrap() else { panic!("{line}") };
        assert_eq!(args, expected, "{line}");
    }
}

#[test]
fn all_behind_two_dashes_is_the_command() {
    let Command::Ask(Ask::Exec(args)) = read("exec -it web -c app -- sh -c ls -- -x").unwrap() else {
        panic!("not exec")
    };
    let expected = ExecArgs {
        pod: of_pod(None, "/var/lib/kubelet"),
        container: Some("app".to_owned()),
        stdin: true,
        tty: true,
        command: ["sh", "-c", "ls", "--", "-x"].map(str::to_owned).to_vec(),
    };
    assert_eq!(args, expected);
}

#[test]
fn ports_are_given_as_to_kubectl() {
    let line = "port-forward web 80 8080:81 :82 0:83 84:http metrics --address 127.0.0.1,::1";
    let Command::Ask(Ask::PortForward(args)) = read(line).unwrap() else { panic!("not port-forward") };
    let name = |name: &str| RemotePort::Name(name.to_owned());
    let forwards = [
        (LocalPort::Same, RemotePort::Number(80)),
        (LocalPort::Number(8080), RemotePort::Number(81)),
        (LocalPort::Free, RemotePort::Number(82)),
        (LocalPort::Free, RemotePort::Number(83)),
        (LocalPort::Number(84), name("http")),
        (LocalPort::Same, name("metrics")),
    ];
    let expected = PortForwardArgs {
        pod: of_pod(None, "/var/lib/kubelet"),
        addresses: vec!["127.0.0.1".to_owned(), "::1".to_owned()],
        forwards: forwards.map(|(local, remote)| Forward { local, remote }).to_vec(),
    };
    assert_eq!(args, expected);
}

#[test]
fn mistakes_are_named() {
    for (line, expected) in [
        ("wat", "unknown command wat"),
        ("--seccomp-default false", "unknown command false; was --seccomp-default=false meant?"),
        ("--root-dir /r pods", "unknown command pods; a command stands before all flags"),
        ("help wat", "unknown command wat"),
        ("explain", "explain takes exactly one pod, got 0"),
        ("logs", "logs takes exactly one pod, got 0"),
        ("logs web db", "logs takes exactly one pod, got 2"),
        ("logs web --tail=-2", "--tail \"-2\" must be -1 or more"),
        ("logs web --limit-bytes=-1", "--limit-bytes \"-1\" must be 0 or more"),
        ("logs web --since=-5s", "--since \"-5s\" must be more than 0"),
        (
            "logs web --since-time=yesterday",
            "--since-time \"yesterday\" must be a time such as 2026-11-23T12:00:00Z",
        ),
        (
            "logs web --since=5s --since-time=2026-11-23T12:00:00Z",
            "--since-time \"2026-11-23T12:00:00Z\" cannot be given together with --since",
        ),
        ("exec", "exec takes exactly one pod, got 0"),
        ("exec -- ls", "exec takes exactly one pod, got 0"),
        ("exec a b -- ls", "exec takes exactly one pod, got 2"),
        ("exec web ls -l", "unknown shorthand flag: 'l' in -l"),
        (
            "exec web ls",
            "exec takes a command behind two dashes: node-agent exec POD -- COMMAND [ARGUMENT...]",
        ),
        (
            "exec web --",
            "exec takes a command behind two dashes: node-agent exec POD -- COMMAND [ARGUMENT...]",
        ),
        (
            "port-forward web",
            "port-forward takes at least one port: node-agent port-forward POD [LOCAL:]REMOTE...",
        ),
        (
            "port-forward web 8080:0",
            "\"8080:0\" is no port to forward: it must be REMOTE, LOCAL:REMOTE or :REMOTE, with numbers from 1 to 65535; \
             REMOTE may be a port's name",
        ),
        ("port-forward web 80 --address=here", "--address \"here\" must be an IP address or localhost"),
        ("completion", "completion takes exactly one shell, got 0"),
        ("completion csh", "unknown command csh; a shell is bash, zsh or fish"),
        ("config x", "unknown command x"),
        (
            "--version=v1",
            "invalid argument \"v1\" for \"--version\" flag: a version to report has the form v1.2.3",
        ),
        ("sources web", "unknown command web"),
        ("explain a b", "explain takes exactly one pod, got 2"),
        ("explain a -o wide", "--output \"wide\" must be one of json, yaml"),
        ("pods -o name", "--output \"name\" must be one of wide, json, yaml"),
        ("pods --healthz-port=1", "unknown flag: --healthz-port"),
        ("pods -o", "flag needs an argument: 'o' in -o (a text)"),
        (
            "--file-check-frequency=10",
            "invalid argument \"10\" for \"--file-check-frequency\" flag: time: missing unit in duration \"10\"",
        ),
        (
            "--healthz-bind-address=localhost",
            "invalid argument \"localhost\" for \"--healthz-bind-address\" flag: \"localhost\" is not a valid \
             IP address",
        ),
    ] {
        assert_eq!(error(line), expected, "{line}");
    }
}

#[test]
fn an_argument_that_is_not_utf8_is_named_by_its_position() {
    let args = [OsString::from("--root-dir"), OsString::from_vec(vec![b'/', 0xff, b'\n'])];
    let Err(error) = parse(args) else { panic!("accepted") };
    assert_eq!(error.to_string(), "argument 2 is not valid UTF-8: \"/\u{fffd}\\n\"");
}

#[test]
fn version_has_the_form_that_kubeadm_reads() {
    let Command::Print(text) = read("--version").unwrap() else { panic!("not printed") };
    assert_eq!(text, format!("Kubernetes v1.36.2+node-agent.{}\n", env!("CARGO_PKG_VERSION")));
    assert!(matches!(read("--version=false").unwrap(), Command::Run(_)));
    assert!(matches!(read("--version=v1.36.7").unwrap(), Command::Run(_)));
    let Command::Print(text) = read("--version=raw").unwrap() else { panic!("not printed") };
    assert!(
        text.starts_with("version.Info{Major:\"1\", Minor:\"36\", GitVersion:\"v1.36.2+node-agent."),
        "{text}"
    );
}
