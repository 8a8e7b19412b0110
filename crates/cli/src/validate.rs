//! `node-agent validate`: files, folders and standard input, checked as the agent would take them.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kube_model::view::Problem;
use manifest::Origin;
use node_config::validate::Facts;
use node_config::validate::documents::{self, Checked, Kind};
use podsource::file::MAX_BYTES;

/// Stands for standard input.
const STDIN: &str = "-";

/// Checks each path: a file, the files of a folder (as a manifest folder is read: not its sub-folders, nor names
/// with a leading dot), or `-` for standard input. `node_name` is the one that pods would get.
pub fn validate(paths: &[PathBuf], facts: &Facts, node_name: &str) -> Vec<Checked> {
    let pods = |path: &Path, document| match manifest::read_document(document, Origin::file(path, node_name))
    {
        Ok(manifest) => (Vec::new(), manifest.warnings),
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
    all
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
