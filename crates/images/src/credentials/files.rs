//! Credentials that the node's administrator left in files.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{InvalidConfig, Keyring};

/// Where to look. The default is no place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfigPaths {
    /// Folders that may hold a `config.json`, in order.
    pub config_json: Vec<PathBuf>,
    /// Folders that may hold a `.dockercfg`, in order: asked if there is no `config.json` at all.
    pub dockercfg: Vec<PathBuf>,
}

/// A file that is there and says nothing.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be understood.
    #[error("registry credentials in {}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: InvalidConfig,
    },
}

impl DockerConfigPaths {
    /// The kubelet's (upstream `pkg/credentialprovider/config.go`): its root directory, the working directory, and
    /// below the home directory and the root of the file system.
    pub fn of_node(root_dir: &Path, home: Option<&Path>) -> Self {
        let paths = |below: &str| {
            let home = home.map(|home| home.join(below));
            let first = [root_dir.to_owned(), PathBuf::from(".")];
            first.into_iter().chain(home).chain([Path::new("/").join(below)]).collect()
        };
        Self { config_json: paths(".docker"), dockercfg: paths("") }
    }

    /// The first file that can be used, and what is wrong with those before it.
    pub fn read(&self) -> (Keyring, Vec<FileError>) {
        type Read = fn(&[u8]) -> Result<Keyring, InvalidConfig>;
        let kind = |folders: &[PathBuf], name: &'static str, read: Read| -> Vec<(PathBuf, Read)> {
            folders.iter().map(|folder| (folder.join(name), read)).collect()
        };
        let files = kind(&self.config_json, "config.json", Keyring::from_config_json)
            .into_iter()
            .chain(kind(&self.dockercfg, ".dockercfg", Keyring::from_dockercfg));
        let mut problems = Vec::new();
        for (path, read) in files {
            match fs::read(&path) {
                Ok(text) => match read(&text) {
                    Ok(keyring) => return (keyring, problems),
                    Err(source) => problems.push(FileError::Invalid { path, source }),
                },
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => problems.push(FileError::Read { path, source }),
            }
        }
        (Keyring::default(), problems)
    }
}
