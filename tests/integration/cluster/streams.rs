//! exec, attach, port-forward and cp, as kubectl does them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::env::{BUSYBOX, Line, until};

use super::{ClusterNode, SOON, is_ready, listens_on};

/// Runs a program with this on its stdin, which then ends.
fn run(command: &mut Command, stdin: &[u8]) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut into = child.stdin.take().unwrap();
    let pid = Pid::from_child(&child);
    let (over, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            // What hangs is ended, so that it has a name and says where it stood.
            if is_over.recv_timeout(SOON) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _gone = kill_process(pid, Signal::TERM);
            }
        });
        scope.spawn(move || {
            // Who does not read it all ends earlier.
            let _gone = into.write_all(stdin);
        });
        let output = child.wait_with_output().unwrap();
        drop(over);
        output
    })
}

/// Bytes without a pattern that a lost or doubled piece would fit into.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl ClusterNode {
    fn kubectl_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        run(self.cluster.kubectl_command().args(args), stdin)
    }

    /// A shell script with a terminal of its own, in which `kubectl` is one of this cluster.
    fn in_terminal(&self, script: &str, typed: &[u8]) -> String {
        let kubectl = self.cluster.kubectl_command();
        let mut terminal = Command::new("script");
        terminal.envs(kubectl.get_envs().filter_map(|(key, value)| Some((key, value?))));
        terminal.args(["--quiet", "--return", "--command", script, "/dev/null"]).env("SHELL", "/bin/sh");
        let done = run(&mut terminal, typed);
        text(&done.stdout)
    }

    /// A pod that serves an echo on port 7000.
    fn create_box(&self, name: &str, host_network: bool) {
        let echo = "nc -ll -p 7000 -e cat & trap 'exit 0' TERM; sleep 3600 & wait";
        let command = if host_network { "sleep 3600" } else { echo };
        let mut app = json!({"name": "app", "image": BUSYBOX, "command": ["sh", "-c", command]});
        if !host_network {
            app["startupProbe"] = listens_on(7000);
        }
        self.create(name, json!({"hostNetwork": host_network, "containers": [app]}));
    }
}

fn kubectl_runs_commands_in_containers(line: Line) {
    let node = ClusterNode::start(line);
    node.create_box("box", false);
    node.until_pod("box", "is ready", is_ready);

    // The two outputs and the code, each by itself.
    let done = node.kubectl_with(&["exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 42"], b"");
    let err = text(&done.stderr);
    assert_eq!((text(&done.stdout).as_str(), done.status.code()), ("out\n", Some(42)), "{err}");
    assert!(err.starts_with("err\n") && err.contains("exit code 42"), "{err}");
    let done = node.kubectl_with(&["exec", "box", "--", "no-such-program"], b"");
    assert!(!done.status.success() && text(&done.stderr).contains("no-such-program"), "{done:?}");

    // A large body there and back again; its end is heard though the way back is open.
    let body = noise(8 << 20);
    let script = "tee /copy; sha256sum </copy >&2";
    let done = node.kubectl_with(&["exec", "-i", "box", "--", "sh", "-c", script], &body);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(done.stdout == body, "{} of {} bytes came back", done.stdout.len(), body.len());
    let sum = run(&mut Command::new("sha256sum"), &body);
    assert!(text(&done.stderr).contains(&text(&sum.stdout)), "{}", text(&done.stderr));
    // Who does not read its stdin still has its code told. (With more than pipes hold containerd itself waits for the
    // client to end.)
    let unread = &body[..16 << 10];
    let done = node.kubectl_with(&["exec", "-i", "box", "--", "sh", "-c", "echo enough; exit 3"], unread);
    assert_eq!((text(&done.stdout).as_str(), done.status.code()), ("enough\n", Some(3)), "{done:?}");

    // A terminal, with its size at the start and after.
    let sizes = "until [ \"$(stty size)\" = \"20 40\" ]; do usleep 50000; done; echo small; touch /small; \
        until [ \"$(stty size)\" = \"33 77\" ]; do usleep 50000; done; tty; exit 5";
    let script = format!(
        "stty rows 20 cols 40; (until kubectl exec box -- test -f /small 2>/dev/null; do sleep 0.2; done; stty rows 33 cols 77 </dev/tty) & \
         kubectl exec -it box -- sh -c '{sizes}'; echo code $?"
    );
    let shown = node.in_terminal(&script, b"");
    assert!(shown.contains("small\r\n") && shown.contains("/dev/pts/"), "{shown}");
    assert!(shown.contains("code 5\r\n"), "{shown}");

    copies(&node);
}

/// Files go in and out whole.
fn copies(node: &ClusterNode) {
    let (there, back) = (node.cluster.dir().join("there"), node.cluster.dir().join("back"));
    fs::create_dir_all(there.join("deep")).unwrap();
    fs::write(there.join("deep/large"), noise(3 << 20)).unwrap();
    fs::write(there.join("small"), "small\n").unwrap();
    node.kubectl(&["cp", &there.display().to_string(), "box:/tmp"]);
    assert_eq!(node.kubectl(&["exec", "box", "--", "cat", "/tmp/there/small"]), "small\n");
    node.kubectl(&["cp", "box:/tmp/there", &back.display().to_string()]);
    for file in ["deep/large", "small"] {
        let read = |folder: &Path| fs::read(folder.join(file)).unwrap();
        assert!(read(&there) == read(&back), "{file}");
    }
}

#[test]
fn kubectl_runs_commands_in_containers_of_containerd_1_6() {
    kubectl_runs_commands_in_containers(Line::V1_6);
}

#[test]
fn kubectl_runs_commands_in_containers_of_containerd_2_1() {
    kubectl_runs_commands_in_containers(Line::V2_1);
}

#[test]
fn kubectl_attaches_to_what_runs() {
    let node = ClusterNode::start(Line::V2_1);
    let app = |command: &str, tty: bool| {
        json!({"restartPolicy": "Never", "containers": [{
            "name": "app", "image": BUSYBOX, "command": ["sh", "-c", command],
            "stdin": true, "stdinOnce": true, "tty": tty,
        }]})
    };
    node.create("sums", app("sha256sum; echo done", false));
    node.create("shell", app("sh", true));
    for pod in ["sums", "shell"] {
        node.until_pod(pod, "is ready", is_ready);
    }
    let body = noise(4 << 20);
    let done = node.kubectl_with(&["attach", "-i", "sums"], &body);
    let sum = text(&run(&mut Command::new("sha256sum"), &body).stdout);
    assert_eq!(text(&done.stdout), format!("{sum}done\n"), "{}", text(&done.stderr));
    node.until_pod("sums", "has ended", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(node.kubectl(&["logs", "sums"]), format!("{sum}done\n"));

    let shown = node.in_terminal("kubectl attach -it shell", b"echo $((6*7)) $(tty)\nexit 4\n");
    assert!(shown.contains("42 /dev/"), "{shown}");
    let pod = node.until_pod("shell", "has ended", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 4);
}

/// `kubectl port-forward`, ended with this.
struct Forward {
    child: Child,
    port: u16,
    said: Arc<Mutex<String>>,
}

impl Forward {
    fn start(node: &ClusterNode, pod: &str, port: u16) -> Self {
        let mut command = node.cluster.kubectl_command();
        command.args(["port-forward", "--address=127.0.0.1", pod, &format!(":{port}")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        // It tells of each connection, and would not live without a reader.
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let port = first.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{first}"));
        let (said, mut stderr) = (Arc::<Mutex<String>>::default(), child.stderr.take().unwrap());
        let into = Arc::clone(&said);
        thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = stderr.read(&mut bytes) {
                into.lock().unwrap().push_str(&text(&bytes[..read]));
            }
        });
        Self { child, port, said }
    }

    /// Sends a body and returns what comes back, up to as much.
    fn echo(&self, body: &[u8]) -> Vec<u8> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _refused = (&stream).write_all(body);
            });
            let mut back = vec![];
            let _reset = (&stream).take(body.len() as u64).read_to_end(&mut back);
            back
        })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn kubectl_forwards_ports(line: Line) {
    let node = ClusterNode::start(line);
    node.create_box("box", false);
    node.create_box("host", true);
    for pod in ["box", "host"] {
        node.until_pod(pod, "is ready", is_ready);
    }
    let body = noise(4 << 20);
    let forward = Forward::start(&node, "box", 7000);
    for body in [&b"short"[..], &body] {
        let back = forward.echo(body);
        assert!(back == body, "{} of {} bytes: {}", back.len(), body.len(), forward.said.lock().unwrap());
    }

    // A pod on the node's network has the node's ports.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = Forward::start(&node, "host", listener.local_addr().unwrap().port());
    let echo = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        std::io::copy(&mut &stream, &mut &stream).unwrap();
    });
    assert!(forward.echo(&body) == body, "{}", forward.said.lock().unwrap());
    echo.join().unwrap();

    // Nobody listens there.
    let forward = Forward::start(&node, "box", 7001);
    assert_eq!(forward.echo(b"hello"), b"");
    let answer = until("kubectl says why", SOON, || {
        let said = forward.said.lock().unwrap().clone();
        if said.contains("7001") && said.contains("refused") { Ok(()) } else { Err(said) }
    });
    answer.unwrap();
}

#[test]
fn kubectl_forwards_ports_with_containerd_1_6() {
    kubectl_forwards_ports(Line::V1_6);
}

#[test]
fn kubectl_forwards_ports_with_containerd_2_1() {
    kubectl_forwards_ports(Line::V2_1);
}
