//! The agent as a unit of systemd: what it tells, and that its pods go on whatever becomes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use testkit::env::Line;

use super::sh;
use crate::node::{Node, eventually};
use crate::survey::SLEEPER;

/// The agent of a node, as a unit from now on, with the flags that it had.
struct Unit {
    node: Node,
    name: String,
    file: PathBuf,
}

impl Unit {
    fn start(mut node: Node, settings: &str) -> Self {
        let command = fs::read(format!("/proc/{}/cmdline", node.agent.pid().unwrap())).unwrap();
        node.agent.kill9();
        let words = String::from_utf8(command).unwrap();
        let words: Vec<String> = words
            .trim_end_matches('\0')
            .split('\0')
            .map(|word| format!("{word:?}").replace('%', "%%"))
            .collect();
        let name = format!("{}.service", node.run.name());
        let file = PathBuf::from("/run/systemd/system").join(&name);
        let text = format!(
            "[Service]\nType=notify\nExecStart={}\nKillMode=process\nRestart=always\nRestartSec=100ms\n\
             TimeoutStartSec=60\nTimeoutAbortSec=10\n{settings}\n",
            words.join(" ")
        );
        fs::write(&file, text).unwrap();
        let unit = Self { node, name, file };
        sh("systemctl daemon-reload");
        unit.systemctl("start");
        unit
    }

    fn systemctl(&self, verb: &str) -> String {
        sh(&format!("systemctl {verb} {}", self.name))
    }

    fn property(&self, name: &str) -> String {
        self.systemctl(&format!("show --value --property={name}")).trim().to_owned()
    }

    fn pid(&self) -> String {
        self.property("MainPID")
    }

    /// Waits until another process is the agent, and has said that it is ready.
    fn until_replaced(&self, before: &str) {
        eventually("another agent is ready", || {
            let (pid, state) = (self.pid(), self.property("ActiveState"));
            if pid != before && pid != "0" && state == "active" {
                Ok(())
            } else {
                Err(format!("{pid} {state}"))
            }
        });
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ =
                Command::new("journalctl").args(["--no-pager", "--lines=60", "--unit", &self.name]).status();
        }
        for verb in ["kill --signal=KILL", "stop", "reset-failed"] {
            let line = format!("systemctl {verb} {} || true", self.name);
            let _ = Command::new("sh").args(["-c", &line]).output();
        }
        let _ = fs::remove_file(&self.file);
    }
}

#[test]
#[ignore = "for the guest"]
fn pods_go_on_when_their_agent_is_started_again() {
    let unit = Unit::start(Node::with(Line::V2_1, &[]), "");
    unit.node.apply("sleeper", SLEEPER);
    unit.node.until_phase("sleeper", "Running");
    let (everything, tasks) = (unit.node.everything(), unit.node.tasks());
    let status = unit.property("StatusText");
    assert!(status.starts_with("running pods with containerd 2."), "{status}");
    for how in ["restart", "kill --signal=KILL"] {
        let before = unit.pid();
        unit.systemctl(how);
        unit.until_replaced(&before);
        unit.node.until_phase("sleeper", "Running");
        assert_eq!((unit.node.everything(), unit.node.tasks()), (everything.clone(), tasks.clone()), "{how}");
    }
    unit.systemctl("stop");
    assert_eq!((unit.property("Result"), unit.property("ExecMainStatus")), ("success".into(), "0".into()));
    assert_eq!((unit.node.everything(), unit.node.tasks()), (everything, tasks));
}

#[test]
#[ignore = "for the guest"]
fn an_agent_that_hangs_is_started_again_by_the_watchdog() {
    let unit = Unit::start(Node::with(Line::V2_1, &[]), "WatchdogSec=6");
    unit.node.apply("sleeper", SLEEPER);
    unit.node.until_phase("sleeper", "Running");
    let (tasks, before) = (unit.node.tasks(), unit.pid());
    // One that lives is let live.
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert_eq!(unit.pid(), before);
    unit.systemctl("kill --signal=STOP");
    unit.until_replaced(&before);
    assert_eq!(unit.property("NRestarts"), "1");
    unit.node.until_phase("sleeper", "Running");
    assert_eq!(unit.node.tasks(), tasks);
    let said = sh(&format!("journalctl --no-pager --output=cat --unit {}", unit.name));
    assert!(said.contains("Watchdog timeout"), "{said}");
}

#[test]
#[ignore = "for the guest"]
fn the_journal_knows_how_grave_each_line_is() {
    let unit = Unit::start(Node::with(Line::V2_1, &["--v=4"]), "");
    unit.node.apply("broken", "nonsense: [");
    let line = |priority: &str, text: &str| {
        let command = format!("journalctl --output=json --unit {} _COMM=node-agent", unit.name);
        eventually(&format!("a line of priority {priority} with {text:?} is in the journal"), || {
            let all = sh(&command);
            let lines = all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let of: BTreeSet<(String, String)> = lines
                .map(|line| {
                    let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                    (field("PRIORITY"), field("MESSAGE"))
                })
                .collect();
            assert!(of.iter().all(|(_, message)| !message.starts_with('<')), "{of:?}");
            let found = of.iter().any(|(of, message)| of == priority && message.contains(text));
            if found { Ok(()) } else { Err(format!("{of:?}")) }
        });
    };
    line("6", "");
    line("7", "");
    line("4", "");
}
