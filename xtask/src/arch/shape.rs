//! The shape of the tree: what stands at the top, how long a file may be, how thin the binary is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Beside these only dot-files, and `target`, which is cargo's.
const TOP_LEVEL: [&str; 11] = [
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bins",
    "crates",
    "examples",
    "proto",
    "tests",
    "xtask",
];
/// Folders with code.
const CODE: [&str; 6] = ["bins", "crates", "examples", "proto", "tests", "xtask"];
/// Longer files want to be several.
const LONGEST_FILE: usize = 600;
/// The binary parses, builds, runs and drains; everything else belongs into a crate that others can use.
const LONGEST_BINARY: usize = 150;

pub(super) fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != "target" && !TOP_LEVEL.contains(&name.as_str()) {
            found.push(format!("{name}: nothing of that name belongs at the top level"));
        }
    }
    let mut binary = 0;
    for file in CODE.iter().flat_map(|folder| rust_files(&root.join(folder))) {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let (lines, shown) = (text.lines().count(), file.strip_prefix(root).unwrap_or(&file).display());
        if lines > LONGEST_FILE {
            found.push(format!("{shown}: {lines} lines, at most {LONGEST_FILE} are readable"));
        }
        if !is_test(&file) {
            let line = |at: usize| text[..at].matches('\n').count() + 1;
            let bare = errors_without_causes(&text).map(line);
            found.extend(bare.map(|line| format!("{shown}:{line}: errors are logged by util::causes")));
        }
        if file.starts_with(root.join("bins/node-agent/src")) {
            binary += lines;
        }
    }
    if binary > LONGEST_BINARY {
        found.push(format!("bins/node-agent: {binary} lines, at most {LONGEST_BINARY} are thin"));
    }
    Ok(found)
}

fn is_test(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs")
        || file.iter().any(|part| ["tests", "examples", "testkit", "xtask"].iter().any(|name| part == *name))
}

/// Where an error is logged by what it says itself, so that what caused it is lost: `%error`, `{error}`, in one of
/// tracing's macros.
fn errors_without_causes(text: &str) -> impl Iterator<Item = usize> {
    const MACROS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];
    const BARE: [&str; 12] = [
        "%error,",
        "%error)",
        "?error,",
        "%err,",
        "%e,",
        "{error}",
        "{error:",
        "{err}",
        "{err:",
        "{e}",
        "{e:",
        "{failure}",
    ];
    MACROS.iter().flat_map(move |name| text.match_indices(name)).filter_map(move |(at, name)| {
        let call = &text[at + name.len()..];
        let call = call.split_once(");").map_or(call, |(call, _)| call);
        BARE.iter().any(|bare| call.contains(bare)).then_some(at)
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_is_logged_without_its_causes_is_found() {
        for (code, found) in [
            ("tracing::warn!(%error, \"no\");", 1),
            ("tracing::warn!(\n    pod,\n    \"no: {error}\"\n);", 1),
            ("tracing::debug!(peer = %peer, err = %error, \"no\");", 1),
            ("tracing::warn!(error = %util::causes(&error), \"no\");", 0),
            ("tracing::warn!(\"no\");\nformat!(\"{error}\");", 0),
        ] {
            assert_eq!(errors_without_causes(code).count(), found, "{code}");
        }
    }

    #[test]
    fn unknown_folders_long_files_and_a_fat_binary_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, lines: usize| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "//\n".repeat(lines)).unwrap();
        };
        write("crates/a/src/lib.rs", 600);
        write("bins/node-agent/src/main.rs", 100);
        write(".github/x.yml", 1);
        write("target/debug/x.rs", 5000);
        assert_eq!(violations(dir.path()).unwrap(), Vec::<String>::new());

        write("crates/a/src/long.rs", 601);
        write("bins/node-agent/src/more.rs", 51);
        write("scripts/run.sh", 1);
        let mut found = violations(dir.path()).unwrap();
        found.sort();
        assert_eq!(
            found,
            [
                "bins/node-agent: 151 lines, at most 150 are thin",
                "crates/a/src/long.rs: 601 lines, at most 600 are readable",
                "scripts: nothing of that name belongs at the top level",
            ]
        );
    }
}
