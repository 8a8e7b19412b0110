//! What a layer may not call, and why: one list, from which each crate's `clippy.toml` is written.
//!
//! clippy reads only the nearest file, so every file holds everything that it needs.

use std::fmt::Write;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::graph::Crate;
use super::table::{Level, find};

/// What is banned.
#[derive(Clone, Copy)]
enum Kind {
    Method,
    Type,
}

/// Bans that share a reason.
struct Ban {
    layers: RangeInclusive<u8>,
    kind: Kind,
    paths: &'static [&'static str],
    reason: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        layers: 0..=1,
        kind: Kind::Method,
        paths: &[
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "jiff::Timestamp::now",
            "jiff::Zoned::now",
        ],
        reason: "time is an argument here: a decision must give the same answer for the same input",
    },
    Ban {
        layers: 0..=1,
        kind: Kind::Method,
        paths: &[
            "std::fs::File::create",
            "std::fs::File::open",
            "std::fs::OpenOptions::open",
            "std::fs::create_dir_all",
            "std::fs::metadata",
            "std::fs::read",
            "std::fs::read_dir",
            "std::fs::read_to_string",
            "std::fs::remove_file",
            "std::fs::write",
            "std::net::TcpListener::bind",
            "std::net::TcpStream::connect",
            "std::os::unix::net::UnixStream::connect",
            "std::process::Command::new",
        ],
        reason: "no I/O here: layer 2 does it and hands over what it found",
    },
    Ban {
        layers: 0..=1,
        kind: Kind::Method,
        paths: &["std::thread::sleep", "std::thread::spawn"],
        reason: "nothing waits or runs beside the caller here: answer with the next wake-up time",
    },
    Ban {
        layers: 0..=1,
        kind: Kind::Type,
        paths: &["std::collections::HashMap", "std::collections::HashSet"],
        reason: "its order changes from run to run: use BTreeMap or BTreeSet",
    },
    Ban {
        layers: 0..=5,
        kind: Kind::Method,
        paths: &["std::env::args", "std::env::var", "std::env::var_os", "std::env::vars"],
        reason: "only the binary reads its environment: take a setting",
    },
    Ban {
        layers: 0..=5,
        kind: Kind::Method,
        paths: &["std::process::abort", "std::process::exit"],
        reason: "only the binary ends the process: return an error",
    },
    Ban {
        layers: 3..=5,
        kind: Kind::Method,
        paths: &["std::time::SystemTime::now", "jiff::Timestamp::now", "jiff::Zoned::now"],
        reason: "it jumps when the clock is set: wait and measure by tokio::time::Instant; for what is shown and stored each crate has one place that asks",
    },
    Ban {
        layers: 2..=6,
        kind: Kind::Method,
        paths: &["std::thread::sleep"],
        reason: "blocks a worker thread and with it other pods: use tokio::time::sleep",
    },
    Ban {
        layers: 2..=6,
        kind: Kind::Method,
        paths: &["std::sync::mpsc::channel", "tokio::sync::mpsc::unbounded_channel"],
        reason: "a queue without a bound hides that its reader is stuck: choose a capacity and say why",
    },
];

const HEAD: &str = "# Written by `cargo xtask arch --write` from xtask/src/arch/bans.rs; change it there.\n";
/// In a test a panic is the report.
const TESTS: &str = "allow-unwrap-in-tests = true
allow-expect-in-tests = true
allow-panic-in-tests = true
allow-print-in-tests = true
";

/// Writes every file that is missing or differs, and returns those.
pub(super) fn write(root: &Path, crates: &[Crate]) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (path, text) in files(root, crates) {
        if fs::read_to_string(&path).is_ok_and(|now| now == text) {
            continue;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

/// Each file that is not as [`write()`] would write it.
pub(super) fn differences(root: &Path, crates: &[Crate]) -> Vec<String> {
    files(root, crates)
        .into_iter()
        .filter(|(path, text)| fs::read_to_string(path).map_or(true, |now| now != *text))
        .map(|(path, _)| {
            format!("{}: differs from the list; `cargo xtask arch --write` writes it", path.display())
        })
        .collect()
}

/// The file of the root, for what stands outside the layers, and one for each crate with bans.
fn files(root: &Path, crates: &[Crate]) -> Vec<(PathBuf, String)> {
    let mut files = vec![(root.join(".clippy.toml"), format!("{HEAD}{TESTS}"))];
    for krate in crates {
        if let Some(Level::Layer(layer)) = find(&krate.name).map(|row| row.level) {
            files.push((krate.folder.join("clippy.toml"), text(layer)));
        }
    }
    files
}

fn text(layer: u8) -> String {
    let section = |key: &str, wanted: fn(Kind) -> bool| {
        let mut text = String::new();
        for ban in BANS.iter().filter(|b| b.layers.contains(&layer) && wanted(b.kind)) {
            for path in ban.paths {
                // A crate need not know the other crate whose function it may not call.
                let _ = writeln!(
                    text,
                    "    {{ path = \"{path}\", reason = \"{}\", allow-invalid = true }},",
                    ban.reason
                );
            }
        }
        if text.is_empty() { text } else { format!("\n{key} = [\n{text}]\n") }
    };
    let methods = section("disallowed-methods", |kind| matches!(kind, Kind::Method));
    let types = section("disallowed-types", |kind| matches!(kind, Kind::Type));
    format!("{HEAD}# Layer {layer}.\n{TESTS}{methods}{types}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_layer_has_neither_clock_nor_files_and_an_async_layer_may_have_both() {
        let (pure, asynchronous) = (text(1), text(2));
        for path in ["std::time::Instant::now", "std::fs::read", "std::collections::HashMap"] {
            assert!(pure.contains(&format!("\"{path}\"")), "{path}");
            assert!(!asynchronous.contains(&format!("\"{path}\"")), "{path}");
        }
        assert!(asynchronous.contains("unbounded_channel"));
    }

    #[test]
    fn those_who_wait_have_no_wall_clock() {
        for layer in [3, 4, 5] {
            assert!(
                text(layer).contains("\"jiff::Timestamp::now\"") && !text(layer).contains("Instant::now\"")
            );
        }
    }

    #[test]
    fn only_the_binary_may_end_the_process_and_read_its_arguments() {
        for layer in 0..=5 {
            assert!(text(layer).contains("std::process::exit") && text(layer).contains("std::env::args"));
        }
        assert!(!text(6).contains("std::process::exit"));
    }

    #[test]
    fn a_file_that_was_edited_by_hand_is_a_difference_until_it_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("prober");
        fs::create_dir(&folder).unwrap();
        let crates = [Crate {
            name: "prober".to_owned(),
            folder: folder.clone(),
            layer: 3.into(),
            published: false,
            uses: Vec::new(),
        }];
        assert_eq!(write(dir.path(), &crates).unwrap().len(), 2);
        assert_eq!(differences(dir.path(), &crates), Vec::<String>::new());
        fs::write(folder.join("clippy.toml"), "").unwrap();
        assert_eq!(differences(dir.path(), &crates).len(), 1);
        assert_eq!(write(dir.path(), &crates).unwrap(), [folder.join("clippy.toml")]);
    }
}
