//! Reading the configuration again while the agent runs: what can change at once does, for the rest it is said
//! that a restart is needed, and a configuration that cannot be used changes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use logging::Verbosity;
use node_config::{CommandLine, Effective, Files, LIVE, Settings};
use reload::{Stamps, stamps};
use serde_json::Value;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Disk, facts_with};

/// How often the configuration files are looked at with `--watch-config`. By looking, because they may stand on
/// file systems that tell of no changes, and because files and folders of them come and go.
const LOOK: Duration = Duration::from_secs(5);

/// What follows the configuration while the agent runs.
#[derive(Debug, Clone)]
pub struct Live {
    /// `logging.verbosity`
    pub verbosity: Verbosity,
    /// `fileCheckFrequency`
    pub file_check_frequency: watch::Sender<Duration>,
    /// `httpCheckFrequency`
    pub http_check_frequency: watch::Sender<Duration>,
}

impl Live {
    /// What `settings` say; `verbosity` is that of the log.
    pub fn new(verbosity: Verbosity, settings: &Settings) -> Self {
        Self {
            verbosity,
            file_check_frequency: watch::Sender::new(settings.file_check_frequency),
            http_check_frequency: watch::Sender::new(settings.http_check_frequency),
        }
    }
}

/// What a new configuration changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Fields whose new values hold from now on.
    pub applied: Vec<String>,
    /// Fields whose new values need a restart.
    pub needs_restart: Vec<String>,
}

/// The configuration that the agent runs with, and how to read it again.
pub struct Reload {
    line: CommandLine,
    running: Effective,
    live: Live,
    read: (Vec<PathBuf>, Stamps),
}

impl Reload {
    /// `running` is what the agent was started with.
    pub fn new(line: CommandLine, running: Effective, live: Live) -> Self {
        let read = files(&running);
        Self { line, running, live, read }
    }

    /// Reads and checks the configuration again and applies what can be applied; blocks.
    ///
    /// # Errors
    /// What is wrong with it; then nothing has changed.
    pub fn reload(&mut self) -> Result<Changed, Box<dyn std::error::Error + Send + Sync>> {
        self.read = files(&self.running);
        let new = self.line.load(&Disk)?;
        let settings = Settings::new(&new, &facts_with(&new.flags))?;
        let mut changed = Changed::default();
        for field in differences(&self.running, &new) {
            let list = if LIVE.contains(&field.as_str()) {
                &mut changed.applied
            } else {
                &mut changed.needs_restart
            };
            list.push(field);
        }
        self.live.verbosity.set(settings.verbosity);
        self.live.file_check_frequency.send_replace(settings.file_check_frequency);
        self.live.http_check_frequency.send_replace(settings.http_check_frequency);
        // The rest is still as it was at the start, so it stays a difference the next time.
        self.running.config.logging.verbosity = new.config.logging.verbosity;
        self.running.config.file_check_frequency = new.config.file_check_frequency;
        self.running.config.http_check_frequency = new.config.http_check_frequency;
        Ok(changed)
    }

    /// Reads the configuration again at each SIGHUP and, `when_changed`, soon after its files change. Says in the
    /// log what came of it.
    pub async fn follow(mut self, mut hangup: Signal, when_changed: bool) {
        loop {
            // Both are cancel-safe: a signal that was not taken stays, and the files are looked at anew.
            let asked = tokio::select! {
                signal = hangup.recv() => if signal.is_none() { return } else { true },
                () = sleep(LOOK), if when_changed => false,
            };
            let work = move || {
                let reloaded = (asked || self.is_outdated()).then(|| self.reload());
                (self, reloaded)
            };
            // It fails when the agent is going down, or by a panic, which has been shown.
            let Ok((back, reloaded)) = tokio::task::spawn_blocking(work).await else { return };
            self = back;
            match reloaded {
                None => {}
                Some(Ok(Changed { applied, needs_restart })) => {
                    tracing::info!(applied = applied.join(", "), "the configuration was read again");
                    if !needs_restart.is_empty() {
                        tracing::warn!(
                            fields = needs_restart.join(", "),
                            "changed, but takes effect only after a restart"
                        );
                    }
                }
                Some(Err(error)) => {
                    tracing::error!("the configuration stays as it is: {}", util::causes(&*error));
                }
            }
        }
    }

    /// Whether a configuration file is not as it was when it was last read; blocks.
    pub fn is_outdated(&self) -> bool {
        files(&self.running) != self.read
    }
}

/// The configuration files, and what they are now.
fn files(running: &Effective) -> (Vec<PathBuf>, Stamps) {
    let flags = &running.flags;
    let mut paths = Vec::new();
    if !flags.config.is_empty() {
        paths.push(PathBuf::from(&flags.config));
    }
    if !flags.config_dir.is_empty() {
        paths.extend(Disk.list(flags.config_dir.as_ref()).unwrap_or_default());
    }
    paths.sort();
    let stamps = stamps(&paths);
    (paths, stamps)
}

/// The fields in which two configurations differ: paths of values that are no objects.
fn differences(old: &Effective, new: &Effective) -> Vec<String> {
    let value = |effective: &Effective| serde_json::to_value(&effective.config).unwrap_or_default();
    let mut fields = BTreeSet::new();
    compare(String::new(), &value(old), &value(new), &mut fields);
    fields.into_iter().collect()
}

fn compare(path: String, old: &Value, new: &Value, fields: &mut BTreeSet<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys()) {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                compare(below, &of(a), &of(b), fields);
            }
        }
        (old, new) if old != new => {
            fields.insert(path);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use node_config::Command;

    use super::*;

    fn line(args: &[String]) -> CommandLine {
        match node_config::parse(args.iter().map(Into::into)) {
            Ok(Command::Run(line)) => *line,
            _ => panic!("no command line of the agent"),
        }
    }

    #[test]
    fn live_fields_are_applied_others_are_named_and_a_broken_file_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        let write = |rest: &str| {
            // Without an API server nobody can be asked.
            let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailCgroupV1: false\n\
                        authentication: {webhook: {enabled: false}}\nauthorization: {mode: AlwaysAllow}\n";
            fs::write(&file, format!("{head}{rest}")).unwrap();
        };
        write("fileCheckFrequency: 20s\n");
        let line = line(&[format!("--config={}", file.display())]);
        let running = line.load(&Disk).unwrap();
        let verbosity = Verbosity::new(0);
        let live =
            Live::new(verbosity.clone(), &Settings::new(&running, &facts_with(&running.flags)).unwrap());
        let (file_check_frequency, http_check_frequency) =
            (live.file_check_frequency.clone(), live.http_check_frequency.clone());
        let mut reload = Reload::new(line, running, live);
        assert!(!reload.is_outdated());

        write("fileCheckFrequency: 5s\nhttpCheckFrequency: 7s\nmaxPods: 30\nlogging: {verbosity: 4}\n");
        assert!(reload.is_outdated());
        let changed = reload.reload().unwrap();
        assert_eq!(changed.applied, ["fileCheckFrequency", "httpCheckFrequency", "logging.verbosity"]);
        assert_eq!(*http_check_frequency.borrow(), Duration::from_secs(7));
        assert_eq!(changed.needs_restart, ["maxPods"]);
        assert_eq!((*file_check_frequency.borrow(), verbosity.get()), (Duration::from_secs(5), 4));
        assert!(!reload.is_outdated());

        write("fileCheckFrequency: -1s\n");
        let error = reload.reload().unwrap_err().to_string();
        assert!(error.contains("fileCheckFrequency") && error.contains("line 6"), "{error}");
        assert_eq!((*file_check_frequency.borrow(), verbosity.get()), (Duration::from_secs(5), 4));
    }
}
