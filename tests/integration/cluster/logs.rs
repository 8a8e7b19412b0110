//! `kubectl logs`: of what runs, of what has ended, and of what goes on.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use cri_client::v1::{ContainerStatusRequest, ReopenContainerLogRequest};
use serde_json::{Value, json};
use testkit::env::{BUSYBOX, Line, until};

use super::{ClusterNode, SOON, is_ready};
use crate::node::cri;

/// `kubectl logs --follow`, and what it has printed so far.
struct Follower {
    child: Child,
    received: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Follower {
    fn start(node: &ClusterNode, args: &[&str]) -> Self {
        let mut command = node.cluster.kubectl_command();
        command.args(["logs", "--follow"]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (received, mut stdout) = (Arc::<Mutex<String>>::default(), child.stdout.take().unwrap());
        let into = Arc::clone(&received);
        let reader = thread::spawn(move || {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stdout.read(&mut bytes) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { child, received, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.received.lock().unwrap().clone()
    }

    fn until_has(&self, what: &str, has: impl Fn(&str) -> bool) {
        let seen = until(&format!("the follower has {what}"), SOON, || {
            let text = self.text();
            if has(&text) { Ok(()) } else { Err(text) }
        });
        seen.unwrap();
    }

    /// Waits until it ends by itself, which is success, and until all that it said is here.
    fn until_ended(&mut self) {
        let ended = until("the follower ends", SOON, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}: {}", self.text())),
        });
        assert!(ended.unwrap().success());
        self.reader.take().unwrap().join().unwrap();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn app(command: &str) -> Value {
    json!({"containers": [{"name": "app", "image": BUSYBOX, "command": ["sh", "-c", command]}]})
}

fn status(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

/// The runtime's ID.
fn id(pod: &Value) -> String {
    let id = status(pod)["containerID"].as_str().unwrap_or_default();
    id.strip_prefix("containerd://").unwrap_or_else(|| panic!("{id:?}")).to_owned()
}

#[test]
fn kubectl_logs_has_all_its_ways() {
    let node = ClusterNode::start(Line::V2_1);
    node.create("crash", app("echo one; usleep 300000; echo two >&2; usleep 300000; printf three; exit 1"));
    node.create("quiet", json!({"containers": [{"name": "app", "image": "localhost/none:1"}]}));
    // The one that ended last, and the follower does not wait for the next.
    let all = "one\ntwo\nthree";
    let ways = [
        (&["crash"][..], all),
        (&["crash", "--follow"], all),
        (&["crash", "--previous"], all),
        (&["crash", "--tail=2"], "two\nthree"),
        (&["crash", "--tail=0"], ""),
        (&["crash", "--limit-bytes=5"], "one\nt"),
        (&["crash", "--since=1h"], all),
        (&["crash", "--since-time=2100-01-01T00:00:00Z"], ""),
    ];
    // All while it backs off: when the next instance has begun meanwhile, it is all asked again in the next, longer
    // pause.
    let (said, times, last) = loop {
        let backs_off = |pod: &Value| {
            status(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
                && status(pod)["restartCount"].as_u64() >= Some(2)
        };
        let before = node.until_here("crash", "backs off", backs_off);
        let logs = |args: &[&str]| node.cluster.kubectl(&[&["logs"], args].concat());
        let said = ways.map(|(args, _)| logs(args));
        let stamped = logs(&["crash", "--timestamps", "--tail=3"]).unwrap_or_default();
        let times: Vec<String> =
            stamped.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        // From the time of the last row on.
        let since = format!("--since-time={}", times.last().map_or("", String::as_str));
        let last = logs(&["crash", &since]);
        if status(&node.until_here("crash", "is there", |_| true)) == status(&before) {
            break (said, times, last.unwrap());
        }
    };
    for ((args, expected), said) in ways.iter().zip(said) {
        assert_eq!(said.unwrap(), *expected, "{args:?}");
    }
    assert!(times.len() == 3 && times.is_sorted() && times.iter().all(|t| t.len() == 30), "{times:?}");
    // kubectl sends whole seconds.
    assert!(last.ends_with("three"), "{last}");

    let refused = node.cluster.kubectl(&["logs", "crash", "--container=nope"]).unwrap_err().to_string();
    assert!(refused.contains("container nope is not valid for pod crash"), "{refused}");
    node.until_pod("quiet", "cannot have its image", |pod| {
        status(pod)["state"]["waiting"]["reason"] == "ImagePullBackOff"
    });
    let refused = node.cluster.kubectl(&["logs", "quiet"]).unwrap_err().to_string();
    assert!(refused.contains("is waiting to start: trying and failing to pull image"), "{refused}");
}

#[test]
fn a_follower_has_the_last_word_of_its_container_and_ends_with_it() {
    let node = ClusterNode::start(Line::V1_6);
    // The `touch` has a second to end by itself: with the container's first process it would be killed.
    let turn = "echo start; until [ -f /go ]; do usleep 50000; done; sleep 1; seq 2000; echo last; exit 1";
    node.create("app", app(turn));
    node.until_pod("app", "is ready", is_ready);
    let expected = format!("start\n{}last\n", (1..=2000).map(|n| format!("{n}\n")).collect::<String>());
    for restarts in 1..=2 {
        let mut follower = Follower::start(&node, &["app"]);
        follower.until_has("the start", |text| text == "start\n");
        node.kubectl(&["exec", "app", "--", "touch", "/go"]);
        follower.until_ended();
        assert_eq!(follower.text(), expected);
        // The next instance is another log.
        node.until_pod("app", "runs again", |pod| status(pod)["restartCount"] == restarts && is_ready(pod));
        assert_eq!(node.kubectl(&["logs", "app", "--previous"]), expected);
    }
}

#[test]
fn a_follower_goes_on_over_rotation_without_loss_or_doubles() {
    let node = ClusterNode::start(Line::V2_1);
    node.create("app", app("i=0; while :; do i=$((i+1)); echo $i; usleep 300; done"));
    let pod = node.until_pod("app", "is ready", is_ready);
    let request = ContainerStatusRequest { container_id: id(&pod), ..Default::default() };
    let answer = cri(&node.containerd, async |cri| cri.container_status(request).await).unwrap();
    let path = std::path::PathBuf::from(answer.status.unwrap().log_path);
    let follower = Follower::start(&node, &["app"]);
    let lines = || follower.text().lines().count();
    for turn in 0..5 {
        let before = lines();
        follower.until_has("more lines", |text| text.lines().count() > before + 200);
        // As the kubelet rotates.
        fs::rename(&path, format!("{}.20261123-11550{turn}", path.display())).unwrap();
        let request = ReopenContainerLogRequest { container_id: id(&pod) };
        cri(&node.containerd, async |cri| cri.reopen_container_log(request).await).unwrap();
    }
    let before = lines();
    follower.until_has("lines of the last file", |text| text.lines().count() > before + 200);
    let text = follower.text();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for (line, expected) in whole.lines().zip(1..) {
        assert_eq!(line.parse(), Ok(expected), "after line {}", expected - 1);
    }
}
