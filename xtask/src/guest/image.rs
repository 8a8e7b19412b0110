//! The guest's file system: Debian testing with systemd and a container runtime, as a tree and as a disk image of it.
//!
//! Built once for each version of its inputs and kept in the user's cache. The tree is also where user-mode Linux runs: it
//! needs testing's libc.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use testkit::tools::{Apt, Kind, STABLE, TESTING, debian_mirror, lock, output, user_cache};

use crate::ui;

/// What the guest has beside Debian's essential packages.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "iptables",
    "kmod",
    "libpam-systemd",
    "nfs-common",
    "nfs-kernel-server",
    "nftables",
    "procps",
    "runc",
    "systemd",
    "systemd-sysv",
    "udev",
    "util-linux",
];

/// What is written over it: path, mode, text.
const FILES: &[(&str, u32, &str)] = &[
    ("etc/hostname", 0o644, "guest\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n10.77.0.2 guest\n"),
    ("etc/fstab", 0o644, ""),
    ("etc/machine-id", 0o444, ""),
    ("etc/systemd/system/guest-exec.socket", 0o644, include_str!("../../guest/exec.socket")),
    ("etc/systemd/system/guest-exec@.service", 0o644, include_str!("../../guest/exec@.service")),
    ("etc/systemd/system/guest-net.service", 0o644, include_str!("../../guest/net.service")),
    ("usr/local/sbin/guest-exec", 0o755, include_str!("../../guest/exec")),
];

const ENABLED: &[&str] = &["guest-exec.socket", "guest-net.service"];

/// Units that a test starts if it wants them, and those that would disturb one.
const DISABLED: &[&str] = &["containerd.service", "nfs-server.service", "rpcbind.service", "rpcbind.socket"];
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "nfs-blkmap.service",
];

/// Grows when something here changes that is in none of the lists above.
const BUILD: u32 = 1;
/// The disk's size; of the host's it takes what is written.
const SIZE: &str = "6G";

/// A built guest.
pub(super) struct Image {
    dir: PathBuf,
}

impl Image {
    /// Builds the guest unless it is there, telling each step. That takes about a minute.
    pub(super) fn ensure() -> Result<Self> {
        let cache = user_cache()?;
        let dir = cache.join(format!("guest-{:016x}", inputs()));
        let image = Self { dir: dir.join("image") };
        if image.dir.exists() {
            return Ok(image);
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let _lock = lock(&dir, "the guest")?;
        if image.dir.exists() {
            return Ok(image);
        }
        let start = Instant::now();
        ui::say(format!(
            "building the guest from Debian {TESTING}, once: a minute and 1 GB in {}",
            dir.display()
        ));
        // A build that was killed leaves its folder; with the lock held, nobody uses it.
        let build = dir.join("build");
        remove(&build)?;
        let built = Build { dir: build.clone() }.run();
        if built.is_ok() {
            fs::rename(build.join("image"), &image.dir).context("cannot put the guest in its place")?;
        }
        remove(&build)?;
        built.context("the guest was not built")?;
        ui::say(format!("built the guest in {:.0} s", start.elapsed().as_secs_f32()));
        Ok(image)
    }

    /// Debian testing, unpacked.
    pub(super) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// Debian's own user-mode kernel.
    pub(super) fn kernel(&self) -> PathBuf {
        self.dir.join("linux")
    }

    /// Where boots have their folders.
    pub(super) fn boots(&self) -> PathBuf {
        self.dir.with_file_name("boots")
    }
}

fn inputs() -> u64 {
    let mut hasher = DefaultHasher::new();
    (BUILD, SIZE, PACKAGES, FILES, ENABLED, DISABLED, MASKED).hash(&mut hasher);
    hasher.finish()
}

/// Takes a folder away, if it is there.
pub(super) fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("cannot remove {}", dir.display())),
    }
}

/// One build in a folder of its own.
struct Build {
    dir: PathBuf,
}

impl Build {
    fn run(&self) -> Result<()> {
        let (image, tools) = (self.dir.join("image"), self.dir.join("tools"));
        let tree = image.join("tree");
        fs::create_dir_all(&image)?;
        self.step(1, "fetching mmdebstrap and user-mode Linux");
        have_perl()?;
        self.unpack(STABLE, "mmdebstrap", &tools)?;
        self.unpack(TESTING, "user-mode-linux", &tools)?;

        self.step(2, &format!("installing Debian {TESTING} in a folder"));
        self.bootstrap(&tools.join("usr/bin/mmdebstrap"), &tree)?;

        self.step(3, "setting it up");
        configure(&tree)?;
        fs::rename(tools.join("usr/bin/linux.uml"), image.join("linux"))?;
        let modules = tree.join("usr/lib/modules");
        fs::rename(tools.join("usr/lib/uml/modules"), &modules).context("no modules of user-mode Linux")?;
        for version in fs::read_dir(&modules)? {
            output(Command::new("chroot").arg(&tree).arg("depmod").arg(version?.file_name()))?;
        }

        self.step(4, "making its disk");
        make_disk(&image)
    }

    fn step(&self, number: usize, what: &str) {
        ui::say(format!("  {number}/4 {what}"));
    }

    fn unpack(&self, suite: &str, package: &str, into: &Path) -> Result<()> {
        let apt = Apt::new(self.dir.join(format!("apt-{suite}")), suite, Kind::Binary)?;
        apt.update()?;
        apt.unpack(package, into)?;
        Ok(apt.remove()?)
    }

    fn bootstrap(&self, mmdebstrap: &Path, tree: &Path) -> Result<()> {
        let mut command = Command::new("nice");
        command
            .arg(mmdebstrap)
            .args(["--mode=root", "--variant=minbase", "--keyring=/usr/share/keyrings"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            // A mirror that stands still has lists whose time is over; they are signed all the same.
            .args(["Acquire::Check-Valid-Until \"false\"", "Acquire::Languages \"none\""].map(aptopt))
            .args(["Acquire::Retries \"3\"", "APT::Install-Recommends \"false\""].map(aptopt))
            .args(of_the_machine()?.iter().map(|option| aptopt(option)))
            .arg("--dpkgopt=force-unsafe-io")
            .arg(TESTING)
            .arg(tree)
            .arg(format!("deb {} {TESTING} main", debian_mirror()?))
            .env("TMPDIR", &self.dir);
        output(&mut command).map(drop).context("mmdebstrap failed")
    }
}

/// mmdebstrap's language: a machine that has git has it. The only thing that is installed.
fn have_perl() -> Result<()> {
    let test = ["-MFile::Find", "-MFile::Copy", "-MPod::Usage", "-e1"];
    if output(Command::new("perl").args(test)).is_ok() {
        return Ok(());
    }
    ui::say("  installing perl");
    output(Command::new("apt-get").arg("-qq").arg("update"))?;
    output(Command::new("apt-get").args(["-qq", "install", "--yes", "--no-install-recommends", "perl"]))?;
    Ok(())
}

fn aptopt(option: &str) -> String {
    format!("--aptopt={option}")
}

/// How this machine's apt gets at its mirror: proxies and what they need.
fn of_the_machine() -> Result<Vec<String>> {
    let all = output(Command::new("apt-config").arg("dump"))?;
    let is_ours = |line: &&str| line.starts_with("Acquire::http") && !line.ends_with("\"\";");
    Ok(all.lines().filter(is_ours).map(|line| line.trim_end_matches(';').to_owned()).collect())
}

fn configure(tree: &Path) -> Result<()> {
    for (path, mode, text) in FILES {
        let path = tree.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    for unread in ["doc", "locale", "man"] {
        remove(&tree.join("usr/share").join(unread))?;
    }
    for (verb, units) in [("enable", ENABLED), ("disable", DISABLED), ("mask", MASKED)] {
        output(Command::new("chroot").arg(tree).args(["systemctl", "--quiet", verb]).args(units))?;
    }
    Ok(())
}

/// By testing's own mkfs, and of the tree without what is mounted in it.
fn make_disk(image: &Path) -> Result<()> {
    let script = "set -e
mount --bind . tree/mnt
truncate -s $0 root.ext4
exec nice chroot tree mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,lazy_journal_init=1 -d /mnt/tree /mnt/root.ext4";
    output(Command::new("unshare").args(["--mount", "sh", "-c", script, SIZE]).current_dir(image))?;
    Ok(())
}
