//! Volumes of an NFS server, which is the guest's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use testkit::env::{Line, Run, output, until};

use super::sh;
use crate::node::{Node, eventually, uid_of};
use crate::survey::SLEEPER;

/// An address that the guest has as long as the server lives.
const ADDRESS: &str = "10.99.0.1";

/// A server that exports one folder. Dropping it stops the server.
struct Server {
    dir: PathBuf,
    _run: Arc<Run>,
}

impl Server {
    fn start(run: &Arc<Run>) -> Self {
        // A file system that has file handles; /tmp may be one that has none.
        let dir = PathBuf::from("/srv").join(run.name());
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            "/etc/exports",
            format!("{} *(rw,no_root_squash,insecure,no_subtree_check)\n", dir.display()),
        )
        .unwrap();
        let server = Self { dir, _run: Arc::clone(run) };
        sh(&format!("ip address replace {ADDRESS}/32 dev lo; systemctl restart nfs-server"));
        server
    }

    /// As if its machine had gone: what is sent to it is lost.
    fn dies(&self) {
        sh(&format!("ip address del {ADDRESS}/32 dev lo"));
    }

    fn volume(&self) -> String {
        format!("{{name: data, nfs: {{server: {ADDRESS}, path: {}}}}}", self.dir.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let line = format!(
            "ip address del {ADDRESS}/32 dev lo; exportfs -ua; systemctl stop nfs-server; rm -rf {}",
            self.dir.display()
        );
        let _ = Command::new("sh").args(["-c", &line]).output();
    }
}

fn user(volume: &str, command: &str) -> String {
    format!(
        "
terminationGracePeriodSeconds: 0
volumes:
- {volume}
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, '{command}; sleep 3600']
  volumeMounts: [{{name: data, mountPath: /data}}]
"
    )
}

fn mounts_below(path: &std::path::Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = path.display().to_string();
    table.lines().filter(|line| line.contains(&below) && line.contains(" - nfs")).map(str::to_owned).collect()
}

#[test]
#[ignore = "for the guest"]
fn a_folder_of_a_server_is_read_and_written() {
    let run = Run::new().unwrap();
    let server = Server::start(&run);
    fs::write(server.dir.join("there"), "before\n").unwrap();
    let node = Node::on(run, Line::V2_1, &[]);
    node.apply("user", &user(&server.volume(), "cat /data/there; echo after > /data/new"));
    let uid = uid_of(&node.until_ready("user"));
    eventually("the pod has written", || {
        let new = fs::read_to_string(server.dir.join("new")).unwrap_or_default();
        if new == "after\n" { Ok(()) } else { Err(new) }
    });
    let log = fs::read_to_string(node.log_path("user", &uid, "app", 0)).unwrap();
    assert!(log.contains("before"), "{log}");
    let pods = node.agent.root().join("pods");
    assert_eq!(mounts_below(&pods).len(), 1);
    node.delete("user");
    node.until_gone("user");
    eventually("nothing of it is mounted", || {
        let left = mounts_below(&pods);
        if left.is_empty() && !pods.join(&uid).exists() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert_eq!(fs::read_to_string(server.dir.join("there")).unwrap(), "before\n");
}

#[test]
#[ignore = "for the guest"]
fn a_dead_server_holds_up_nobody_and_its_pods_can_go() {
    let run = Run::new().unwrap();
    let server = Server::start(&run);
    let mut node = Node::on(run, Line::V2_1, &[]);
    node.apply("user", &user(&server.volume(), "while echo x > /data/file; do sleep 1; done"));
    let uid = uid_of(&node.until_ready("user"));
    eventually("the pod has written", || {
        if server.dir.join("file").exists() { Ok(()) } else { Err("no file".to_owned()) }
    });
    server.dies();
    let volume = node.agent.root().join("pods").join(&uid).join("volumes/kubernetes.io~nfs/data");
    let waits = "a look at the volume waits for ever";
    eventually(waits, || {
        let answer = output(Command::new("timeout").args(["--signal=KILL", "3", "ls"]).arg(&volume));
        answer.map_or(Ok(()), |_| Err("it does not".to_owned()))
    });
    // What comes and goes beside it does, and so does an agent that is started meanwhile.
    node.apply("beside", SLEEPER);
    node.until_phase("beside", "Running");
    node.agent.kill9();
    node.agent.start_again().unwrap();
    node.delete("user");
    node.until_phase("beside", "Running");
    node.delete("beside");
    node.until_gone("beside");
    let pods = node.agent.root().join("pods");
    until("the pod of the dead server is gone", Duration::from_secs(150), || {
        let left = mounts_below(&pods);
        if left.is_empty() && !pods.join(&uid).exists() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

#[test]
#[ignore = "for the guest"]
fn a_server_that_never_answers_keeps_its_own_pod_waiting_and_no_other() {
    let node = Node::with(Line::V2_1, &[]);
    node.apply("waits", &user("{name: data, nfs: {server: 10.99.0.2, path: /x}}", "true"));
    node.apply("beside", SLEEPER);
    node.until_phase("beside", "Running");
    node.until_container("waits", "app", "waits", |app| app["state"]["waiting"].is_object());
    eventually("it is said for what", || {
        let told = node.try_explain("waits")?.to_string();
        if told.contains("data") && told.contains("mount") { Ok(()) } else { Err(told) }
    });
    node.delete("beside");
    node.until_gone("beside");
}

#[test]
#[ignore = "for the guest"]
fn a_folder_that_is_another_one_by_now_does_not_keep_its_pod() {
    let run = Run::new().unwrap();
    let server = Server::start(&run);
    let node = Node::on(run, Line::V2_1, &[]);
    node.apply("user", &user(&server.volume(), "cat /data/x"));
    let uid = uid_of(&node.until_ready("user"));
    let dir = server.dir.display();
    sh(&format!("rm -rf {dir}; mkdir {dir}; exportfs -ra"));
    let pods = node.agent.root().join("pods");
    let volume = pods.join(&uid).join("volumes/kubernetes.io~nfs/data");
    eventually("its handle is stale", || match fs::read_dir(&volume) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::STALE.raw_os_error()) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    node.delete("user");
    node.until_gone("user");
    eventually("nothing of it is left", || {
        let left = mounts_below(&pods);
        if left.is_empty() && !pods.join(&uid).exists() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Here for the time that it takes: an API server and a node on one CPU.
mod own_kernel {
    use serde_json::{Value, json};
    use testkit::env::BUSYBOX;

    use super::*;
    use crate::cluster::claims::{CLAIMS, VOLUMES};
    use crate::cluster::{ClusterNode, is_ready};

    #[test]
    #[ignore = "for the guest"]
    fn a_claim_may_be_of_a_servers_folder() {
        let node = ClusterNode::start(Line::V2_1);
        let server = Server::start(&node.run);
        fs::write(server.dir.join("there"), "before\n").unwrap();
        let spec = |of: Value| {
            let mut spec = json!({"accessModes": ["ReadWriteMany"], "storageClassName": ""});
            spec.as_object_mut().unwrap().append(&mut of.as_object().unwrap().clone());
            spec
        };
        let claim = node.post_to(CLAIMS, &json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "default"},
            "spec": spec(json!({"volumeName": "nas", "resources": {"requests": {"storage": "10Mi"}}})),
        }));
        node.post_to(
            VOLUMES,
            &json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "nas"},
                "spec": spec(json!({
                    "capacity": {"storage": "10Mi"}, "mountOptions": ["nfsvers=4.2"],
                    "nfs": {"server": ADDRESS, "path": server.dir},
                    "claimRef": {"namespace": "default", "name": "data", "uid": claim["metadata"]["uid"]},
                })),
            }),
        );
        node.bind("data");
        node.create(
            "user",
            json!({
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
                "containers": [{
                    "name": "app", "image": BUSYBOX, "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    "command": ["sh", "-c", "cat /data/there > /data/copy; sleep 3600"],
                }],
            }),
        );
        node.until_pod("user", "is ready", is_ready);
        eventually("the pod has written", || {
            let copy = fs::read_to_string(server.dir.join("copy")).unwrap_or_default();
            if copy == "before\n" { Ok(()) } else { Err(copy) }
        });
        let pods = node.agent.root().join("pods");
        let mounts = mounts_below(&pods);
        assert!(mounts.len() == 1 && mounts[0].contains("kubernetes.io~nfs/nas "), "{mounts:?}");
        node.delete("user");
        node.until_gone("user");
        assert_eq!(mounts_below(&pods), [""; 0]);
    }
}
