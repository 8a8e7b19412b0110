//! apt on private state: Debian's packages and sources without touching the machine's own lists or sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;
use super::command::output;
use super::error::At;

/// Where Debian keeps the keys of its archive, newest name first.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// apt with its own state, so that neither the machine's package lists nor its sources change.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
}

/// What a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Packages only.
    Binary,
    /// Packages and the sources that they are built from.
    WithSources,
}

impl Apt {
    /// Sets up this folder, emptied first, for a Debian suite.
    ///
    /// # Errors
    /// Without a Debian mirror in the machine's apt sources, or when the folder cannot be written.
    pub fn new(dir: PathBuf, suite: &str, kind: Kind) -> Result<Self, Error> {
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
        let archive = format!("{signed_by}{} {suite} main\n", debian_mirror()?);
        let mut sources = format!("deb {archive}");
        if kind == Kind::WithSources {
            sources += &format!("deb-src {archive}");
        }
        fs::write(dir.join("sources.list"), sources).at("write", dir.join("sources.list"))?;
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

    /// Reads the mirror's lists.
    ///
    /// # Errors
    /// When a list cannot be had.
    pub fn update(&self) -> Result<(), Error> {
        // Without this option, apt calls a mirror that cannot be reached a success.
        output(self.command("apt-get").args(["-o", "APT::Update::Error-Mode=any", "-qq", "update"])).map(drop)
    }

    /// Downloads the newest version of the suite and unpacks it into this folder, where its `usr` and so on go.
    ///
    /// # Errors
    /// When the suite has no such package, or apt or dpkg fail.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<(), Error> {
        output(self.command("apt-get").args(["-qq", "download", package]))?;
        let deb = self.downloaded(&format!("{package}_"), ".deb")?;
        output(Command::new("dpkg").arg("-x").arg(&deb).arg(into))?;
        fs::remove_file(&deb).at("remove", &deb)
    }

    /// The packages that this one depends on, in its own words.
    ///
    /// # Errors
    /// When the suite has no such package.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>, Error> {
        let text = output(self.command("apt-cache").args(["depends", "--important", package]))?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads the source of a package and returns the archive that Debian got from its makers.
    pub(super) fn source(&self, package: &str) -> Result<PathBuf, Error> {
        output(self.command("apt-get").args(["-qq", "source", "--download-only", package]))?;
        self.downloaded(&format!("{package}_"), ".orig.tar.gz")
    }

    fn downloaded(&self, start: &str, end: &str) -> Result<PathBuf, Error> {
        let entries = fs::read_dir(&self.dir).at("read", &self.dir)?;
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(start) && name.ends_with(end)
            })
            .ok_or_else(|| Error::Machine(format!("apt-get succeeded but brought no {start}*{end}")))
    }

    /// Takes the private state away.
    ///
    /// # Errors
    /// When its folder cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.dir).at("remove", &self.dir)
    }
}

/// The Debian mirror that this machine is set up with.
///
/// # Errors
/// When its apt sources name none.
pub fn debian_mirror() -> Result<String, Error> {
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(COMPONENT) $(RELEASE)",
        "Created-By: Packages",
    ]))?;
    pick_mirror(&targets).map(str::to_owned).ok_or_else(|| {
        Error::Machine(
            "no Debian mirror in this machine's apt sources: the programs that the tests run against come from \
             Debian's packages"
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
