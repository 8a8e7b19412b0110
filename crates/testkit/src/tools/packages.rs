//! Programs from Debian packages, unpacked into `target/tools` without installing anything.
//!
//! Installing would start services and could push out a Docker that is there already. So apt works on a state
//! of its own, with the machine's own Debian mirror and key ring, and what it brings is only unpacked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::apt::{Apt, Kind};
use super::error::At;
use super::{Error, say};

/// Which containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Debian 12's: 1.6, without a stream of container events.
    V1_6,
    /// Debian testing's: 2.1 or later, with events.
    V2_1,
}

impl Line {
    /// Both lines, older first.
    pub const ALL: [Self; 2] = [Self::V1_6, Self::V2_1];

    /// The line as people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V2_1 => "2.1",
        }
    }
}

/// The folder that cargo builds into.
#[must_use]
pub fn target_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    workspace.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A package, and the Debian suite that it is taken from.
struct Package {
    name: &'static str,
    suite: &'static str,
    /// A file in it, to know that it is there.
    proof: &'static str,
}

/// The Debian suite that the older programs are from.
pub const STABLE: &str = "bookworm";
/// The Debian suite that the newer programs are from.
pub const TESTING: &str = "testing";

/// Everything that a node needs beside a kernel.
const NODE: [Package; 5] = [
    Package { name: "containerd", suite: STABLE, proof: "usr/bin/containerd" },
    Package { name: "containerd", suite: TESTING, proof: "usr/bin/containerd" },
    Package { name: "runc", suite: STABLE, proof: "usr/sbin/runc" },
    Package { name: "containernetworking-plugins", suite: STABLE, proof: "usr/lib/cni/bridge" },
    Package { name: "busybox-static", suite: STABLE, proof: "bin/busybox" },
];

const ETCD: Package = Package { name: "etcd-server", suite: STABLE, proof: "usr/bin/etcd" };
const KUBECTL: Package = Package { name: "kubernetes-client", suite: STABLE, proof: "usr/bin/kubectl" };

/// The unpacked packages.
#[derive(Debug, Clone)]
pub struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// Unpacks what a node needs and is missing, telling what; a second call finds everything there and costs
    /// nothing.
    ///
    /// # Errors
    /// Without a Debian mirror in the machine's apt sources, or when apt or dpkg fail.
    pub fn ensure() -> Result<Self, Error> {
        Self::unpacked(&NODE)
    }

    /// As [`Tools::ensure`], for what a cluster needs beside kube-apiserver: etcd, and kubectl where the machine
    /// has none.
    ///
    /// # Errors
    /// As for [`Tools::ensure`].
    pub fn ensure_cluster() -> Result<Self, Error> {
        Self::unpacked(if on_path("kubectl").is_some() { &[ETCD][..] } else { &[ETCD, KUBECTL] })
    }

    /// As both, for a guest, which sees these files and has no programs of this machine.
    ///
    /// # Errors
    /// As for [`Tools::ensure`].
    pub fn ensure_for_guest() -> Result<Self, Error> {
        Self::unpacked(&NODE)?;
        Self::unpacked(&[ETCD, KUBECTL])
    }

    fn unpacked(packages: &[Package]) -> Result<Self, Error> {
        let dir = target_dir().join("tools");
        fs::create_dir_all(&dir).at("create", &dir)?;
        // Test processes run side by side: one fetches, the others wait for it.
        let lock = fs::File::create(dir.join("lock")).at("create", dir.join("lock"))?;
        lock.lock().at("lock", dir.join("lock"))?;
        let tools = Self { dir };
        for suite in [STABLE, TESTING] {
            let missing: Vec<&Package> = packages
                .iter()
                .filter(|p| p.suite == suite && !tools.folder(p.suite, p.name).join(p.proof).exists())
                .collect();
            if !missing.is_empty() {
                tools.fetch(suite, &missing)?;
            }
        }
        Ok(tools)
    }

    fn folder(&self, suite: &str, package: &str) -> PathBuf {
        self.dir.join(suite).join(package)
    }

    /// The folder with `containerd`, its shim and `ctr`.
    #[must_use]
    pub fn containerd_bin(&self, line: Line) -> PathBuf {
        let suite = match line {
            Line::V1_6 => STABLE,
            Line::V2_1 => TESTING,
        };
        self.folder(suite, "containerd").join("usr/bin")
    }

    /// The `runc` program.
    #[must_use]
    pub fn runc(&self) -> PathBuf {
        self.folder(STABLE, "runc").join("usr/sbin/runc")
    }

    /// The folder with the CNI plugins.
    #[must_use]
    pub fn cni_bin(&self) -> PathBuf {
        self.folder(STABLE, "containernetworking-plugins").join("usr/lib/cni")
    }

    /// The static `busybox` program.
    #[must_use]
    pub fn busybox(&self) -> PathBuf {
        self.folder(STABLE, "busybox-static").join("bin/busybox")
    }

    /// The `etcd` program.
    #[must_use]
    pub fn etcd(&self) -> PathBuf {
        self.folder(STABLE, ETCD.name).join(ETCD.proof)
    }

    /// The machine's `kubectl`, else Debian's.
    #[must_use]
    pub fn kubectl(&self) -> PathBuf {
        on_path("kubectl").unwrap_or_else(|| self.folder(STABLE, KUBECTL.name).join(KUBECTL.proof))
    }

    /// Where the images are kept that were built from these tools.
    #[cfg(feature = "nodes")]
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    fn fetch(&self, suite: &str, packages: &[&Package]) -> Result<(), Error> {
        let names: Vec<&str> = packages.iter().map(|p| p.name).collect();
        say(&format!(
            "fetching from Debian {suite} into {}: {} (nothing is installed on the system)",
            self.dir.display(),
            names.join(", ")
        ));
        let private = self.dir.join(format!("apt-{suite}"));
        let apt = Apt::new(private.clone(), suite, Kind::Binary)?;
        apt.update()?;
        for package in packages {
            let unpacked = private.join(package.name);
            apt.unpack(package.name, &unpacked)?;
            let folder = self.folder(suite, package.name);
            if let Some(parent) = folder.parent() {
                fs::create_dir_all(parent).at("create", parent)?;
            }
            // The rename makes it appear whole or not at all.
            fs::rename(&unpacked, &folder).at("create", &folder)?;
        }
        apt.remove()
    }
}

/// The program of this name that a shell would start.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_program(file))
}

/// Whether this is a file that can be executed.
pub(super) fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
