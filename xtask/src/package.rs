//! `cargo xtask package`: a Debian package and a tarball of the agent.
//!
//! The package takes the kubelet's place: it provides `kubelet`, has its unit and a link by its name, and leaves the
//! drop-ins of `kubelet.service`, as kubeadm brings them, where they are.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testkit::tools::{output, succeed, target_dir};

use crate::cargo::{cargo, root};
use crate::ui;

/// The kubelet whose place it takes.
const KUBELET: &str = "1.36.2";
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pack this build of the agent instead of building the release binary
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            ui::step("building the release binary");
            succeed(&mut cargo(["build", "--release", "--package", "node-agent"]))?;
            target_dir().join("release/node-agent")
        }
    };
    ui::step("packing");
    let dir = target_dir().join("package");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    // The same input makes the same package.
    let commit = output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()))?;
    let date = commit.trim();
    let name = format!("node-agent_{VERSION}_{}", architecture()?);
    let tree = dir.join(&name);
    fill(&tree, &binary)?;
    let tarball = dir.join(format!("{name}.tar.xz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--xz", "--owner=0", "--group=0", "--sort=name"]);
    tar.arg(format!("--mtime=@{date}")).arg("--file").arg(&tarball).arg("--directory").arg(&tree);
    succeed(tar.args(["usr", "etc"]))?;
    control(&tree)?;
    let package = dir.join(format!("{name}.deb"));
    let mut deb = Command::new("dpkg-deb");
    deb.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&package);
    succeed(deb.env("SOURCE_DATE_EPOCH", date))?;
    for file in [package, tarball] {
        let size = fs::metadata(&file)?.len() as f64 / 1e6;
        ui::say(format!("{} ({size:.1} MB)", file.display()));
    }
    Ok(())
}

fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => anyhow::bail!("no name of a Debian architecture is known for {other}"),
    }
}

/// What is installed.
fn fill(tree: &Path, binary: &Path) -> Result<()> {
    let agent = tree.join("usr/bin/node-agent");
    add(&agent, &fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?, 0o755)?;
    succeed(Command::new("strip").arg("--strip-all").arg(&agent))?;
    symlink("node-agent", tree.join("usr/bin/kubelet")).context("cannot make the link kubelet")?;
    for (file, at) in [
        ("kubelet.service", "usr/lib/systemd/system/kubelet.service"),
        ("config.yaml", "etc/node-agent/config.yaml"),
        ("copyright", "usr/share/doc/node-agent/copyright"),
    ] {
        add(&tree.join(at), &fs::read(root().join("xtask/package").join(file))?, 0o644)?;
    }
    // For the drop-ins and the pods of whoever runs the node.
    for dir in ["etc/systemd/system/kubelet.service.d", "etc/kubernetes/manifests"] {
        folder(&tree.join(dir))?;
    }
    for (shell, at) in [
        ("bash", "usr/share/bash-completion/completions/node-agent"),
        ("zsh", "usr/share/zsh/vendor-completions/_node-agent"),
        ("fish", "usr/share/fish/vendor_completions.d/node-agent.fish"),
    ] {
        let script = output(Command::new(&agent).args(["completion", shell]))?;
        add(&tree.join(at), script.as_bytes(), 0o644)?;
    }
    let page = output(&mut cargo(["run", "--quiet", "--package", "node-config", "--example", "man"]))?;
    zipped(&tree.join("usr/share/man/man8/node-agent.8"), &page)?;
    let changes =
        format!("node-agent ({VERSION}) unstable; urgency=medium\n\n  * See the history of the sources.\n");
    zipped(&tree.join("usr/share/doc/node-agent/changelog"), &changes)
}

/// What dpkg is told.
fn control(tree: &Path) -> Result<()> {
    let bytes = output(Command::new("du").args(["--summarize", "--block-size=1K"]).arg(tree))?;
    let size = bytes.split_whitespace().next().unwrap_or("0").to_owned();
    let control = format!(
        "Package: node-agent\nVersion: {VERSION}\nArchitecture: {}\nMaintainer: node-agent <node-agent@localhost>\n\
         Installed-Size: {size}\nSection: admin\nPriority: optional\nDepends: libc6, mount\n\
         Provides: kubelet (= {KUBELET})\nConflicts: kubelet\nReplaces: kubelet\n\
         Description: Kubernetes node agent in the kubelet's place\n Takes pods from an API server, manifest files, a URL \
         and a pod API of its\n own, and keeps their containers running through a CRI runtime.\n",
        architecture()?
    );
    let debian = tree.join("DEBIAN");
    add(&debian.join("control"), control.as_bytes(), 0o644)?;
    add(&debian.join("conffiles"), b"/etc/node-agent/config.yaml\n", 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        add(&debian.join(script), &fs::read(root().join("xtask/package").join(script))?, 0o755)?;
    }
    Ok(())
}

fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

fn add(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    folder(path.parent().unwrap_or(path))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn zipped(path: &Path, text: &str) -> Result<()> {
    add(path, text.as_bytes(), 0o644)?;
    Ok(succeed(Command::new("gzip").args(["-9n", "--force"]).arg(path))?)
}
