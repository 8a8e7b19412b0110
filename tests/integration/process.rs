//! The agent as a process: how it starts, ends and logs, and how its commands find it.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::env::{Run, binary, output, until};

use crate::fake::FakeNode;
use crate::node::{eventually, on_both_lines, uid_of};
use crate::survey::SLEEPER;

/// A kubeconfig of a server that is not there.
pub(crate) const NOBODY: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "a",
    "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "a", "user": {}}], "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]}"#;

/// How long the agent may take to end after a signal. Its drain has a limit of its own.
pub(crate) const END: Duration = Duration::from_secs(30);

on_both_lines! {
    fn sigterm_ends_the_agent_with_success_and_leaves_its_pods_running(node) {
        node.apply("sleeper", SLEEPER);
        node.until_phase("sleeper", "Running");
        let (before, tasks) = (node.everything(), node.tasks());
        assert_eq!(node.agent.sigterm(END).unwrap().code(), Some(0));
        assert_eq!((node.everything(), node.tasks()), (before.clone(), tasks.clone()));
        let log = fs::read_to_string(node.agent.log()).unwrap();
        assert!(log.lines().last().unwrap().ends_with("\"stopped\""), "nothing is cut off: {log}");
        assert!(!log.contains("not everything ended within"), "the drain comes to its end: {log}");
        assert!(!node.agent.root().join("agent.sock").exists(), "the socket goes with the agent");

        node.agent.start_again().unwrap();
        node.until_phase("sleeper", "Running");
        assert_eq!((node.everything(), node.tasks()), (before, tasks));
    }
}

#[test]
fn sigint_ends_the_agent_as_sigterm_does() {
    let mut started = Started::new(&[]);
    started.until_ready();
    started.signal(Signal::INT);
    assert_eq!(started.ended().code(), Some(0));
}

#[test]
fn the_service_manager_is_told_how_the_agent_is_and_that_it_lives() {
    let run = Run::new().unwrap();
    let socket = run.dir().join("notify.sock");
    let told = UnixDatagram::bind(&socket).unwrap();
    told.set_read_timeout(Some(END)).unwrap();
    let mut all = String::new();
    let mut until_told = |what: &str| {
        while !all.contains(what) {
            let mut buffer = [0; 4096];
            let length = told.recv(&mut buffer).unwrap_or_else(|e| panic!("{what} is told ({e}): {all}"));
            all += str::from_utf8(&buffer[..length]).unwrap();
            all += "\n";
        }
        all.clear();
    };
    let mut command = agent(&run, &[]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1500000").stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let mut started = Started { child, run };
    until_told("READY=1\nSTATUS=");
    until_told("WATCHDOG=1");
    until_told("WATCHDOG=1");
    started.signal(Signal::TERM);
    until_told("STOPPING=1");
    assert_eq!(started.ended().code(), Some(0));
}

#[test]
fn the_journal_is_told_the_level_of_each_line() {
    let run = Run::new().unwrap();
    let log = run.dir().join("journal");
    let stderr = File::create(&log).unwrap();
    let metadata = stderr.metadata().unwrap();
    let mut command = agent(&run, &["--v=4"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino())).stderr(stderr);
    let child = command.spawn().unwrap();
    let mut started = Started { child, run };
    started.until_ready();
    started.signal(Signal::TERM);
    assert_eq!(started.ended().code(), Some(0));
    let log = fs::read_to_string(&log).unwrap();
    for line in log.lines() {
        let levels = ["<6>I", "<7>I", "<4>W", "<3>E"];
        assert!(levels.iter().any(|level| line.starts_with(level)), "{line}");
    }
    assert!(log.contains("<7>I") && log.contains("<4>W"), "{log}");
}

#[test]
fn a_watchdog_that_cannot_be_is_an_error_at_the_start() {
    let run = Run::new().unwrap();
    let mut command = agent(&run, &[]);
    let ended = command.env("NOTIFY_SOCKET", "/nowhere").env("WATCHDOG_USEC", "1000000").output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("configure watchdog timeout too small: 1s"), "{said}");
}

/// The file of a pod is a pipe that nobody writes to, as a dead disk would be.
#[test]
fn a_file_that_cannot_be_read_holds_up_its_own_pod_and_nothing_else() {
    let mut node = FakeNode::new(&[]);
    let probed =
        format!("{SLEEPER}  readinessProbe: {{exec: {{command: [\"true\"]}}, periodSeconds: 3600}}\n");
    node.apply("stuck", &probed);
    let uid = uid_of(&node.until_running("stuck"));
    node.agent.kill9();
    let outcomes = node.agent.root().join("pods").join(uid).join("probe-results.json");
    // There is one if the probe has been made.
    let _ = fs::remove_file(&outcomes);
    output(Command::new("mkfifo").arg(&outcomes)).unwrap();
    node.agent.start_again().unwrap();
    // There is a writer only when there is a reader, which then waits for as long as the writer is there.
    let _writer = eventually("the agent reads the file", || {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        let writer = File::options().write(true).custom_flags(flags).open(&outcomes);
        writer.map_err(|e| e.to_string())
    });
    node.apply("other", &probed);
    node.until_running("other");
    node.agent.wait_healthy().unwrap();
    assert_eq!(node.agent.sigterm(END).unwrap().code(), Some(0));
}

/// A request of which half has come holds up the drain.
#[test]
fn a_second_signal_ends_a_drain_that_hangs_at_once() {
    let run = Run::new().unwrap();
    let socket = run.dir().join("pods.sock");
    let address = format!("--manifest-server-address=unix:{}", socket.display());
    let mut node = FakeNode::of(&run, &binary().unwrap(), &[&address]);
    node.agent.wait_healthy().unwrap();
    let mut client = UnixStream::connect(&socket).unwrap();
    client.set_read_timeout(Some(END)).unwrap();
    let head = "POST /api/v1/namespaces/default/pods HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    // That is said when the body is waited for.
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    signal(node.agent.pid().unwrap(), Signal::TERM);
    eventually("the drain has begun", || {
        let log = fs::read_to_string(node.agent.log()).unwrap();
        if log.contains("stopping: no more work is taken") { Ok(()) } else { Err(log) }
    });
    let ended = node.agent.sigterm(END).unwrap();
    assert_eq!(ended.code(), Some(1));
    let log = fs::read_to_string(node.agent.log()).unwrap();
    assert!(log.ends_with("node-agent: a second signal: ended at once\n"), "{log}");
}

#[test]
fn a_bad_command_line_is_one_line_and_exit_code_1() {
    for (args, want) in [
        (vec!["--no-such-flag"], "--no-such-flag"),
        (vec!["--file-check-frequency=soon"], "--file-check-frequency"),
        (vec!["--healthz-port=70000"], "healthz"),
        (vec!["--container-runtime-endpoint=tcp://localhost:1"], "tcp://localhost:1"),
        (vec!["explain"], "explain"),
        (vec!["sources", "web"], "web"),
        (vec!["--manifest-url=ftp://x"], "staticPodURL"),
        (vec!["--manifest-server-address=0.0.0.0:8080"], "--manifest-server-token-file"),
        (vec!["--manifest-server-address=127.0.0.1:8080"], "--manifest-server-anonymous"),
        (vec!["--manifest-server-address=[::1]:1", "--manifest-server-client-ca-file=/ca"], "client-ca-file"),
        (vec!["no-such-command"], "no-such-command"),
    ] {
        let ended = Command::new(binary().unwrap()).args(&args).output().unwrap();
        let line = one_line(&ended);
        assert!(line.contains(want), "{args:?}: {line}");
    }
}

#[test]
fn what_the_agent_cannot_start_without_is_one_line_and_exit_code_1() {
    let run = Run::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = run.dir().join("file");
    File::create(&file).unwrap();
    let file = file.display().to_string();
    let kubeconfig = run.dir().join("kubeconfig");
    fs::write(&kubeconfig, NOBODY).unwrap();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls");
    for (flag, want) in [
        (
            format!(
                "--kubeconfig={} --tls-cert-file={fixtures}/p256.crt --tls-private-key-file={fixtures}/p384-sec1.key",
                kubeconfig.display()
            ),
            "tls: private key does not match public key".to_owned(),
        ),
        (
            format!("--image-credential-provider-config={file} --image-credential-provider-bin-dir={file}.d"),
            format!("plugin binary directory {file}.d did not exist"),
        ),
        (
            format!("--image-credential-provider-config={file}.yaml --image-credential-provider-bin-dir=/"),
            format!("unable to access path \"{file}.yaml\": No such file or directory"),
        ),
        (format!("--healthz-port={port}"), format!("127.0.0.1:{port}")),
        (format!("--root-dir={file}"), file.clone()),
        (format!("--manifest-server-address=unix:{file}"), file.clone()),
        (
            format!("--manifest-server-anonymous --manifest-server-address=127.0.0.1:{port}"),
            format!("127.0.0.1:{port}"),
        ),
        (format!("--pod-logs-dir={file}"), file.clone()),
        (
            "--system-reserved=ephemeral-storage=8000000Gi".to_owned(),
            "Resource \"ephemeral-storage\" has a reservation of 8000000Gi but capacity of".to_owned(),
        ),
    ] {
        let ended = agent(&run, &flag.split(' ').collect::<Vec<_>>()).output().unwrap();
        let line = one_line(&ended);
        assert!(line.contains(&want), "{flag}: {line}");
    }
}

#[test]
fn whatever_the_umask_files_have_their_own_modes() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for umask in ["000", "077"] {
        let run = Run::new().unwrap();
        let program = run.dir().join("agent.sh");
        let text = format!("#!/bin/sh\numask {umask}\nexec {} \"$@\"\n", binary().unwrap().display());
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
        let kubeconfig = run.dir().join("kubeconfig");
        fs::write(&kubeconfig, NOBODY).unwrap();
        let pki = run.dir().join("a/pki");
        let node = FakeNode::of(
            &run,
            &program,
            &[
                &format!("--kubeconfig={}", kubeconfig.display()),
                &format!("--cert-dir={}", pki.display()),
                "--address=127.0.0.1",
                &format!("--port={}", run.free_port().unwrap()),
            ],
        );
        node.apply("sleeper", SLEEPER);
        let root = node.agent.root();
        let pods = root.join("pods");
        let pod = eventually("the pod has a folder", || {
            let mut pods = fs::read_dir(&pods).map_err(|e| e.to_string())?;
            pods.next().ok_or("none")?.map(|entry| entry.path()).map_err(|e| e.to_string())
        });
        for (path, expected) in [
            (root.join("instance-id"), 0o600),
            (pod, 0o750),
            (pki.clone(), 0o755),
            (pki.join("kubelet.key"), 0o600),
            (pki.join("kubelet.crt"), 0o644),
        ] {
            assert_eq!(format!("{:o}", mode(&path)), format!("{expected:o}"), "{umask}: {}", path.display());
        }
    }
}

#[test]
fn a_second_agent_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let mut first = Started::new(&[]);
    first.until_ready();
    let ended = agent(&first.run, &[]).output().unwrap();
    let line = one_line(&ended);
    let (root, pid) = (root(&first.run), first.child.id());
    assert!(
        line.contains(&format!("another agent (pid {pid}) already runs with --root-dir {}", root.display())),
        "{line}"
    );
    first.until_ready();
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code(), Some(0));
    // With the first one gone the folder is free.
    let mut third = Started::over(Arc::clone(&first.run), &[]);
    third.until_ready();
}

#[test]
fn the_local_socket_is_for_its_user_only_and_commands_say_when_nobody_answers() {
    let run = Run::new().unwrap();
    let pods = || {
        let mut command = Command::new(binary().unwrap());
        command.args(["pods", "--root-dir"]).arg(root(&run));
        command
    };
    let nobody = format!("no agent runs with --root-dir {}", root(&run).display());
    let line = one_line(&pods().output().unwrap());
    assert!(line.contains(&nobody), "{line}");

    let mut started = Started::over(Arc::clone(&run), &[]);
    started.until_ready();
    let socket = root(&run).join("agent.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o600);
    output(&mut pods()).unwrap();

    // A socket that nobody listens on any more is no agent either.
    started.child.kill().unwrap();
    started.child.wait().unwrap();
    assert!(socket.exists());
    for args in [&["pods"][..], &["explain", "web"], &["sources"]] {
        let ended =
            Command::new(binary().unwrap()).args(args).arg("--root-dir").arg(root(&run)).output().unwrap();
        let line = one_line(&ended);
        assert!(line.contains(&nobody), "{args:?}: {line}");
    }
}

#[test]
fn log_lines_are_klogs() {
    let log = log_of_a_pod(&["-v=4"]);
    for line in log.lines() {
        assert!(is_klog(line), "{line:?}");
    }
    let started = "\"Container started\" pod=\"default/sleeper-node1\" container=\"app\"";
    assert!(log.contains(started), "{log}");
}

#[test]
fn log_lines_are_json_on_request() {
    let log = log_of_a_pod(&["-v=4", "--logging-format=json"]);
    let lines: Vec<Value> =
        log.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l:?}"))).collect();
    for line in &lines {
        assert!(line["ts"].is_number() && line["caller"].is_string() && line["msg"].is_string(), "{line}");
    }
    let started = lines.iter().find(|line| line["msg"] == "Container started").unwrap();
    assert_eq!(started["pod"], "default/sleeper-node1");
}

/// What each verbosity adds, of an agent that runs a pod and cannot reach its API server.
#[test]
fn each_verbosity_says_more() {
    let run = Run::new().unwrap();
    let kubeconfig = run.dir().join("kubeconfig");
    fs::write(&kubeconfig, NOBODY).unwrap();
    let steps = [
        (0, "\"node-agent starts\""),
        (2, "\"Container started\" pod=\"default/sleeper-node1\""),
        (3, "\"Called the runtime\" pod=\"default/sleeper-node1\""),
        (4, "\"Asked the runtime\" pod=\"default/sleeper-node1\""),
        (4, "\"Planned\" pod=\"default/sleeper-node1\" uid="),
        (5, "\"Looked at\" pod=\"default/sleeper-node1\" uid="),
    ];
    for (verbosity, _) in steps {
        let log = log_of_a_pod(&[&format!("-v={verbosity}")]);
        for (from, line) in steps {
            assert_eq!(log.contains(line), from <= verbosity, "-v={verbosity}, {line}: {log}");
        }
    }
    let log = log_of_a_pod(&["--vmodule=act*=4"]);
    assert!(log.contains(steps[4].1) && !log.contains(steps[2].1), "{log}");
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let node = FakeNode::of(&run, &binary().unwrap(), &[&kubeconfig, "-v=4", "--enable-server=false"]);
    eventually("requests to the API server are told of", || {
        let log = fs::read_to_string(node.agent.log()).unwrap();
        let line = "\"Asked the API server\" method=\"GET\" url=\"http://127.0.0.1:1/api/v1/";
        if log.contains(line) { Ok(()) } else { Err(log) }
    });
}

/// All that an agent logs from its start to its end, with a pod in between.
fn log_of_a_pod(args: &[&str]) -> String {
    let mut node = FakeNode::new(args);
    node.apply("sleeper", SLEEPER);
    node.until_running("sleeper");
    node.agent.write_manifest("broken.yaml", "kind: \"Pod\n \\ \"quotes\": [").unwrap();
    eventually("the broken manifest is logged", || {
        let log = fs::read_to_string(node.agent.log()).unwrap();
        if log.contains("broken.yaml") { Ok(()) } else { Err(log) }
    });
    assert!(node.agent.sigterm(END).unwrap().success());
    fs::read_to_string(node.agent.log()).unwrap()
}

/// `I1123 13:42:53.123456    1234 file.rs:12] "message" key="value"`
fn is_klog(line: &str) -> bool {
    let shape =
        |text: &str| -> String { text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect() };
    let Some((head, message)) = line.split_once("] ") else { return false };
    let fields: Vec<&str> = head.split_whitespace().collect();
    let [date, time, pid, place] = fields[..] else { return false };
    let (file, number) = place.rsplit_once(':').unwrap_or_default();
    ["I0000", "W0000", "E0000"].contains(&shape(date).as_str())
        && shape(time) == "00:00:00.000000"
        && pid.parse::<u32>().is_ok()
        && file.ends_with(".rs")
        && number.parse::<u32>().is_ok()
        && message.starts_with('"')
}

/// An agent with no runtime, started without the harness so that its end can be looked at.
struct Started {
    child: Child,
    run: Arc<Run>,
}

impl Started {
    fn new(args: &[&str]) -> Self {
        Self::over(Run::new().unwrap(), args)
    }

    fn over(run: Arc<Run>, args: &[&str]) -> Self {
        let child = agent(&run, args).stderr(Stdio::null()).spawn().unwrap();
        Self { child, run }
    }

    /// Waits until it answers on its socket, by when it listens to signals.
    fn until_ready(&mut self) {
        eventually("the agent answers", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}");
            }
            let mut pods = Command::new(binary().unwrap());
            output(pods.arg("pods").arg("--root-dir").arg(root(&self.run))).map_err(|e| e.to_string())
        });
    }

    fn signal(&self, which: Signal) {
        signal(self.child.id(), which);
    }

    fn ended(&mut self) -> ExitStatus {
        let ended = until("the agent ends", END, || {
            self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        });
        ended.unwrap_or_else(|e| panic!("{e}"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent on the folders of a run, with no runtime; later flags go before earlier ones.
fn agent(run: &Run, args: &[&str]) -> Command {
    let flag = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    let mut command = Command::new(binary().unwrap());
    command
        .arg(flag("root-dir", root(run)))
        .arg(flag("pod-logs-dir", run.dir().join("logs")))
        .arg(flag("pod-manifest-path", run.dir().join("manifests")))
        .arg(format!("--container-runtime-endpoint=unix://{}", run.dir().join("none.sock").display()))
        .args([
            "--cgroups-per-qos=false",
            "--enforce-node-allocatable=none",
            "--fail-cgroupv1=false",
            "--healthz-port=0",
            "--hostname-override=node1",
        ])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn root(run: &Run) -> PathBuf {
    run.dir().join("root")
}

fn signal(pid: u32, which: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, which).unwrap();
}

/// Checks that this is a failed start, and returns the one line that says why. Log lines before it are no part
/// of it.
fn one_line(ended: &Output) -> String {
    let stderr = String::from_utf8(ended.stderr.clone()).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    let said: Vec<&str> = stderr.lines().filter(|line| !is_klog(line)).collect();
    assert_eq!(said.len(), 1, "one line: {stderr:?}");
    assert_eq!(stderr.lines().last(), said.first().copied(), "it is the last one: {stderr:?}");
    assert!(said[0].starts_with("node-agent: "), "{stderr:?}");
    said[0].to_owned()
}
