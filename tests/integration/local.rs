//! `node-agent logs`, `exec` and `port-forward`: over the local socket, without an API server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::node::{Node, SOON, eventually, on_both_lines, was_restarted};

/// Two containers and one for the start. The web server's page is what its log says.
const SPEC: &str = "
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: setup
    image: localhost/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'echo set up']
  containers:
  - name: web
    image: localhost/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'mkdir -p /www; echo page | tee /www/index.html; echo second; exec httpd -f -p 8080 -h /www']
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {tcpSocket: {port: http}, periodSeconds: 1, failureThreshold: 60}
  - name: counter
    image: localhost/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'for i in 1 2 3; do echo count $i; sleep 1; done; exit 4']
";

/// A node on which the web server serves and the other container was started.
fn apply(node: &Node) {
    node.apply("web", SPEC);
    node.until_phase("web", "Running");
    node.until_container("web", "web", "serves", |status| status["ready"] == true);
}

/// The command in a process of its own, as people run it.
fn command(node: &Node, args: &[&str]) -> Command {
    let (name, rest) = args.split_first().unwrap();
    let mut command = Command::new(node.agent.binary());
    command.arg(name).arg("--root-dir").arg(node.agent.root()).args(rest);
    command
}

fn run(node: &Node, args: &[&str], input: &[u8]) -> Output {
    let mut command = command(node, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that reads nothing closes it.
        let _unread = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Its exit code, what it wrote, and what it wrote as errors.
fn outcome(node: &Node, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = run(node, args, b"");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[track_caller]
fn expect(node: &Node, args: &[&str], (code, out, err): (i32, &str, &str)) {
    assert_eq!(outcome(node, args), (code, out.to_owned(), err.to_owned()), "{args:?}");
}

on_both_lines! {
    fn logs_are_shown_without_an_api_server(node) {
        apply(&node);
        expect(&node, &["logs", "web", "-c", "setup"], (0, "set up\n", ""));
        let note = "Defaulted container \"web\" out of: web, counter, setup (init)\n";
        let both = (0, "page\nsecond\n".to_owned(), note.to_owned());
        // The runtime writes the log a moment after the container has written it.
        eventually("both lines are in the log", || {
            let outcome = outcome(&node, &["logs", "web"]);
            if outcome == both { Ok(()) } else { Err(format!("{outcome:?}")) }
        });
        expect(&node, &["logs", "web-node1", "-n", "default", "-c", "web", "--tail=1"], (0, "second\n", ""));
        expect(&node, &["logs", "default/web", "-c", "web", "--limit-bytes=3"], (0, "pag", ""));
        let (code, out, _) = outcome(&node, &["logs", "web", "-c", "web", "--timestamps", "--since=1h"]);
        assert_eq!((code, out.lines().count()), (0, 2), "{out}");
        assert!(out.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{out}");
        expect(&node, &["logs", "web", "-c", "web", "--since-time=2100-01-01T00:00:00Z"], (0, "", ""));

        // Following ends with the container.
        node.until_container("web", "counter", "runs", |status| status["state"]["running"].is_object());
        let (code, out, _) = outcome(&node, &["logs", "-f", "web", "-c", "counter"]);
        assert_eq!((code, out.as_str()), (0, "count 1\ncount 2\ncount 3\n"));
        node.until_container("web", "counter", "was restarted", was_restarted);
        expect(&node, &["logs", "-p", "web", "-c", "counter"], (0, "count 1\ncount 2\ncount 3\n", ""));

        for (args, error) in [
            (&["logs", "wed"][..], "no pod \"wed\" here; did you mean web-node1?"),
            (&["logs", "-nother", "web"], "no pod \"other/web\" here; did you mean web-node1?"),
            (
                &["logs", "web", "-c", "nope"],
                "container \"nope\" is not in pod default/web-node1, whose containers are: web, counter, setup (init)",
            ),
            (
                &["logs", "web", "-c", "web", "-p"],
                "previous terminated container \"web\" in pod \"web-node1\" not found",
            ),
        ] {
            expect(&node, args, (1, "", &format!("node-agent: {error}\n")));
        }
    }

    fn a_command_is_run_in_a_container_without_an_api_server(node) {
        apply(&node);
        let exec = |command: &[&'static str]| [&["exec", "web", "-c", "web", "--"], command].concat();
        expect(&node, &exec(&["cat", "/www/index.html"]), (0, "page\n", ""));
        let code = "err\ncommand terminated with exit code 7\n";
        expect(&node, &exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]), (7, "out\n", code));

        // The end of the input is that of the command's, and no byte is lost in either direction.
        let input: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let output = run(&node, &["exec", "-i", "web", "-c", "web", "--", "cat"], &input);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout == input, "{} bytes came back", output.stdout.len());

        let (code, _, err) = outcome(&node, &exec(&["no-such-program"]));
        assert_eq!(code, 1);
        assert!(err.contains("no-such-program"), "{err}");
        let ended = "container \"setup\" in pod default/web-node1 does not run: Completed, exit code 0";
        expect(&node, &["exec", "web", "-c", "setup", "--", "ls"], (1, "", &format!("node-agent: {ended}\n")));
        let (code, _, err) = outcome(&node, &["exec", "-it", "web", "-c", "web", "--", "true"]);
        assert_eq!(code, 0);
        assert!(err.starts_with("Unable to use a TTY"), "{err}");
    }

    fn a_terminal_is_the_containers_own_and_as_before_afterwards(node) {
        apply(&node);
        let (binary, root) = (node.agent.binary().display(), node.agent.root());
        let exec = format!("{binary} exec --root-dir {} -it web -c web --", root.display());
        // `script` makes a terminal. How large it is comes a moment after the command's start, as with kubectl.
        let script = format!(
            "stty rows 33 cols 101; before=$(stty -g); {exec} sh -c 'tty; until stty size 2>/dev/null | grep .; do sleep 0.1; done; exit 5'; echo code $?; \
             test \"$before\" = \"$(stty -g)\" && echo as before"
        );
        let output = Command::new("script").args(["-qec", &script, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        for line in ["/dev/pts/0", "33 101", "command terminated with exit code 5", "code 5", "as before"] {
            assert!(out.lines().any(|outcome| outcome == line), "{line}: {out}");
        }
    }

    fn ports_are_forwarded_without_an_api_server(node) {
        apply(&node);
        let mut forwarding = Forwarding::start(&node, &["web", ":8080", ":http", ":81"]);
        let ports = [forwarding.port(8080), forwarding.port(8080), forwarding.port(81)];
        for port in &ports[..2] {
            // The client has said all that it has to say: the answer comes nevertheless.
            assert!(get(*port).ends_with("page\n"));
            assert_eq!(forwarding.line(), format!("Handling connection for {}", port.port()));
        }
        // Nothing listens there: the connection ends, and the next one is no worse for it.
        assert_eq!(get(ports[2]), "");
        assert_eq!(forwarding.line(), format!("Handling connection for {}", ports[2].port()));
        assert!(get(ports[0]).ends_with("page\n"));

        let mut taken = command(&node, &["port-forward", "web", &format!("{}:8080", ports[0].port())]);
        let taken = taken.output().unwrap();
        let error = String::from_utf8(taken.stderr).unwrap();
        assert!(error.starts_with(&format!("node-agent: listening on {}: Address already in use", ports[0])), "{error}");
        let error = "node-agent: pod default/web-node1 has no port named \"https\"\n";
        expect(&node, &["port-forward", "web", "https"], (1, "", error));

        // The agent may come and go.
        node.agent.kill9();
        assert_eq!(get(ports[0]), "");
        node.agent.start_again().unwrap();
        node.until_container("web", "web", "runs", |status| status["state"]["running"].is_object());
        assert!(get(ports[0]).ends_with("page\n"));
        forwarding.child.kill().unwrap();
        let mut errors = String::new();
        forwarding.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let mut errors = errors.lines();
        let refused = errors.next().unwrap();
        let forwarded = format!("an error occurred forwarding {} -> 81: ", ports[2].port());
        assert!(refused.starts_with(&forwarded) && refused.contains("refused"), "{refused}");
        assert!(errors.next().unwrap().contains("no agent runs with --root-dir"));
        assert_eq!(errors.next(), None);
    }
}

/// A `port-forward` that is ended with this.
struct Forwarding {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Forwarding {
    fn start(node: &Node, args: &[&str]) -> Self {
        let mut command = command(node, &[&["port-forward", "--address=127.0.0.1"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next port of ours, which must lead to this one.
    fn port(&mut self, remote: u16) -> SocketAddr {
        let line = self.line();
        let address = line
            .strip_prefix("Forwarding from ")
            .and_then(|rest| rest.strip_suffix(&format!(" -> {remote}")));
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| {
            let _ended = self.child.kill();
            let mut errors = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("{line}{errors}")
        })
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// What the server answers, or nothing when the connection ends.
fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let _gone = stream.shutdown(Shutdown::Write);
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        read => drop(read.unwrap()),
    }
    text
}
