//! `node-agent validate`: files, folders and standard input, checked as the agent would take them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kube_model::objects::{Key, required};
use kube_model::view::Problem;
use manifest::{AnyManifest, Origin};
use node_config::validate::Facts;
use node_config::validate::documents::{self, Checked, Kind};
use podsource::file::MAX_BYTES;

/// Stands for standard input.
const STDIN: &str = "-";

/// Checks each path: a file, the files of a folder (as a manifest folder is read: not its sub-folders, nor names
/// with a leading dot), or `-` for standard input. `node_name` is the one that pods would get.
pub fn validate(paths: &[PathBuf], facts: &Facts, node_name: &str) -> Vec<Checked> {
    let found = RefCell::new(Found::default());
    let pods =
        |path: &Path, document| match manifest::read_any_document(document, Origin::file(path, node_name)) {
            Ok(AnyManifest::Pod(manifest)) => {
                found.borrow_mut().wanted.insert(path.to_owned(), required(&manifest.pod));
                (Vec::new(), manifest.warnings)
            }
            Ok(AnyManifest::Object(manifest)) => {
                found.borrow_mut().there.insert(manifest.object.key());
                (Vec::new(), manifest.warnings)
            }
            Err(problems) => (problems, Vec::new()),
        };
    let mut all = Vec::new();
    for path in paths {
        match files(path) {
            Ok(files) => {
                for file in files {
                    all.push(match read(&file) {
                        Ok(text) => documents::check(&file, &text, facts, &pods),
                        Err(error) => unreadable(&file, &error),
                    });
                }
            }
            Err(error) => all.push(unreadable(path, &error)),
        }
    }
    found.into_inner().judge(&mut all);
    all
}

/// What pods refer to, and what there is.
#[derive(Default)]
struct Found {
    wanted: BTreeMap<PathBuf, BTreeSet<Key>>,
    there: BTreeSet<Key>,
}

impl Found {
    /// Warns of what no file has. It may come by another way, so that the pod is not wrong.
    fn judge(self, all: &mut [Checked]) {
        for checked in all {
            let Some(keys) = self.wanted.get(&checked.path) else { continue };
            for key in keys.difference(&self.there) {
                let message = format!("refers to the {key}, which none of these files has");
                let path = checked.path.clone();
                checked.warnings.push(Problem { path, message, warning: true, ..Problem::default() });
            }
        }
    }
}

/// The files that a path stands for, in order.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path == Path::new(STDIN) || !path.metadata()?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if path != Path::new(STDIN) {
        let file = fs::metadata(path)?;
        if !file.is_file() {
            return Err(io::Error::other("is no regular file"));
        }
        if file.len() > MAX_BYTES {
            return Err(io::Error::other(format!("is larger than {MAX_BYTES} bytes")));
        }
        return fs::read(path);
    }
    let mut text = Vec::new();
    io::stdin().take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> Checked {
    let message = format!("can not be read: {error}");
    let problem = Problem { path: path.to_owned(), message, ..Problem::default() };
    Checked { path: path.to_owned(), kind: Kind::Unknown, problems: vec![problem], warnings: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pods_refer_to_is_looked_for_among_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        file(
            "pod.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    image: i\n    envFrom:\n    - configMapRef: {name: there}\n    - secretRef: {name: nope}\n    - secretRef: {name: perhaps, optional: true}\n",
        );
        file("there.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there}\n");
        file("wrong.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: nope}\ndata: {k: plain}\n");
        let all = validate(&[dir.path().to_owned()], &Facts::default(), "node1");
        let kinds: Vec<_> = all.iter().map(|checked| (checked.kind, checked.problems.len())).collect();
        assert_eq!(kinds, [(Kind::Pod, 0), (Kind::ConfigMap, 0), (Kind::Secret, 1)]);
        let warnings: Vec<_> = all[0].warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(warnings, ["refers to the secret \"default/nope\", which none of these files has"]);
    }

    #[test]
    fn a_folder_is_checked_file_by_file_and_every_problem_names_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        file("a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n");
        file(
            "b.yaml",
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nhealthzPort: -1\n",
        );
        file(
            "c.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: c}\nspec: {containers: [{name: c, image: i}]}\n",
        );
        file(".hidden", "{");
        fs::create_dir(dir.path().join("sub")).unwrap();
        let paths = [dir.path().to_owned(), dir.path().join("missing")];
        let all = validate(&paths, &Facts::default(), "node1");
        let shown: Vec<_> = all
            .iter()
            .map(|c| (c.path.file_name().unwrap().to_str().unwrap(), c.kind, c.problems.len()))
            .collect();
        let expected = [
            ("a.yaml", Kind::Pod, 1),
            ("b.yaml", Kind::KubeletConfiguration, 1),
            ("c.yaml", Kind::Pod, 0),
            ("missing", Kind::Unknown, 1),
        ];
        assert_eq!(shown, expected);
        assert_eq!(all[0].problems[0].field.as_deref(), Some("spec.containers[0].image"));
        assert_eq!((all[0].problems[0].line, all[1].problems[0].line), (Some(6), Some(3)));
    }
}
