//! Configuration files as they are on disk.

use std::path::{Path, PathBuf};
use std::{fs, io};

use node_config::Files;

/// The file system of this node.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Files for Disk {
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                // Links to folders are not followed, as in the kubelet.
                let found = if entry.file_type()?.is_dir() { &mut folders } else { &mut files };
                found.push(entry.path());
            }
        }
        Ok(files)
    }
}
