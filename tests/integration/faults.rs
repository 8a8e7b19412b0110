//! What goes wrong on a node: the pod concerned waits and says for what, everything else goes on.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use cri_client::v1::StatusRequest;
use serde_json::Value;
use testkit::env::output;

use crate::node::{Node, eventually, id_of, on_both_lines};
use crate::survey::{SLEEPER, prove_alive};

/// An image on a registry that refuses every connection.
const NOWHERE: &str = "localhost:1/nothing:1";

on_both_lines! {
    fn with_no_runtime_at_the_start_the_agent_waits_and_says_so(node) {
        node.agent.kill9();
        node.containerd.kill9();
        node.apply("sleeper", SLEEPER);
        node.agent.start_again().unwrap();
        node.agent.wait_healthy().unwrap();
        until_waits(&node, "sleeper", |wait| wait["reason"] == "RuntimeNotReady");
        let endpoint = node.containerd.endpoint();
        let table = node.agent.table().unwrap();
        assert!(table.contains(&format!("The runtime at {endpoint} is not ready")), "{table}");
        let explained = node.agent.ask(&["explain", "sleeper"]).unwrap();
        assert!(explained.contains("RuntimeNotReady") && explained.contains(&endpoint), "{explained}");

        node.containerd.start_again().unwrap();
        node.until_phase("sleeper", "Running");
        let table = node.agent.table().unwrap();
        assert!(!table.contains("not ready"), "{table}");
    }

    fn what_needs_an_api_server_waits_with_the_name_of_the_field(node) {
        node.apply("classy", &format!("runtimeClassName: gvisor{SLEEPER}"));
        node.apply("full", &format!("hostUsers: false{SLEEPER}"));
        for (name, field) in [("classy", "spec.runtimeClassName"), ("full", "spec.hostUsers")] {
            let wait = until_waits(&node, name, |wait| wait["message"].as_str().unwrap().contains(field));
            assert!(wait["since"].is_string(), "since when: {wait}");
        }
        prove_alive(&node);
        node.apply("classy", SLEEPER);
        node.until_phase("classy", "Running");
        node.delete("full");
        node.until_gone("full");
        node.agent.wait_healthy().unwrap();
    }

    fn without_a_cni_configuration_only_pods_on_the_nodes_network_start(node) {
        node.apply("before", SLEEPER);
        let before = app(&node, "before");
        node.agent.kill9();
        let conf = node.run.dir().join("cni/10-test.conflist");
        let aside = node.run.dir().join("10-test.conflist");
        fs::copy(&conf, &aside).unwrap();
        fs::remove_file(&conf).unwrap();
        eventually("containerd misses its network", || match network(&node) {
            (false, _) => Ok(()),
            ready => Err(format!("{ready:?}")),
        });
        let (_, why) = network(&node);

        node.apply("netted", SLEEPER);
        node.apply("host", &format!("hostNetwork: true{SLEEPER}"));
        node.agent.start_again().unwrap();
        until_waits(&node, "netted", |wait| {
            wait["reason"] == "NetworkNotReady" && wait["message"].as_str().unwrap().contains(&why)
        });
        node.until_event("netted", "NetworkNotReady", &why);
        node.until_phase("host", "Running");
        node.until_phase("netted", "Pending");
        assert_eq!(id_of(&app(&node, "before")), id_of(&before), "what runs goes on");

        // Written in place: containerd overlooks what is renamed into the folder.
        fs::copy(&aside, &conf).unwrap();
        node.until_phase("netted", "Running");
    }

    fn an_image_that_cannot_be_pulled_is_tried_again_in_the_runtimes_words(node) {
        node.apply("pulls", &SLEEPER.replace("$BUSYBOX", NOWHERE));
        let failed = node.until_container("pulls", "app", "fails to pull", waits_for("ErrImagePull"));
        let words = message(&failed);
        assert!(words.contains(NOWHERE) && words.contains("connection refused"), "{words}");
        let waits = node.until_container("pulls", "app", "backs off", waits_for("ImagePullBackOff"));
        let backs_off = format!("Back-off pulling image \"{NOWHERE}\"");
        assert!(message(&waits).starts_with(&backs_off), "{waits}");
        assert!(message(&waits).contains("connection refused"), "the reason is still told: {waits}");
        node.until_shown("pulls", "ImagePullBackOff");
        node.until_event("pulls", "Failed", "connection refused");
        node.until_event("pulls", "BackOff", &backs_off);
        // At the next try it fails to pull once more, for a moment.
        let wait = until_waits(&node, "pulls", |wait| {
            wait["reason"] == "ImagePullBackOff" && wait["until"].is_string()
        });
        assert_eq!(wait["container"], "app");

        prove_alive(&node);
        node.apply("pulls", SLEEPER);
        node.until_phase("pulls", "Running");
    }

    fn an_image_that_must_not_be_pulled_is_missed_in_the_kubelets_words(node) {
        let never = SLEEPER.replace("$BUSYBOX", &format!("{NOWHERE}\n  imagePullPolicy: Never"));
        node.apply("never", &never);
        let waits = node.until_container("never", "app", "misses its image", waits_for("ErrImageNeverPull"));
        assert_eq!(message(&waits), format!("Container image \"{NOWHERE}\" is not present with pull policy of Never"));
        node.until_shown("never", "ErrImageNeverPull");
        node.delete("never");
        node.until_gone("never");
    }

    fn a_full_disk_holds_up_new_pods_until_there_is_room(node) {
        node.apply("before", SLEEPER);
        node.until_phase("before", "Running");
        node.agent.kill9();
        let root = node.agent.root();
        let disk = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        output(Command::new("mount").args(disk).arg(&root)).unwrap();
        node.agent.start_again().unwrap();
        let before = app(&node, "before");
        let filler = root.join("filler");
        fill(&filler);

        node.apply("late", SLEEPER);
        let pods = root.join("pods").display().to_string();
        eventually("`explain` names the path and what is wrong with it", || {
            let text = node.agent.ask(&["explain", "late"]).map_err(|e| e.to_string())?;
            let is_shown = text.contains(&pods) && text.contains("No space left on device");
            if is_shown { Ok(()) } else { Err(text) }
        });
        node.agent.wait_healthy().unwrap();
        assert_eq!(id_of(&app(&node, "before")), id_of(&before), "what runs goes on");

        fs::remove_file(&filler).unwrap();
        node.until_phase("late", "Running");
    }
}

/// The status of the container `app` once it runs.
fn app(node: &Node, name: &str) -> Value {
    node.until_container(name, "app", "runs", |c| c["state"]["running"].is_object())
}

fn waits_for(reason: &str) -> impl Fn(&Value) -> bool {
    move |status| status["state"]["waiting"]["reason"] == reason
}

fn message(status: &Value) -> &str {
    status["state"]["waiting"]["message"].as_str().unwrap_or_default()
}

/// Waits until the pod waits for something like this, and returns what.
fn until_waits(node: &Node, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("pod {name} waits for it"), || {
        let explained = node.agent.ask(&["explain", name, "-o", "json"]).map_err(|e| e.to_string())?;
        let pod: Value = serde_json::from_str(&explained).unwrap();
        let waits = pod["waits"].as_array().cloned().unwrap_or_default();
        waits.iter().find(|wait| is(wait)).cloned().ok_or_else(|| format!("{waits:?}"))
    })
}

/// Whether the runtime has a network for pods, and what it says about it.
fn network(node: &Node) -> (bool, String) {
    let status = node.cri(async |cri| cri.status(StatusRequest::default()).await).unwrap().status.unwrap();
    let condition = status.conditions.into_iter().find(|c| c.r#type == "NetworkReady").unwrap();
    (condition.status, condition.message)
}

fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let full = loop {
        if let Err(error) = file.write_all(&[0; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull);
}
