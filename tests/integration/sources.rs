//! A folder of manifests under real hands: editors, mistakes, accidents.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::env::{BUSYBOX, output, pod};

use crate::node::{Node, eventually, id_of, manifest, on_both_lines, uid_of};

/// A pod that sleeps; `word` tells its versions apart.
fn sleeper(name: &str, word: &str) -> String {
    let spec = format!(
        "terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, '3600']
  env: [{{name: WORD, value: {word}}}]
"
    );
    manifest(name, &spec)
}

on_both_lines! {
    fn json_and_yaml_run_and_what_is_no_manifest_does_no_harm(node) {
        let folder = node.agent.manifests();
        fs::create_dir(folder.join("old")).unwrap();
        fs::write(folder.join("old/nested.yaml"), sleeper("nested", "x")).unwrap();
        fs::write(folder.join(".hidden.yaml"), sleeper("hidden", "x")).unwrap();
        output(std::process::Command::new("mkfifo").arg(folder.join("fifo.yaml"))).unwrap();
        symlink("loop.yaml", folder.join("loop.yaml")).unwrap();
        fs::write(folder.join("yaml"), sleeper("yaml", "x")).unwrap();
        let json = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "json"},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "app", "image": BUSYBOX, "command": ["sleep", "3600"]}],
            },
        });
        fs::write(folder.join("pod.json"), json.to_string()).unwrap();
        let yaml = node.until_ready("yaml");
        node.until_ready("json");
        until_told(&node, &["fifo.yaml: is a FIFO, not a regular file", "loop.yaml: "]);

        fs::remove_file(folder.join("pod.json")).unwrap();
        fs::remove_file(folder.join("fifo.yaml")).unwrap();
        node.until_gone("json");
        assert_eq!(names(&node), ["yaml-node1"]);
        assert_same_container(&node, "yaml", &yaml);
        eventually("the problem goes with its file", || {
            let shown = node.agent.table().map_err(|e| e.to_string())?;
            if shown.contains("fifo") { Err(shown) } else { Ok(()) }
        });
    }

    fn a_manifest_that_is_removed_and_written_again_at_once_starts_its_pod_anew(node) {
        let (path, text) = (node.agent.manifests().join("web.yaml"), sleeper("web", "x").replace("$BUSYBOX", BUSYBOX));
        fs::write(&path, &text).unwrap();
        let mut before = node.until_ready("web");
        for _ in 0..2 {
            fs::remove_file(&path).unwrap();
            fs::write(&path, &text).unwrap();
            let container = |pod: &Value| id_of(&pod["status"]["containerStatuses"][0]);
            let old = container(&before);
            let after = node.until_pod("web", "runs in another container", |pod| {
                let status = &pod["status"]["containerStatuses"][0];
                status["ready"] == true && id_of(status) != old
            });
            assert_eq!(uid_of(&after), uid_of(&before));
            assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0, "{after}");
            before = after;
        }
        // A rename over it says the same and changes nothing.
        fs::write(node.agent.manifests().join(".new"), &text).unwrap();
        fs::rename(node.agent.manifests().join(".new"), &path).unwrap();
        fs::write(node.agent.manifests().join("next.yaml"), sleeper("next", "x").replace("$BUSYBOX", BUSYBOX)).unwrap();
        node.until_ready("next");
        assert_same_container(&node, "web", &before);
    }

    fn a_broken_manifest_keeps_its_last_good_version_and_says_where_it_is_broken(node) {
        let write = |name: &str, text: &str| node.agent.write_manifest(&format!("{name}.yaml"), text).unwrap();
        let good = sleeper("web", "one");
        write("web", &good);
        write("never-good", "apiVersion: v1\nkind: Pod\nmetadata: [\n");
        let before = node.until_ready("web");

        write("web", &good.replace("terminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: soon"));
        let problem = "web.yaml:6:3: spec.terminationGracePeriodSeconds: ";
        until_told(&node, &[problem, "the last good version of this file keeps running", "never-good.yaml:4:"]);
        let table = node.agent.ask(&["pods"]).unwrap();
        assert!(!table.contains(problem), "problems go to stderr: {table}");
        eventually("it is logged", || {
            let log = fs::read_to_string(node.agent.log()).unwrap();
            if log.contains(problem) { Ok(()) } else { Err(log) }
        });
        let explained = node.agent.ask(&["explain", "web"]).unwrap();
        assert!(explained.contains("Manifest problems") && explained.contains(problem), "{explained}");
        let explained = node.agent.ask(&["explain", "never-good"]).unwrap();
        assert!(explained.contains("No pod came of this manifest") && explained.contains(":4:"), "{explained}");
        assert_same_container(&node, "web", &before);

        // Mended as it was, nothing happens to it; mended otherwise, it is replaced.
        write("web", &good);
        eventually("the problem is gone", || {
            let shown = node.agent.table().map_err(|e| e.to_string())?;
            if shown.contains(problem) { Err(shown) } else { Ok(()) }
        });
        assert_same_container(&node, "web", &before);
        write("web", &sleeper("web", "two"));
        until_replaced(&node, "web", &before);
    }

    fn of_two_files_with_one_name_the_first_has_it(node) {
        let folder = node.agent.manifests();
        fs::write(folder.join("b.yaml"), sleeper("web", "b")).unwrap();
        let first = node.until_ready("web");
        fs::write(folder.join("c.yaml"), sleeper("web", "c")).unwrap();
        until_told(&node, &["c.yaml:4:3: metadata.name: the pod default/web-node1 is already in "]);
        assert_same_container(&node, "web", &first);
        fs::remove_file(folder.join("b.yaml")).unwrap();
        until_replaced(&node, "web", &first);
        assert!(!node.agent.table().unwrap().contains("already"), "the problem is gone");
    }

    fn a_vanished_folder_keeps_its_pods(node) {
        node.agent.write_manifest("web.yaml", &sleeper("web", "one")).unwrap();
        node.agent.write_manifest("db.yaml", &sleeper("db", "one")).unwrap();
        let (web, folder) = (node.until_ready("web"), node.agent.manifests());
        node.until_ready("db");
        let away = folder.with_file_name("away");
        fs::rename(&folder, &away).unwrap();
        until_told(&node, &["the pods that came from it stay"]);
        assert_eq!(names(&node).len(), 2);
        // What is missing in the folder when it comes back was removed.
        fs::remove_file(away.join("db.yaml")).unwrap();
        fs::rename(&away, &folder).unwrap();
        node.until_gone("db");
        assert_same_container(&node, "web", &web);
    }

    fn the_ways_of_editors_to_write_replace_a_pod_once(node with "-v=2") {
        let path = node.agent.manifests().join("web.yaml");
        fs::write(&path, sleeper("web", "one")).unwrap();
        let mut before = node.until_ready("web");

        // Truncated, then written in two goes; the first half alone is no pod.
        let text = sleeper("web", "two");
        let (half, rest) = text.split_at(text.find("containers:").unwrap());
        let mut file = File::create(&path).unwrap();
        file.write_all(half.as_bytes()).unwrap();
        until_told(&node, &["web.yaml:"]);
        assert_same_container(&node, "web", &before);
        file.write_all(rest.as_bytes()).unwrap();
        drop(file);
        before = until_replaced(&node, "web", &before);

        // The old one is moved aside, the new one is written, the old one is removed.
        let aside = path.with_file_name("web.yaml~");
        let began = Instant::now();
        fs::rename(&path, &aside).unwrap();
        fs::write(&path, sleeper("web", "three")).unwrap();
        fs::remove_file(&aside).unwrap();
        let took = began.elapsed();
        before = until_replaced(&node, "web", &before);

        // Written beside it and renamed over it, twice the same text.
        for _ in 0..2 {
            let beside = path.with_file_name(".web.yaml.swp");
            fs::write(&beside, sleeper("web", "four")).unwrap();
            fs::rename(&beside, &path).unwrap();
        }
        until_replaced(&node, "web", &before);
        let log = fs::read_to_string(node.agent.log()).unwrap();
        let started = log.matches("Container started").count();
        // Who takes longer than the agent waits for the end of a change has the old one run under its other name, too.
        let is_quick = took < Duration::from_millis(40);
        assert!(started == 4 || started > 4 && !is_quick, "{started}, one for each version: {log}");
    }

    fn names_that_leave_their_folder_are_refused(node) {
        let good = sleeper("good", "x");
        let own = node.agent.root().parent().unwrap().to_owned();
        node.agent.write_manifest("good.yaml", &good).unwrap();
        let uid = uid_of(&node.until_ready("good"));
        // Links to logs come a moment after the container.
        let links = own.join("containers");
        eventually("the log is linked", || fs::exists(&links).unwrap().then_some(()).ok_or("no folder".to_owned()));
        let (before, pods) = (entries(&own), node.agent.root().join("pods"));
        for (file, old, new) in [
            ("name", "name: good", "name: ../../escape"),
            ("namespace", "name: good", "name: x\n  namespace: ../../escape"),
            ("uid", "name: good", "name: x\n  uid: ../../../escape"),
            ("uid-dots", "name: good", "name: x\n  uid: '..'"),
            ("container", "name: app", "name: ../../escape"),
        ] {
            fs::write(node.agent.manifests().join(format!("{file}.yaml")), good.replacen(old, new, 1)).unwrap();
        }
        until_told(&node, &["/name.yaml:4:", "/namespace.yaml:5:", "/uid.yaml:5:", "/uid-dots.yaml:5:", "/container.yaml:8:"]);
        assert_eq!(names(&node), ["good-node1"]);
        assert_eq!(entries(&own), before);
        assert_eq!(entries(&pods), [pods.join(uid)].into());
        assert_eq!(entries(&node.pod_logs()).len(), 1);
    }
}

/// Waits until `node-agent pods` says all this, on stdout or stderr.
fn until_told(node: &Node, expected: &[&str]) {
    eventually(&format!("the agent says {expected:?}"), || {
        let shown = node.agent.table().map_err(|e| e.to_string())?;
        if expected.iter().all(|text| shown.contains(text)) { Ok(()) } else { Err(shown) }
    });
}

/// Waits until another pod of this name is ready and alone.
fn until_replaced(node: &Node, name: &str, before: &Value) -> Value {
    node.until_pod(name, "has a new UID", |pod| uid_of(pod) != uid_of(before));
    let after = node.until_ready(name);
    assert_eq!(names(node).iter().filter(|n| **n == format!("{name}-node1")).count(), 1);
    after
}

fn assert_same_container(node: &Node, name: &str, before: &Value) {
    let view = node.agent.pods().unwrap();
    let status = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
    let (now, before) = (status(pod(&view, name).unwrap()), status(before));
    assert_eq!(id_of(&now), id_of(&before), "{name} was restarted");
    assert!(now["state"]["running"].is_object(), "{now}");
}

fn names(node: &Node) -> Vec<String> {
    let view = node.agent.pods().unwrap();
    let items = view["items"].as_array().unwrap();
    items.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn entries(dir: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}
