//! What is mounted where, and how directories come to be in it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::Error;

/// Version of the kernel's cgroup interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

impl Version {
    /// Which version is mounted at `root`.
    pub fn at(root: &Path) -> Self {
        if root.join("cgroup.controllers").exists() { Self::V2 } else { Self::V1 }
    }

    /// Whether the kernel counts the swap of each cgroup. The root of v2 has no file that tells, so others are looked
    /// at: `cgroups` are some that there are, as paths below `root`.
    /// Rule: upstream `pkg/kubelet/kuberuntime` `checkSwapControllerAvailability`.
    pub fn accounts_swap(self, root: &Path, cgroups: &[String]) -> bool {
        match self {
            Self::V1 => root.join("memory/memory.memsw.limit_in_bytes").exists(),
            Self::V2 => cgroups
                .iter()
                .any(|cgroup| root.join(cgroup.trim_start_matches('/')).join("memory.swap.max").exists()),
        }
    }
}

/// One mounted tree of cgroups.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    mount: PathBuf,
    /// Controllers by their names in v1 (`cpu`, `memory`); v2 uses the same.
    controllers: Vec<String>,
}

impl Hierarchy {
    /// Where the cgroup with this relative path is.
    pub(crate) fn dir(&self, path: &str) -> PathBuf {
        self.mount.join(path)
    }
}

/// All trees of the node.
#[derive(Debug)]
pub(crate) struct Hierarchies {
    pub(crate) version: Version,
    /// Those in which pods get cgroups.
    pub(crate) all: Vec<Hierarchy>,
    /// The controller-less v2 tree that systemd mounts beside v1: a runtime may put pods there, so it is
    /// cleaned up, but nothing is made in it.
    unified: Option<Hierarchy>,
}

impl Hierarchies {
    pub(crate) fn detect(root: &Path) -> Result<Self, Error> {
        if let Some(controllers) = read(&root.join("cgroup.controllers"))? {
            let controllers = controllers.split_whitespace().map(str::to_owned).collect();
            let only = Hierarchy { mount: root.to_owned(), controllers };
            return Ok(Self { version: Version::V2, all: vec![only], unified: None });
        }
        let (mut all, mut unified) = (Vec::new(), None);
        // Symbolic links (`cpu` to `cpu,cpuacct`) are left out: their target is in the list.
        for mount in children(root)? {
            let is_v2 = mount.join("cgroup.controllers").exists();
            let name = mount.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let controllers = name.split(',').map(str::to_owned).collect();
            if is_v2 {
                unified = Some(Hierarchy { mount, controllers: Vec::new() });
            } else if mount.join("cgroup.procs").exists() {
                all.push(Hierarchy { mount, controllers });
            }
        }
        if all.is_empty() {
            return Err(Error::NoCgroups { root: root.to_owned() });
        }
        Ok(Self { version: Version::V1, all, unified })
    }

    /// Every tree in which a pod may have left something.
    pub(crate) fn everywhere(&self) -> impl Iterator<Item = &Hierarchy> {
        self.all.iter().chain(&self.unified)
    }

    /// The tree that has this controller, if the node has it.
    pub(crate) fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.all.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// Makes a cgroup and those above it in every tree; tells whether any was missing.
    pub(crate) fn make(&self, path: &str) -> Result<bool, Error> {
        let mut fresh = false;
        for hierarchy in &self.all {
            if hierarchy.dir(path).is_dir() {
                continue;
            }
            fresh = true;
            let mut parent = hierarchy.mount.clone();
            for part in path.split('/').filter(|p| !p.is_empty()) {
                if self.version == Version::V2 {
                    enable(&parent, &hierarchy.controllers)?;
                }
                let dir = parent.join(part);
                match fs::create_dir(&dir) {
                    Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                        return Err(Error::Io { what: "making cgroup", path: dir, source: e });
                    }
                    _ => {}
                }
                if self.version == Version::V1 && hierarchy.controllers.iter().any(|c| c == "cpuset") {
                    inherit_cpuset(&parent, &dir)?;
                }
                parent = dir;
            }
        }
        Ok(fresh)
    }

    /// Hands the controllers of v2 down to what is in an existing cgroup, from the top.
    pub(crate) fn pass_down(&self, path: &str) -> Result<(), Error> {
        if self.version == Version::V1 {
            return Ok(());
        }
        for hierarchy in &self.all {
            let mut dir = hierarchy.mount.clone();
            enable(&dir, &hierarchy.controllers)?;
            for part in path.split('/').filter(|p| !p.is_empty()) {
                dir.push(part);
                enable(&dir, &hierarchy.controllers)?;
            }
        }
        Ok(())
    }
}

/// Enables controllers for the children of `dir`. Those without which limits would be lost must work; the
/// others are taken where the kernel gives them.
fn enable(dir: &Path, controllers: &[String]) -> Result<(), Error> {
    let path = dir.join("cgroup.subtree_control");
    let enabled = read(&path)?.unwrap_or_default();
    let missing: Vec<String> = controllers
        .iter()
        .filter(|c| !enabled.split_whitespace().any(|e| e == *c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() || put(&path, &missing.join(" ")).is_ok() {
        return Ok(());
    }
    for one in missing {
        match put(&path, &one) {
            Err(e) if ["+cpu", "+memory", "+pids"].contains(&one.as_str()) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// A new v1 cpuset has no CPUs, and no process can join it.
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = read(&dir.join(file))?.unwrap_or_default();
        let inherited = read(&parent.join(file))?.unwrap_or_default();
        if own.trim().is_empty() && !inherited.trim().is_empty() {
            put(&dir.join(file), inherited.trim())?;
        }
    }
    Ok(())
}

/// Writes a value unless it is there already.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), Error> {
    if read(path)?.is_some_and(|there| there.trim() == value) {
        return Ok(());
    }
    put(path, value)
}

fn put(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|source| Error::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// The text of a file; `None` when it is not there.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(source) => Err(Error::Io { what: "reading", path: path.to_owned(), source }),
    }
}

/// What a file operation answers when the cgroup went away meanwhile.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// Directories in a directory, sorted, without symbolic links; none when it is not there.
pub(crate) fn children(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    list(dir, |entry| entry.file_type().is_ok_and(|t| t.is_dir()).then(|| entry.path()))
}

/// Names in a directory, sorted; none when it is not there.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    list(dir, |entry| entry.file_name().into_string().ok())
}

fn list<T: Ord>(dir: &Path, pick: impl Fn(&fs::DirEntry) -> Option<T>) -> Result<Vec<T>, Error> {
    let failed = |source| Error::Io { what: "listing", path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if is_gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(pick(&entry.map_err(failed)?));
    }
    found.sort();
    Ok(found)
}
