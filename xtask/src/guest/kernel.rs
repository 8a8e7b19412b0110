//! A user-mode kernel from Debian testing's source: what Debian's own build leaves out (cpusets, PSI, several CPUs).
//!
//! Nothing is installed: what building a kernel needs beside a C compiler is unpacked beside the sources and goes with
//! them afterwards.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use testkit::tools::{Apt, Kind, STABLE, TESTING, lock, output, user_cache};

use super::image::remove;
use crate::ui;

const CONFIG: &str = include_str!("../../guest/kernel.config");
const PATCH: &str = include_str!("../../guest/kernel.patch");
/// Grows when it is built in another way.
const BUILD: u32 = 1;
/// The package that depends on the newest sources.
const NEWEST: &str = "linux-source";
const TOOLS: &[&str] = &["bc", "bison", "flex", "m4", "make", "patch", "xz-utils"];

/// Builds the kernel unless it is there, telling each step. That takes about seven minutes on two cores and 3 GB of disk
/// while it lasts.
pub(super) fn ensure() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (BUILD, CONFIG, PATCH).hash(&mut hasher);
    let dir = user_cache()?.join(format!("guest-kernel-{:016x}", hasher.finish()));
    let kernel = dir.join("linux");
    if kernel.exists() {
        return Ok(kernel);
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let _lock = lock(&dir, "the guest's kernel")?;
    if kernel.exists() {
        return Ok(kernel);
    }
    let start = Instant::now();
    ui::say(format!(
        "building the guest's kernel from Debian {TESTING}'s source, once: seven minutes and 3 GB in {}",
        dir.display()
    ));
    let tree = dir.join("build");
    remove(&tree)?;
    let built = Build { tree: tree.clone() }.run(&kernel);
    remove(&tree)?;
    built.context("the guest's kernel was not built")?;
    ui::say(format!("built {} in {:.0} s", kernel.display(), start.elapsed().as_secs_f32()));
    Ok(kernel)
}

/// One build in a folder of its own.
struct Build {
    tree: PathBuf,
}

impl Build {
    fn run(&self, kernel: &Path) -> Result<()> {
        self.step(1, "fetching the source");
        let apt = Apt::new(self.tree.join("apt"), TESTING, Kind::Binary)?;
        apt.update()?;
        let newest = apt.dependencies(NEWEST)?;
        let Some(package) = newest.iter().find(|name| name.starts_with(NEWEST)) else {
            bail!("{NEWEST} of Debian {TESTING} depends on no sources, but on {newest:?}");
        };
        apt.unpack(package, &self.tree)?;
        apt.remove()?;
        let apt = Apt::new(self.tree.join("apt"), STABLE, Kind::Binary)?;
        apt.update()?;
        for tool in TOOLS {
            apt.unpack(tool, &self.tools())?;
        }
        apt.remove()?;

        self.step(2, "unpacking and configuring");
        let archive = self.tree.join(format!("usr/src/{package}.tar.xz"));
        output(self.tool("tar").arg("-xJf").arg(&archive).current_dir(&self.tree))?;
        let source = self.tree.join(package);
        let patch = self.tree.join("patch");
        fs::write(&patch, PATCH)?;
        output(self.tool("patch").args(["-s", "-p1", "-i"]).arg(&patch).current_dir(&source))
            .with_context(|| format!("xtask/guest/kernel.patch does not fit {package}"))?;
        let build = self.tree.join("o");
        fs::create_dir_all(&build)?;
        let make = |what: &str| {
            let mut make = self.tool("make");
            make.args(["-s", "ARCH=um", &format!("O={}", build.display()), what]).current_dir(&source);
            make
        };
        output(&mut make("x86_64_defconfig"))?;
        // The last word on an option counts.
        let config = build.join(".config");
        let defaults = fs::read_to_string(&config)?;
        fs::write(&config, format!("{defaults}\n{CONFIG}"))?;
        output(&mut make("olddefconfig"))?;
        let settled = fs::read_to_string(&config)?;
        let lost: Vec<&str> = NEEDED.iter().filter(|option| !has(&settled, option)).copied().collect();
        if !lost.is_empty() {
            bail!("{package} has no {} for user-mode Linux", lost.join(", "));
        }

        self.step(3, "compiling");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        output(make("linux").arg(format!("-j{cores}")))?;
        let program = build.join("linux");
        output(self.tool("strip").arg(&program))?;
        fs::rename(&program, kernel).with_context(|| format!("cannot create {}", kernel.display()))
    }

    fn step(&self, number: usize, what: &str) {
        ui::say(format!("  {number}/3 {what}"));
    }

    fn tools(&self) -> PathBuf {
        self.tree.join("tools")
    }

    /// A program that leaves the machine usable and finds the unpacked tools.
    fn tool(&self, program: &str) -> Command {
        let usr = self.tools().join("usr");
        let mut command = Command::new("nice");
        command
            .args(["-n", "10", program])
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", usr.join("bin").display()))
            .env("BISON_PKGDATADIR", usr.join("share/bison"))
            .env("M4", usr.join("bin/m4"))
            .env("LC_ALL", "C");
        command
    }
}

/// What the full guest is for.
const NEEDED: &[&str] = &["SMP", "CPUSETS", "PSI", "NF_TABLES_IPV4", "NFSD_V4", "BLK_DEV_LOOP"];

fn has(config: &str, option: &str) -> bool {
    config.lines().any(|line| line.strip_prefix("CONFIG_").and_then(|l| l.strip_suffix("=y")) == Some(option))
}
