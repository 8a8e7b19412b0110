//! The edges between our crates as cargo knows them, judged by the table.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::tools::output;

use super::table::{FOREIGN, Level, find};
use crate::cargo::cargo;

/// A crate of the workspace.
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// What stands in `[package.metadata.arch] layer`.
    pub(super) layer: Value,
    /// Whether it may be published.
    pub(super) published: bool,
    pub(super) uses: Vec<Edge>,
}

/// A dependency.
pub(super) struct Edge {
    pub(super) name: String,
    /// Whether it is one of ours.
    pub(super) ours: bool,
    /// Whether only tests, examples and benches have it.
    pub(super) dev: bool,
}

/// Asks cargo for the workspace in this folder.
pub(super) fn read(root: &Path) -> Result<Vec<Crate>> {
    let mut command = cargo(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let text = output(command.current_dir(root))?;
    let metadata: Value = serde_json::from_str(&text).context("`cargo metadata` did not print JSON")?;
    Ok(array(&metadata["packages"]).iter().map(read_crate).collect())
}

fn read_crate(package: &Value) -> Crate {
    let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
    Crate {
        name: text(&package["name"]),
        folder: manifest.parent().map(Path::to_owned).unwrap_or_default(),
        layer: package["metadata"]["arch"]["layer"].clone(),
        // An empty list of registries is `publish = false`.
        published: package["publish"].is_null(),
        uses: array(&package["dependencies"])
            .iter()
            .map(|dependency| Edge {
                name: text(&dependency["name"]),
                ours: dependency["path"].is_string(),
                dev: dependency["kind"] == "dev",
            })
            .collect(),
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Each way in which the crates break the table.
pub(super) fn violations(crates: &[Crate]) -> Vec<String> {
    crates.iter().flat_map(judge).collect()
}

fn judge(krate: &Crate) -> Vec<String> {
    let name = &krate.name;
    let Some(row) = find(name) else {
        return vec![format!("{name}: has no row in the layer table (xtask/src/arch/table.rs)")];
    };
    let mut found = Vec::new();
    let layer = match row.level {
        Level::Outside(kind) if krate.layer == kind => return found,
        Level::Layer(layer) if krate.layer == layer => layer,
        level => {
            return vec![format!(
                "{name}: its [package.metadata.arch] says layer {}, the table {level:?}",
                krate.layer
            )];
        }
    };
    for edge in &krate.uses {
        if edge.ours && !may_use(row.uses, layer, edge) {
            found.push(format!("{name} (layer {layer}) may not use {}", describe(edge)));
        }
        if !edge.dev {
            let foreign =
                FOREIGN.iter().filter(|f| f.layers.contains(&layer) && f.names.contains(&edge.name.as_str()));
            found.extend(
                foreign.map(|f| format!("{name} (layer {layer}) may not use {}: {}", edge.name, f.why)),
            );
        }
    }
    found
}

fn may_use(listed: Option<&[&str]>, layer: u8, edge: &Edge) -> bool {
    // The test kit stands outside: every crate's tests may use it, no crate's code.
    if edge.dev && edge.name == "testkit" {
        return true;
    }
    match listed {
        Some(names) => names.contains(&edge.name.as_str()),
        None => matches!(find(&edge.name).map(|r| r.level), Some(Level::Layer(below)) if below < layer),
    }
}

fn describe(edge: &Edge) -> String {
    let level = find(&edge.name).map(|row| match row.level {
        Level::Layer(layer) => format!("layer {layer}"),
        Level::Outside(kind) => kind.to_owned(),
    });
    let dev = if edge.dev { " in tests" } else { "" };
    format!("{} ({}){dev}", edge.name, level.unwrap_or_else(|| "not in the table".to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn krate(name: &str, layer: impl Into<Value>, uses: &[(&str, bool, bool)]) -> Crate {
        Crate {
            name: name.to_owned(),
            folder: PathBuf::new(),
            published: false,
            layer: layer.into(),
            uses: uses
                .iter()
                .map(|(name, ours, dev)| Edge { name: (*name).to_owned(), ours: *ours, dev: *dev })
                .collect(),
        }
    }

    #[test]
    fn an_edge_that_the_table_does_not_list_is_refused() {
        const OURS: bool = true;
        const DEV: bool = true;
        let cases: [(&str, Crate, Option<&str>); 12] = [
            ("as listed", krate("pod-lifecycle", 1, &[("kube-model", OURS, !DEV)]), None),
            (
                "upwards",
                krate("pod-lifecycle", 1, &[("pod-workers", OURS, !DEV)]),
                Some("may not use pod-workers (layer 3)"),
            ),
            (
                "sideways",
                krate("pod-lifecycle", 1, &[("pod-manager", OURS, !DEV)]),
                Some("may not use pod-manager (layer 1)"),
            ),
            (
                "layer 3 to layer 2",
                krate("prober", 3, &[("cri-client", OURS, !DEV)]),
                Some("may not use cri-client (layer 2)"),
            ),
            (
                "config outside the composition root",
                krate("server", 3, &[("node-config", OURS, !DEV)]),
                Some("may not use node-config"),
            ),
            (
                "the composition root uses all below",
                krate("agent", 5, &[("cri-client", OURS, !DEV), ("prober", OURS, !DEV)]),
                None,
            ),
            (
                "the composition root does not use the binary",
                krate("agent", 5, &[("node-agent", OURS, !DEV)]),
                Some("may not use node-agent (layer 6)"),
            ),
            ("the test kit in tests", krate("prober", 3, &[("testkit", OURS, DEV)]), None),
            (
                "the test kit in code",
                krate("prober", 3, &[("testkit", OURS, !DEV)]),
                Some("may not use testkit (test)"),
            ),
            (
                "another layer in tests",
                krate("prober", 3, &[("cri-client", OURS, DEV)]),
                Some("may not use cri-client (layer 2) in tests"),
            ),
            (
                "a runtime in a pure crate",
                krate("pod-lifecycle", 1, &[("tokio", !OURS, !DEV)]),
                Some("layers 0 and 1 are pure"),
            ),
            ("a runtime in a pure crate's tests", krate("pod-lifecycle", 1, &[("tokio", !OURS, DEV)]), None),
        ];
        for (case, krate, expected) in cases {
            let found = violations(&[krate]).join("\n");
            match expected {
                Some(text) => assert!(found.contains(text), "{case}: {found:?}"),
                None => assert_eq!(found, "", "{case}"),
            }
        }
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_or_names_another_layer_is_refused() {
        let unknown = violations(&[krate("kubelet2", 1, &[])]).join("\n");
        assert!(unknown.contains("kubelet2: has no row"), "{unknown}");
        let moved = violations(&[krate("prober", 2, &[])]).join("\n");
        assert!(moved.contains("prober: its [package.metadata.arch] says layer 2"), "{moved}");
        let silent = violations(&[krate("prober", Value::Null, &[])]).join("\n");
        assert!(silent.contains("prober: its [package.metadata.arch] says layer null"), "{silent}");
    }

    #[test]
    fn a_forbidden_edge_planted_in_a_real_workspace_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\n")
            .unwrap();
        for (name, layer, dependencies) in [
            ("kube-model", 0, ""),
            ("cri-client", 2, "kube-model = { path = \"../kube-model\" }"),
            (
                "pod-lifecycle",
                1,
                "kube-model = { path = \"../kube-model\" }\ncri-client = { path = \"../cri-client\" }",
            ),
        ] {
            let folder = dir.path().join(name);
            std::fs::create_dir_all(folder.join("src")).unwrap();
            std::fs::write(folder.join("src/lib.rs"), "").unwrap();
            let manifest = format!(
                "[package]\nname = \"{name}\"\nedition = \"2024\"\n[package.metadata.arch]\nlayer = {layer}\n[dependencies]\n{dependencies}\n"
            );
            std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        }
        let crates = read(dir.path()).unwrap();
        assert_eq!(crates.len(), 3);
        assert_eq!(violations(&crates), ["pod-lifecycle (layer 1) may not use cri-client (layer 2)"]);
    }

    #[test]
    fn cargos_own_words_are_read() {
        let krate = read_crate(&json!({
            "name": "prober",
            "manifest_path": "/w/crates/prober/Cargo.toml",
            "metadata": {"arch": {"layer": 3}},
            "dependencies": [
                {"name": "kube-model", "path": "/w/crates/kube-model", "kind": null},
                {"name": "tokio", "kind": "dev"},
            ],
        }));
        assert_eq!((krate.name.as_str(), krate.folder.to_str().unwrap()), ("prober", "/w/crates/prober"));
        assert!(krate.uses[0].ours && !krate.uses[0].dev && !krate.uses[1].ours && krate.uses[1].dev);
    }
}
