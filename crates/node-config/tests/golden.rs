//! Whole configurations as they are found in the field, and what they come to; and the help texts.
//!
//! Each folder in `golden/` is one node: `args` has its command line, one argument a line; other files are the
//! node's own, below `/`. `effective.yaml` is what `node-agent config` shows for it, and what keeps this agent from
//! starting with it. To write the expectations anew, run with `NODE_CONFIG_BLESS=1` and read the difference.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and the nodes are files"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use node_config::validate::Facts;
use node_config::{Command, Files, Settings, parse, render};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn expect(path: &Path, text: &str) {
    if env::var_os("NODE_CONFIG_BLESS").is_some() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, expected, "{}:\n{text}", path.display());
}

/// A node's files, in a folder that stands for `/`.
struct Node(PathBuf);

impl Files for Node {
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/").join(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(path.strip_prefix("/").unwrap_or(path)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let real = self.0.join(folder.strip_prefix("/").unwrap_or(folder));
        fs::read_dir(real)?.map(|entry| Ok(folder.join(entry?.file_name()))).collect()
    }
}

fn nodes() -> Vec<PathBuf> {
    let entries = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut nodes: Vec<_> = entries.filter(|path| path.join("args").exists()).collect();
    nodes.sort();
    nodes
}

fn args(node: &Path) -> Vec<OsString> {
    fs::read_to_string(node.join("args")).unwrap().lines().map(OsString::from).collect()
}

#[test]
fn whole_configurations_come_to_what_is_expected() {
    assert_eq!(nodes().len(), 10);
    for node in nodes() {
        let Command::Run(line) = parse(args(&node)).unwrap() else { panic!("{}", node.display()) };
        let effective =
            line.load(&Node(node.clone())).unwrap_or_else(|error| panic!("{}: {error}", node.display()));
        let mut text = render(&effective);
        if let Err(invalid) = Settings::new(&effective, &Facts::default()) {
            for finding in invalid.0 {
                text.push_str(&format!("# Invalid: {finding}\n"));
            }
        }
        expect(&node.join("effective.yaml"), &text);
    }
}

#[test]
fn what_is_shown_comes_to_the_same_when_it_is_the_file() {
    for node in nodes() {
        let shown = node.join("effective.yaml");
        let shown = fs::read_to_string(shown).unwrap();
        let Command::Run(line) = parse(["--config=/shown".into()]).unwrap() else { panic!("not run") };
        let effective = line.load(&Shown(shown.clone())).unwrap();
        let plain = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(|line| line.split(" # ").next().unwrap_or_default().to_owned()).collect()
        };
        let evictions = effective.config.eviction_hard.len();
        let (again, shown) = (plain(&render(&effective)), plain(&shown));
        // What shows no hard evictions has none, where a file that has none gets the defaults.
        if shown.iter().any(|line| line == "evictionHard:") {
            assert_eq!(again, shown, "{}", node.display());
        } else {
            assert_eq!(again.len(), shown.len() + 1 + evictions, "{}", node.display());
        }
    }
}

struct Shown(String);

impl Files for Shown {
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn list(&self, _folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

#[test]
fn help_is_laid_out_as_the_kubelets() {
    for (line, file) in [
        ("--help", "agent"),
        ("-h --root-dir=relative", "agent"),
        ("help", "agent"),
        ("help pods", "pods"),
        ("pods --help", "pods"),
        ("explain -h", "explain"),
        ("logs --help", "logs"),
        ("help logs", "logs"),
        ("exec -h", "exec"),
        ("help exec", "exec"),
        ("port-forward -h", "port-forward"),
        ("help port-forward", "port-forward"),
        ("sources -h", "sources"),
        ("help sources", "sources"),
        ("config --help", "config"),
        ("help config", "config"),
        ("completion --help", "completion"),
        ("help completion", "completion"),
    ] {
        let Command::Print(text) = parse(line.split(' ').map(OsString::from)).unwrap() else {
            panic!("{line}")
        };
        assert!(text.lines().all(|line| line.len() <= 120 || !line.contains(' ')), "{line}: too wide");
        expect(&golden().join(format!("help/{file}.txt")), &text);
    }
}
