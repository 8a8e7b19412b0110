//! kube-apiserver: built once from Debian's source package and kept in the user's cache.
//!
//! Nothing of Go is installed: the tool chain is unpacked beside the sources and goes with them afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::apt::{Apt, Kind};
use super::cache::{lock, user_cache};
use super::command::output;
use super::error::At;
use super::packages::{STABLE, is_program};
use super::{Error, say};

/// What Debian 12 has the source of. The number behind it counts how it is built here.
const VERSION: &str = "1.20.2";
const BUILD: &str = "1";
/// Debian's Go that these sources build with.
const GO: &str = "1.19";
/// The path of the sources under a GOPATH.
const IMPORT: &str = "k8s.io/kubernetes";
/// Where the generated API descriptions go: the server does not start without them, Debian's source lacks them.
const OPENAPI: &str = "pkg/generated/openapi";

/// The environment variable that names another build of kube-apiserver.
pub const KUBE_APISERVER_VARIABLE: &str = "NODE_AGENT_KUBE_APISERVER";

/// The kube-apiserver for tests: what [`KUBE_APISERVER_VARIABLE`] names, else the one that
/// [`build_kube_apiserver`] has built.
///
/// # Errors
/// When there is no such program; the message says how to get it.
pub fn kube_apiserver() -> Result<PathBuf, Error> {
    if let Some(path) = named()? {
        return Ok(path);
    }
    let program = cache()?.join("kube-apiserver");
    if is_program(&program) {
        return Ok(program);
    }
    Err(Error::Machine(format!(
        "no kube-apiserver at {}: `cargo xtask kube-apiserver` builds it once, and `cargo xtask test` does so \
         itself; {KUBE_APISERVER_VARIABLE} names another build",
        program.display()
    )))
}

/// Builds kube-apiserver if it is not there, telling each step, and returns its path. That takes about four
/// minutes on two cores and 2 GB of disk while it lasts; a second call costs nothing.
///
/// # Errors
/// Without a Debian mirror in the machine's apt sources, or when a step fails; nothing half-built is left.
pub fn build_kube_apiserver() -> Result<PathBuf, Error> {
    if let Some(path) = named()? {
        return Ok(path);
    }
    let cache = cache()?;
    let program = cache.join("kube-apiserver");
    if is_program(&program) {
        return Ok(program);
    }
    fs::create_dir_all(&cache).at("create", &cache)?;
    let _lock = lock(&cache, "kube-apiserver")?;
    if is_program(&program) {
        return Ok(program);
    }
    let start = Instant::now();
    say(&format!(
        "building kube-apiserver {VERSION} from Debian's source, once: about four minutes and 2 GB in {}",
        cache.display()
    ));
    // A build that was killed leaves its folder; with the lock held, nobody uses it.
    let tree = cache.join("build");
    remove(&tree)?;
    let built = Build { tree: tree.clone() }.run();
    let cleaned = remove(&tree);
    built.map_err(|error| {
        Error::Machine(format!(
            "kube-apiserver was not built: {}\nA mirror that did not answer is worth another try; \
             {KUBE_APISERVER_VARIABLE} names another build, 1.20 or newer",
            util::causes(&error)
        ))
    })?;
    cleaned?;
    say(&format!("built {} in {:.0} s", program.display(), start.elapsed().as_secs_f32()));
    Ok(program)
}

/// What the environment variable names, when it is set.
fn named() -> Result<Option<PathBuf>, Error> {
    let Some(path) = std::env::var_os(KUBE_APISERVER_VARIABLE).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    if is_program(&path) {
        return Ok(Some(path));
    }
    Err(Error::Machine(format!("{KUBE_APISERVER_VARIABLE}={}: no such program", path.display())))
}

/// The user's cache for this version on this kind of machine.
fn cache() -> Result<PathBuf, Error> {
    Ok(user_cache()?.join(format!("kube-apiserver-{VERSION}-{BUILD}-{}", std::env::consts::ARCH)))
}

/// One build in a folder of its own, beside where the result goes.
struct Build {
    tree: PathBuf,
}

impl Build {
    fn run(&self) -> Result<(), Error> {
        self.step(1, &format!("fetching Go {GO} and the source from Debian {STABLE}"));
        let apt = Apt::new(self.tree.join("apt"), STABLE, Kind::WithSources)?;
        apt.update()?;
        for package in [format!("golang-{GO}-go"), format!("golang-{GO}-src")] {
            apt.unpack(&package, &self.tree.join("go"))?;
        }
        let archive = apt.source("kubernetes")?;
        if !archive.to_string_lossy().ends_with(&format!("{VERSION}.orig.tar.gz")) {
            let found = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Error::Machine(format!("Debian {STABLE} has {found} and no longer {VERSION}")));
        }

        self.step(2, "unpacking");
        let source = self.source();
        fs::create_dir_all(&source).at("create", &source)?;
        // Debian's patches are about what kubectl prints.
        output(
            Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source).arg("--strip-components=1"),
        )?;
        apt.remove()?;

        self.step(3, "generating the descriptions of the API");
        let generator = self.tree.join("openapi-gen");
        output(
            self.go()
                .arg("build")
                .arg("-o")
                .arg(&generator)
                .arg("./vendor/k8s.io/kube-openapi/cmd/openapi-gen"),
        )?;
        let packages: Vec<String> = described(&source)?.into_iter().collect();
        output(
            self.nice(&generator)
                .args(["--logtostderr", "--output-file-base=zz_generated.openapi"])
                .arg(format!("--input-dirs={}", packages.join(",")))
                .arg(format!("--output-package={IMPORT}/{OPENAPI}"))
                .arg("--go-header-file=vendor/k8s.io/code-generator/hack/boilerplate.go.txt")
                .arg(format!("--report-filename={}", self.tree.join("violations").display())),
        )?;

        self.step(4, "compiling");
        let program = self.tree.join("kube-apiserver");
        let (major, rest) = VERSION.split_once('.').unwrap_or((VERSION, ""));
        let minor = rest.split('.').next().unwrap_or_default();
        // It tells its version to clients, which behave accordingly.
        let version: String = ["component-base/version", "client-go/pkg/version"]
            .map(|package| {
                let prefix = format!("-X {IMPORT}/vendor/k8s.io/{package}.");
                format!(" {prefix}gitVersion=v{VERSION} {prefix}gitMajor={major} {prefix}gitMinor={minor}")
            })
            .concat();
        // Cloud providers would be a sixth of the code. Without inlining it compiles a fifth faster and runs
        // hardly slower; without any optimisation it compiles no faster and starts twice as slowly.
        output(
            self.go()
                .args(["build", "-tags=providerless", &format!("-gcflags={IMPORT}/...=-l")])
                .args([&format!("-ldflags=-s -w{version}"), "-o"])
                .arg(&program)
                .arg("./cmd/kube-apiserver"),
        )?;
        let said = output(Command::new(&program).arg("--version"))?;
        if !said.contains(VERSION) {
            return Err(Error::Machine(format!("{} calls itself {}", program.display(), said.trim())));
        }
        let result = self.tree.with_file_name("kube-apiserver");
        fs::rename(&program, &result).at("create", &result)
    }

    fn step(&self, number: usize, what: &str) {
        say(&format!("  {number}/4 {what}"));
    }

    fn gopath(&self) -> PathBuf {
        self.tree.join("gopath")
    }

    fn source(&self) -> PathBuf {
        self.gopath().join("src").join(IMPORT)
    }

    fn go(&self) -> Command {
        self.nice(&self.goroot().join("bin/go"))
    }

    fn goroot(&self) -> PathBuf {
        self.tree.join(format!("go/usr/lib/go-{GO}"))
    }

    /// A program in the source tree that leaves the machine usable and sees no settings of the user's own Go.
    fn nice(&self, program: &Path) -> Command {
        let mut command = Command::new("nice");
        command
            .arg(program)
            .current_dir(self.source())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.goroot().join("bin").display()))
            .env("HOME", &self.tree)
            .env("TMPDIR", &self.tree)
            .env("GOROOT", self.goroot())
            .env("GOPATH", self.gopath())
            .env("GOCACHE", self.tree.join("cache"))
            .env("GOENV", "off")
            .env("GO111MODULE", "off")
            .env("CGO_ENABLED", "0");
        command
    }
}

/// The packages whose types are marked for a description, as import paths.
fn described(source: &Path) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    // `vendor/k8s.io` is links to what is staged.
    for (folder, prefix) in
        [("staging/src/k8s.io", format!("{IMPORT}/vendor/k8s.io")), ("pkg", format!("{IMPORT}/pkg"))]
    {
        scan(&source.join(folder), &prefix, &mut found)?;
    }
    Ok(found)
}

/// Adds the marked packages of a folder and those below it.
fn scan(dir: &Path, import: &str, found: &mut BTreeSet<String>) -> Result<(), Error> {
    /// They describe themselves, for servers of their own.
    const APART: [&str; 2] = ["code-generator", "sample-apiserver"];
    for entry in fs::read_dir(dir).at("read", dir)? {
        let entry = entry.at("read", dir)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().at("read", entry.path())?.is_dir() {
            if !APART.contains(&name.as_str()) {
                scan(&entry.path(), &format!("{import}/{name}"), found)?;
            }
        } else if name.ends_with(".go") && !found.contains(import) {
            let text = fs::read(entry.path()).at("read", entry.path())?;
            if is_marked(&String::from_utf8_lossy(&text)) {
                found.insert(import.to_owned());
            }
        }
    }
    Ok(())
}

/// Whether a comment of its own line asks for a description; programs that handle the mark name it in a string.
fn is_marked(text: &str) -> bool {
    text.lines().any(|line| {
        line.strip_prefix("//")
            .is_some_and(|comment| comment.trim_start().starts_with("+k8s:openapi-gen=true"))
    })
}

fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.at("remove", dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_described_when_a_comment_line_of_a_file_says_so() {
        let source = tempfile::tempdir().unwrap();
        for (file, text) in [
            (
                "staging/src/k8s.io/api/core/v1/doc.go",
                "// +k8s:openapi-gen=true\n// +groupName=\npackage v1\n",
            ),
            ("staging/src/k8s.io/api/core/v1/types.go", "package v1\n"),
            ("staging/src/k8s.io/api/core/doc.go", "package core\n"),
            (
                "staging/src/k8s.io/version/types.go",
                "package version\n\n//+k8s:openapi-gen=true\ntype Info struct{}\n",
            ),
            ("staging/src/k8s.io/tool/gen.go", "package tool\n\nconst mark = \"// +k8s:openapi-gen=true\"\n"),
            ("staging/src/k8s.io/off/doc.go", "// +k8s:openapi-gen=false\npackage off\n"),
            ("staging/src/k8s.io/sample-apiserver/v1/doc.go", "// +k8s:openapi-gen=true\npackage v1\n"),
            ("pkg/apis/abac/v0/doc.go", "// +k8s:openapi-gen=true\npackage v0\n"),
            ("pkg/apis/abac/v0/README.md", "// +k8s:openapi-gen=true\n"),
        ] {
            let path = source.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found: Vec<String> = described(source.path()).unwrap().into_iter().collect();
        assert_eq!(
            found,
            [
                "k8s.io/kubernetes/pkg/apis/abac/v0",
                "k8s.io/kubernetes/vendor/k8s.io/api/core/v1",
                "k8s.io/kubernetes/vendor/k8s.io/version",
            ]
        );
    }
}
