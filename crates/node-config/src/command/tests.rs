use std::os::unix::ffi::OsStringExt;

use super::*;

fn read(line: &str) -> Result<Command, UsageError> {
    parse(line.split_whitespace().map(OsString::from))
}

fn error(line: &str) -> String {
    read(line).unwrap_err().to_string()
}

#[test]
fn no_subcommand_means_the_agent() {
    let Command::Run(settings) = read("--root-dir=/r -v 2").unwrap() else { panic!("not run") };
    assert_eq!(settings.root_dir, PathBuf::from("/r"));
    assert_eq!(settings.verbosity, 2);
}

#[test]
fn subcommands_take_their_own_flags_and_words() {
    let pods = |names: &[&str], output, watch, root: &str| {
        Command::Pods(PodsArgs {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            output,
            watch,
            root_dir: root.into(),
        })
    };
    for (line, expected) in [
        ("pods", pods(&[], Output::Text, false, "/var/lib/kubelet")),
        ("pods web db -o wide", pods(&["web", "db"], Output::Wide, false, "/var/lib/kubelet")),
        ("pods -ojson -w", pods(&[], Output::Json, true, "/var/lib/kubelet")),
        ("pods -wo yaml x --root_dir /r", pods(&["x"], Output::Yaml, true, "/r")),
    ] {
        assert_eq!(read(line).unwrap(), expected, "{line}");
    }
    assert_eq!(
        read("explain web --root-dir=/r -o json").unwrap(),
        Command::Explain(ExplainArgs { pod: "web".into(), output: Output::Json, root_dir: "/r".into() })
    );
}

#[test]
fn mistakes_are_named() {
    for (line, expected) in [
        ("wat", "unknown command wat"),
        ("--seccomp-default false", "unknown command false; was --seccomp-default=false meant?"),
        ("--root-dir /r pods", "unknown command pods; a command stands before all flags"),
        ("help wat", "unknown command wat"),
        ("explain", "explain takes exactly one pod, got 0"),
        ("explain a b", "explain takes exactly one pod, got 2"),
        ("explain a -o wide", "invalid configuration: --output \"wide\" must be one of json, yaml"),
        ("pods -o name", "invalid configuration: --output \"name\" must be one of wide, json, yaml"),
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
    assert_eq!(parse(args).unwrap_err().to_string(), "argument 2 is not valid UTF-8: \"/\u{fffd}\\n\"");
}

#[test]
fn version_has_the_form_that_kubeadm_reads() {
    let Command::Print(text) = read("--version").unwrap() else { panic!("not printed") };
    assert_eq!(text, format!("Kubernetes v1.36.2+node-agent.{}\n", env!("CARGO_PKG_VERSION")));
    assert!(matches!(read("--version=false").unwrap(), Command::Run(_)));
}

#[test]
fn help_is_laid_out_as_the_kubelets() {
    for (line, golden) in [
        ("--help", include_str!("help-agent.txt")),
        ("-h --root-dir=relative", include_str!("help-agent.txt")),
        ("help", include_str!("help-agent.txt")),
        ("help pods", include_str!("help-pods.txt")),
        ("pods --help", include_str!("help-pods.txt")),
        ("explain -h", include_str!("help-explain.txt")),
    ] {
        let Command::Print(text) = read(line).unwrap() else { panic!("{line}: not printed") };
        assert_eq!(text, golden, "{line}:\n{text}");
    }
}
