//! `hostPath`: a path of the node is what it says that it is, or is made so (upstream
//! `pkg/volume/hostpath/host_path.go`).

use std::fs::{self, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use kube_model::core::HostPathVolumeSource;

use crate::error::{SetUpError, go_words};

/// Whether anything of the node is looked at for it.
pub(crate) fn is_looked_at(source: &HostPathVolumeSource) -> bool {
    source.type_.as_ref().is_some_and(|kind| !kind.is_empty())
}

/// Looks at the path, and makes it where the type says so. Links count as what they lead to.
pub(crate) fn set_up(source: &HostPathVolumeSource) -> Result<(), SetUpError> {
    let path = Path::new(&source.path);
    if source.path.split('/').any(|part| part == "..") {
        return Err(SetUpError(format!("invalid HostPath `{}`: must not contain '..'", source.path)));
    }
    let is: (fn(&FileType) -> bool, &str) = match source.type_.as_deref().unwrap_or_default() {
        // Not looked at: the runtime makes a folder of what is not there.
        "" => return Ok(()),
        "DirectoryOrCreate" => {
            if missing(path) {
                let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
                return made.map_err(|error| go_words("mkdir", path, &error));
            }
            (FileType::is_dir, "directory")
        }
        "FileOrCreate" => {
            if missing(path) {
                let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path);
                return made.map(drop).map_err(|error| go_words("open", path, &error));
            }
            (FileType::is_file, "file")
        }
        "Directory" => (FileType::is_dir, "directory"),
        "File" => (FileType::is_file, "file"),
        "Socket" => (FileType::is_socket, "socket file"),
        "CharDevice" => (FileType::is_char_device, "character device"),
        "BlockDevice" => (FileType::is_block_device, "block device"),
        other => return Err(SetUpError(format!("{other} is an invalid volume type"))),
    };
    let (is, what) = is;
    match fs::metadata(path) {
        Ok(found) if is(&found.file_type()) => Ok(()),
        // Anything else than a wrong kind is worth telling.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(go_words("stat", path, &error)),
        Ok(_) | Err(_) => {
            Err(SetUpError(format!("hostPath type check failed: {} is not a {what}", source.path)))
        }
    }
}

fn missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn each_type_is_what_it_says_or_the_recorded_error() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().to_str().unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        symlink("dir", dir.path().join("link-to-dir")).unwrap();
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        let failed = |path: &str, what: &str| format!("hostPath type check failed: {path} is not a {what}");
        let at = |name: &str| format!("{host}/{name}");
        for (path, kind, want) in [
            (at("nope"), "", None),
            (at("dir"), "Directory", None),
            (at("dir/"), "Directory", None),
            (at("link-to-dir"), "Directory", None),
            (at("file"), "File", None),
            (at("file"), "FileOrCreate", None),
            (at("dir"), "DirectoryOrCreate", None),
            (at("socket"), "Socket", None),
            ("/dev/null".to_owned(), "CharDevice", None),
            // As recorded of the kubelet: fixtures/volumes/hostpath-errors.json.
            (at("nope"), "Directory", Some(failed(&at("nope"), "directory"))),
            (at("file"), "Directory", Some(failed(&at("file"), "directory"))),
            (at("nope"), "File", Some(failed(&at("nope"), "file"))),
            (at("dir"), "File", Some(failed(&at("dir"), "file"))),
            (at("link-to-dir"), "File", Some(failed(&at("link-to-dir"), "file"))),
            (at("file"), "Socket", Some(failed(&at("file"), "socket file"))),
            (at("nope"), "Socket", Some(failed(&at("nope"), "socket file"))),
            (at("file"), "CharDevice", Some(failed(&at("file"), "character device"))),
            ("/dev/null".to_owned(), "BlockDevice", Some(failed("/dev/null", "block device"))),
            (at("file"), "DirectoryOrCreate", Some(failed(&at("file"), "directory"))),
            (at("dir"), "FileOrCreate", Some(failed(&at("dir"), "file"))),
            (
                at("no/parent"),
                "FileOrCreate",
                Some(format!("open {}: no such file or directory", at("no/parent"))),
            ),
            (at("a/../b"), "", Some(format!("invalid HostPath `{}`: must not contain '..'", at("a/../b")))),
            (at("dir"), "Nonsense", Some("Nonsense is an invalid volume type".to_owned())),
        ] {
            let source = HostPathVolumeSource { path: path.clone(), type_: Some(kind.to_owned()) };
            assert_eq!(set_up(&source).err().map(|error| error.0), want, "{path} {kind}");
        }
    }

    #[test]
    fn what_is_to_be_made_is_made_as_by_the_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind, mode) in [("new/dir", "DirectoryOrCreate", 0o755), ("file", "FileOrCreate", 0o644)] {
            let path = dir.path().join(name);
            let source = HostPathVolumeSource {
                path: path.to_str().unwrap().to_owned(),
                type_: Some(kind.to_owned()),
            };
            set_up(&source).unwrap();
            set_up(&source).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{name}");
        }
    }
}
