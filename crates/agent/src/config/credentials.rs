//! Whether what credential providers need is there. Upstream `pkg/credentialprovider/plugin`, and its words; what the
//! files say is not read yet, as no provider is run.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const CONFIG: &str = "--image-credential-provider-config";
const BIN_DIR: &str = "--image-credential-provider-bin-dir";

/// The flag that names what is not there, and what is wrong with it.
pub(super) fn providers(config: &str, bin_dir: &str) -> Result<(), (&'static str, String)> {
    fs::metadata(bin_dir).map_err(|error| {
        let rule = match error.kind() {
            // An empty path is not there, either.
            ErrorKind::NotFound => {
                format!("must be a folder: plugin binary directory {bin_dir} did not exist")
            }
            _ => format!("must be a folder: error inspecting binary directory {bin_dir}: {error}"),
        };
        (BIN_DIR, rule)
    })?;
    readable(config).map_err(|wrong| (CONFIG, format!("must be a file or folder that can be read: {wrong}")))
}

fn readable(config: &str) -> Result<(), String> {
    if config.is_empty() {
        return Err("credential provider config path is empty".to_owned());
    }
    let path = Path::new(config);
    let found = fs::metadata(path).map_err(|error| format!("unable to access path {config:?}: {error}"))?;
    let files = if found.is_dir() {
        let files = documents(path);
        let files = files.map_err(|error| format!("unable to read directory {config:?}: {error}"))?;
        if files.is_empty() {
            return Err(format!("no configuration files found in directory {config:?}"));
        }
        files
    } else {
        vec![path.to_owned()]
    };
    for file in files {
        fs::File::open(&file)
            .map_err(|error| format!("unable to read file {:?}: {error}", file.display()))?;
    }
    Ok(())
}

fn documents(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_document =
            path.extension().is_some_and(|ext| ["json", "yaml", "yml"].iter().any(|of| ext == *of));
        if is_document && !entry.file_type()?.is_dir() {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_in_the_kubelets_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(path("bin")).unwrap();
        fs::create_dir_all(path("empty/sub.yaml")).unwrap();
        fs::create_dir(path("some")).unwrap();
        fs::write(path("some/a.yml"), "").unwrap();
        fs::write(path("config.json"), "").unwrap();
        for (config, bin_dir, wrong) in [
            ("config.json", "bin", None),
            ("some", "bin", None),
            (
                "config.json",
                "none",
                Some((BIN_DIR, format!("plugin binary directory {} did not exist", path("none")))),
            ),
            (
                "none",
                "bin",
                Some((CONFIG, format!("unable to access path {:?}: No such file", path("none")))),
            ),
            (
                "empty",
                "bin",
                Some((CONFIG, format!("no configuration files found in directory {:?}", path("empty")))),
            ),
        ] {
            let found = providers(&path(config), &path(bin_dir)).err();
            assert_eq!(
                found.as_ref().map(|found| found.0),
                wrong.as_ref().map(|wrong| wrong.0),
                "{config} {bin_dir}"
            );
            assert!(
                found.zip(wrong).is_none_or(|(found, wrong)| found.1.contains(&wrong.1)),
                "{config} {bin_dir}"
            );
        }
        // One without the other.
        assert_eq!(providers(&path("config.json"), "").unwrap_err().0, BIN_DIR);
        let (flag, wrong) = providers("", &path("bin")).unwrap_err();
        assert_eq!(flag, CONFIG);
        assert!(wrong.ends_with("credential provider config path is empty"), "{wrong}");
    }
}
