//! Programs from Debian packages, unpacked into `target/tools` without installing anything.
//!
//! Installing would start services and could push out a Docker that is there already. So apt works on a state
//! of its own, with the machine's own Debian mirror and key ring, and `dpkg -x` unpacks what it brings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::output;
use super::containerd::Line;
use super::error::At;
use super::{Error, say};
use crate::env::run::target_dir;

/// A package, and the Debian suite that it is taken from.
struct Package {
    name: &'static str,
    suite: &'static str,
    /// A file in it, to know that it is there.
    proof: &'static str,
}

const STABLE: &str = "bookworm";
const TESTING: &str = "testing";

/// Everything that a node needs beside a kernel.
const PACKAGES: [Package; 5] = [
    Package { name: "containerd", suite: STABLE, proof: "usr/bin/containerd" },
    Package { name: "containerd", suite: TESTING, proof: "usr/bin/containerd" },
    Package { name: "runc", suite: STABLE, proof: "usr/sbin/runc" },
    Package { name: "containernetworking-plugins", suite: STABLE, proof: "usr/lib/cni/bridge" },
    Package { name: "busybox-static", suite: STABLE, proof: "bin/busybox" },
];

/// Where Debian keeps the keys of its archive, newest name first.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// The unpacked packages.
#[derive(Debug, Clone)]
pub struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// Unpacks what is missing, telling what; a second call finds everything there and costs nothing.
    ///
    /// # Errors
    /// Without a Debian mirror in the machine's apt sources, or when apt or dpkg fail.
    pub fn ensure() -> Result<Self, Error> {
        let dir = target_dir().join("tools");
        fs::create_dir_all(&dir).at("create", &dir)?;
        // Test processes run side by side: one fetches, the others wait for it.
        let lock = fs::File::create(dir.join("lock")).at("create", dir.join("lock"))?;
        lock.lock().at("lock", dir.join("lock"))?;
        let tools = Self { dir };
        for suite in [STABLE, TESTING] {
            let missing: Vec<&Package> = PACKAGES
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

    /// Where the images are kept that were built from these tools.
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    fn fetch(&self, suite: &str, packages: &[&Package]) -> Result<(), Error> {
        let apt = Apt::new(self.dir.join(format!("apt-{suite}")), suite)?;
        let names: Vec<&str> = packages.iter().map(|p| p.name).collect();
        say(&format!(
            "fetching from Debian {suite} into {}: {} (nothing is installed on the system)",
            self.dir.display(),
            names.join(", ")
        ));
        apt.update()?;
        for package in packages {
            let deb = apt.download(package.name)?;
            let unpacked = apt.dir.join(package.name);
            output(Command::new("dpkg").arg("-x").arg(&deb).arg(&unpacked))?;
            let folder = self.folder(suite, package.name);
            if let Some(parent) = folder.parent() {
                fs::create_dir_all(parent).at("create", parent)?;
            }
            // The rename makes it appear whole or not at all.
            fs::rename(&unpacked, &folder).at("create", &folder)?;
        }
        fs::remove_dir_all(&apt.dir).at("remove", &apt.dir)
    }
}

/// apt with its own state, so that neither the machine's package lists nor its sources change.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new(dir: PathBuf, suite: &str) -> Result<Self, Error> {
        if dir.exists() {
            fs::remove_dir_all(&dir).at("remove", &dir)?;
        }
        for sub in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub)).at("create", dir.join(sub))?;
        }
        let signed_by = KEYRINGS
            .iter()
            .find(|k| Path::new(k).exists())
            .map_or(String::new(), |k| format!("[signed-by={k}] "));
        let source = format!("deb {signed_by}{} {suite} main\n", debian_mirror()?);
        fs::write(dir.join("sources.list"), source).at("write", dir.join("sources.list"))?;
        Ok(Self { dir })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::State={dir}/state"),
            "Dir::State::status=/var/lib/dpkg/status".to_owned(),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Etc::SourceList={dir}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            // A pin of the machine must not choose another version.
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            // The private folder may be closed to apt's own download user.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.current_dir(&self.dir).env("LC_ALL", "C");
        command
    }

    fn update(&self) -> Result<(), Error> {
        // Without this option, apt calls a mirror that cannot be reached a success.
        output(self.command("apt-get").args(["-o", "APT::Update::Error-Mode=any", "-qq", "update"])).map(drop)
    }

    /// Downloads the newest version of the suite and returns the `.deb`.
    fn download(&self, package: &str) -> Result<PathBuf, Error> {
        output(self.command("apt-get").args(["-qq", "download", package]))?;
        let entries = fs::read_dir(&self.dir).at("read", &self.dir)?;
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
            })
            .ok_or_else(|| Error::Machine(format!("apt-get download {package} brought no .deb file")))
    }
}

/// The Debian mirror that this machine is set up with.
fn debian_mirror() -> Result<String, Error> {
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(COMPONENT) $(RELEASE)",
        "Created-By: Packages",
    ]))?;
    pick_mirror(&targets).map(str::to_owned).ok_or_else(|| {
        Error::Machine(
            "no Debian mirror in this machine's apt sources: containerd, runc, the CNI plugins and busybox come \
             from Debian's packages"
                .to_owned(),
        )
    })
}

/// The archive of Debian itself among lines of `URI component release`: its path ends in `/debian`, and it has
/// the component `main` of a plain release (security and update suites stand elsewhere or have a dash).
fn pick_mirror(targets: &str) -> Option<&str> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (uri, component, release) = (words.next()?, words.next()?, words.next()?);
        let is_debian = uri.trim_end_matches('/').ends_with("/debian");
        (is_debian && component == "main" && !release.contains('-')).then_some(uri)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debians_own_archive_and_no_other() {
        let targets = "\
https://repo.example.org/linux/debian/ stable bookworm
https://tools.example.org/ main bookworm
http://mirror.example.net/debian-security/ main bookworm-security
http://mirror.example.net/debian/ main bookworm-updates
http://mirror.example.net/debian/ main bookworm
";
        assert_eq!(pick_mirror(targets), Some("http://mirror.example.net/debian/"));
        assert_eq!(pick_mirror("https://mirror.example.net/ubuntu/ main noble\n"), None);
        assert_eq!(pick_mirror(""), None);
    }
}
