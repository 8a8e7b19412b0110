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
        let Command::Pods(args) = read(line).unwrap() else { panic!("{line}") };
        assert_eq!(args, expected, "{line}");
    }
    let Command::Sources(args) = read("sources -o yaml --root-dir=/r").unwrap() else {
        panic!("not sources")
    };
    assert_eq!(args, SourcesArgs { output: Output::Yaml, root_dir: "/r".into() });
    let Command::Explain(args) = read("explain web --root-dir=/r -o json").unwrap() else {
        panic!("not explain")
    };
    assert_eq!(args, ExplainArgs { pod: "web".into(), output: Output::Json, root_dir: "/r".into() });
}

#[test]
fn mistakes_are_named() {
    for (line, expected) in [
        ("wat", "unknown command wat"),
        ("--seccomp-default false", "unknown command false; was --seccomp-default=false meant?"),
        ("--root-dir /r pods", "unknown command pods; a command stands before all flags"),
        ("help wat", "unknown command wat"),
        ("explain", "explain takes exactly one pod, got 0"),
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
