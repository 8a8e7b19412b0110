//! Configurations and command lines as distributions write them get the real kubelet's verdict.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test may panic")]

use std::io;
use std::path::{Path, PathBuf};

use kube_model::yaml::Document;
use node_config::validate::Facts;
use node_config::validate::documents;
use node_config::{Command, Files, Settings, parse};
use serde_json::Value;

const ALL: &str = include_str!("../../../tests/fixtures/node-configs/as-distributions-write-them.jsonl");

/// Whatever file a command line names, it says nothing.
struct Anything;

impl Files for Anything {
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/").join(path))
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        // With an API server or without.
        Ok(b"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
             authentication: {webhook: {enabled: false}}\nauthorization: {mode: AlwaysAllow}\n"
            .into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

const ROLE: &str = "--node-labels[node-role.kubernetes.io/";

/// The fields, and what is wrong with them.
type Wrong = Vec<(String, String)>;

fn of_configuration(config: &Value) -> Result<(), Wrong> {
    let no_pods = |_: &Path, _: Document| panic!("no pod was given");
    let text = config.to_string();
    let checked = documents::check(Path::new("c"), text.as_bytes(), &Facts::default(), &no_pods);
    let wrong = |problem: kube_model::view::Problem| (problem.field.unwrap_or_default(), problem.message);
    let wrong: Wrong = checked.problems.into_iter().map(wrong).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn of_command_line(args: &[Value]) -> Result<(), Wrong> {
    // The recording has lost the empty arguments that follow these flags there.
    let empty_after = |arg: &str| arg == "--node-labels" || arg == "--register-with-taints";
    let args = args.iter().flat_map(|arg| {
        let arg = arg.as_str().unwrap();
        [Some(arg), empty_after(arg).then_some("")].into_iter().flatten().map(Into::into)
    });
    let line = match parse(args) {
        Ok(Command::Run(line)) => line,
        Ok(_) => panic!("no command line of the agent"),
        Err(error) => return Err(vec![(String::new(), error.to_string())]),
    };
    let effective = line.load(&Anything).unwrap();
    let facts = Facts { api_server: Some(!effective.flags.kubeconfig.is_empty()), ..Facts::default() };
    let wrong = |error: node_config::InvalidConfiguration| {
        error.0.into_iter().map(|found| (found.field, found.rule)).collect()
    };
    Settings::new(&effective, &facts).map(|_| ()).map_err(wrong)
}

#[test]
fn what_distributions_write_gets_the_kubelets_verdict() {
    let (mut agreed, mut systemd, mut openshift) = (0, 0, 0);
    for line in ALL.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let name = entry["name"].as_str().unwrap();
        let ours = match entry.get("args") {
            Some(args) => of_command_line(args.as_array().unwrap()),
            None => of_configuration(&entry["config"]),
        };
        match (ours, entry.get("go_error")) {
            (Ok(()), None) => agreed += 1,
            // The same words.
            (Err(wrong), Some(error)) => {
                assert!(error.as_str().unwrap().contains(&wrong[0].1), "{name}: {wrong:?}, not {error}");
                agreed += 1;
            }
            // Recorded with OpenShift's build, which lets the roles of its own nodes pass; upstream refuses them.
            (Err(wrong), None) if wrong.iter().all(|(field, _)| field.starts_with(ROLE)) => openshift += 1,
            // Not built yet: the one error, and a clear one.
            (Err(wrong), None) => {
                let [(field, rule)] = &wrong[..] else { panic!("{name}: {wrong:?}") };
                assert_eq!(field, "cgroupDriver", "{name}: {rule}");
                assert!(rule.contains("only \"cgroupfs\" is"), "{name}: {rule}");
                systemd += 1;
            }
            (Ok(()), Some(error)) => panic!("{name}: the kubelet says {error}"),
        }
    }
    assert_eq!((agreed, openshift, systemd), (43, 4, 31));
}
