//! The source that polls an HTTP URL: one Pod, a PodList or a List, in JSON or YAML.
//!
//! As the kubelet (upstream `pkg/kubelet/config/http.go`): a GET per check, 10 s for the whole of it, at most 10 MiB,
//! anything but 200 is an error that changes nothing, an empty body means no pods, and one item that is wrong refuses
//! the whole document. The pods of a document belong together, so then the whole last good one stays.
//!
//! Better on purpose:
//! - Nothing but a document without a pod takes it away: the last good one also stays over a restart of the agent
//!   while the server is down (see [`Settings::cache_dir`]).
//! - A document that did not change is not sent again (`ETag`, `Last-Modified`), and it may be sent packed (gzip).
//! - Redirects lead only to the same server, unless [`Settings::redirects`] says otherwise, and never from https to
//!   plain http. Another server never gets the headers and credentials of the settings.
//! - While the URL can not be read or used, the checks become rarer: the pause doubles with each failure after the
//!   first, up to a minute (or the check frequency, if that is longer), and is up to a quarter longer by chance, so
//!   that a fleet of nodes does not hit a server that recovers all at once. The first success ends that.
//! - No proxy is used, whatever the environment says. Of the environment only `SSL_CERT_FILE` and `SSL_CERT_DIR` have
//!   a meaning, where they name the root certificates of the system.
//!
//! Each check is a connection of its own over HTTP/1.1, so that nothing is held between two. hyper, rustls and a few
//! small crates do it with 48 crates, 7 of them new to the agent; reqwest needs 93 and 33, and still leaves the rules
//! for redirects, sizes and headers to us.
//!
//! Owns the reading and the set of pods. Must not know what becomes of them.

mod documents;
mod fetch;
mod tls;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use kube_model::Timestamp;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{SourceState, WallClock};
use documents::Documents;
use fetch::{Answer, Client, Validators};
use tls::Connector;
use url::Target;

/// Name of this source, in [`SourceState::source`] and in the annotation of its pods.
pub const SOURCE: &str = "http";

/// Largest document in bytes, packed or not, unless the settings say otherwise.
pub const MAX_BYTES: usize = 10 << 20;

/// How often the URL is read unless the settings say otherwise.
pub const CHECK_FREQUENCY: Duration = Duration::from_secs(20);

/// How long one reading may take, with all redirects, unless the settings say otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest pause between two readings that fail, unless the check frequency is longer.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What to read, for which node, and how often. Its `Debug` form hides what may be secret.
#[derive(Clone)]
pub struct Settings {
    /// An `http` or `https` URL. A user and password in it are sent as basic authentication and shown nowhere.
    pub url: String,
    /// Further headers, names and values; a name may stand several times. One that the source would send itself
    /// (`Host`, `User-Agent`, `Authorization` of the URL) replaces it. Values are secret.
    pub headers: Vec<(String, String)>,
    /// Name of this node: part of the pods' names. (Not of their UIDs; upstream `pkg/kubelet/config/common.go`.)
    pub node_name: String,
    /// How often the URL is read; zero stands for [`CHECK_FREQUENCY`]. May change at any time.
    pub check_frequency: Receiver<Duration>,
    /// The certificates, in PEM format, that a server's must come from instead of the roots of the system. Read
    /// again when it changes.
    pub ca_file: Option<PathBuf>,
    /// Which redirects are followed.
    pub redirects: Redirects,
    /// For one reading with all its redirects. Default [`TIMEOUT`].
    pub timeout: Duration,
    /// Largest document in bytes, as it comes and unpacked. Default [`MAX_BYTES`].
    pub max_bytes: usize,
    /// A folder of the source's own, in which it keeps the last good document, so that a server that is down while
    /// the agent restarts does not end its pods. `None`: kept in memory only.
    pub cache_dir: Option<PathBuf>,
    /// For when something was read, in what is shown. Pauses do not go by it.
    pub wall_clock: WallClock,
}

/// Which redirects are followed. None leads from https to plain http.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redirects {
    /// To the same host and port, and from its plain port to its encrypted one.
    #[default]
    SameHost,
    /// To any server; one that is not the first does not get the headers and credentials.
    Any,
}

/// Why a source can not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL. Its text is not repeated: it may hold a password.
    #[error("the manifest URL is not valid")]
    Url(#[source] ::http::uri::InvalidUri),
    /// Not the URL of a server.
    #[error("the manifest URL must be of the form http://HOST/PATH or https://HOST/PATH")]
    Scheme,
    /// Not a header's name.
    #[error("{0:?} can not be the name of a header of the manifest URL")]
    HeaderName(String),
    /// Not a header's value. It is not repeated: it may be secret.
    #[error("the value of the header {0:?} of the manifest URL has characters that no header may have")]
    HeaderValue(String),
}

impl Settings {
    /// The defaults of the kubelet.
    pub fn new(url: impl Into<String>, node_name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            node_name: node_name.into(),
            check_frequency: channel(CHECK_FREQUENCY).1,
            ca_file: None,
            redirects: Redirects::default(),
            timeout: TIMEOUT,
            max_bytes: MAX_BYTES,
            cache_dir: None,
            wall_clock: WallClock::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            headers,
            node_name,
            check_frequency,
            ca_file,
            redirects,
            timeout,
            max_bytes,
            cache_dir,
            wall_clock: _,
        } = self;
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Settings")
            .field("url", &Target::parse(url).map(|target| target.shown()))
            .field("headers", &names)
            .field("node_name", node_name)
            .field("check_frequency", &*check_frequency.borrow())
            .field("ca_file", ca_file)
            .field("redirects", redirects)
            .field("timeout", timeout)
            .field("max_bytes", max_bytes)
            .field("cache_dir", cache_dir)
            .finish()
    }
}

/// Starts reading. The first value is an empty state that is not `seen`; the source publishes when something
/// changed. It ends when `cancel` is cancelled or the last receiver is gone.
///
/// Must be called within a tokio runtime that has its I/O and time drivers on.
///
/// # Errors
/// A URL or header that can not be used. Whatever else is wrong is a problem in the state: it may end.
pub fn spawn(settings: Settings, cancel: CancellationToken) -> Result<Receiver<Arc<SourceState>>, Error> {
    let target = Target::parse(&settings.url)?;
    let shown = target.shown();
    let documents = Documents::new(target.uri.to_string(), &shown, settings.node_name, settings.cache_dir);
    let client = Client {
        headers: headers(&settings.headers)?,
        target,
        redirects: settings.redirects,
        timeout: settings.timeout,
        max_bytes: settings.max_bytes,
        connector: Connector::new(settings.ca_file, settings.timeout),
    };
    let initial = SourceState { source: SOURCE, location: shown.into(), ..SourceState::default() };
    let (publish, receiver) = channel(Arc::new(initial));
    let (frequency, wall_clock) = (settings.check_frequency, settings.wall_clock);
    tokio::spawn(async move {
        cancel.run_until_cancelled(run(client, documents, frequency, wall_clock, publish)).await;
    });
    Ok(receiver)
}

fn headers(settings: &[(String, String)]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in settings {
        let parsed: HeaderName = name.parse().map_err(|_| Error::HeaderName(name.clone()))?;
        // These say how the message is sent, not what is asked for.
        if [CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE].contains(&parsed) {
            return Err(Error::HeaderName(name.clone()));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| Error::HeaderValue(name.clone()))?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}

async fn run(
    mut client: Client,
    mut documents: Documents,
    mut frequency: Receiver<Duration>,
    wall_clock: WallClock,
    publish: Sender<Arc<SourceState>>,
) {
    let mut known: Option<Validators> = None;
    let mut failures = 0;
    // What is on disk does not wait for a server that is slow or down.
    let now = wall_clock.now();
    let Some(loaded) = off_thread(documents, move |documents| documents.load(now)).await else {
        return;
    };
    documents = loaded;
    publish_changes(&publish, &documents, now);
    loop {
        // Before the reading, so that a change during it is not missed.
        let check_frequency = match *frequency.borrow_and_update() {
            Duration::ZERO => CHECK_FREQUENCY,
            frequency => frequency,
        };
        let answer = client.get(known.as_ref()).await;
        let now = wall_clock.now();
        match answer {
            Ok(Answer::NotModified) => documents.confirm(),
            Ok(Answer::Document(document)) => {
                let max = client.max_bytes;
                known = Some(document.validators.clone());
                let taking = off_thread(documents, move |documents| match document.unpack(max) {
                    Ok(text) => {
                        let kind = document.content_type.as_ref().and_then(|kind| kind.to_str().ok());
                        documents.take(&text, kind, now);
                    }
                    Err(error) => documents.spoil(&chain(&error)),
                });
                let Some(taken) = taking.await else { return };
                documents = taken;
            }
            Err(error) => documents.fail(&chain(&error)),
        }
        if documents.want_it_again() {
            known = None;
        }
        failures = if documents.are_good() { 0 } else { failures + 1 };
        publish_changes(&publish, &documents, now);
        tokio::select! {
            () = publish.closed() => return,
            () = sleep(pause(check_frequency, failures, fastrand::f64())) => {}
            // Whichever ends the wait, what follows is the same: no branch holds anything to lose.
            Ok(()) = frequency.changed() => {}
        }
    }
}

/// Works on files and large texts where that holds up nobody. `None` only when the runtime shuts down.
async fn off_thread(
    mut documents: Documents,
    work: impl FnOnce(&mut Documents) + Send + 'static,
) -> Option<Documents> {
    let working = spawn_blocking(move || {
        work(&mut documents);
        documents
    });
    working.await.ok()
}

fn publish_changes(publish: &Sender<Arc<SourceState>>, documents: &Documents, now: Timestamp) {
    publish.send_if_modified(|state| documents.publish(Arc::make_mut(state), now));
}

/// How long to wait after so many failures in a row; `chance` is from 0 to 1.
fn pause(check_frequency: Duration, failures: u32, chance: f64) -> Duration {
    if failures == 0 {
        return check_frequency;
    }
    util::doubled(check_frequency, failures, MAX_PAUSE.max(check_frequency)).mul_f64(1.0 + chance / 4.0)
}

/// An error with its causes, in words that stay the same from one reading to the next.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    util::causes_with(error, |error| tls::expiry(error).unwrap_or_else(|| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_the_checks_rarer_up_to_a_minute() {
        let seconds = |frequency, failures, chance| {
            pause(Duration::from_secs(frequency), failures, chance).as_secs_f64()
        };
        for (frequency, failures, expected) in [
            (20, 0, 20.0),
            (20, 1, 20.0),
            (20, 2, 40.0),
            (20, 3, 60.0),
            (20, 1000, 60.0),
            (1, 4, 8.0),
            (300, 9, 300.0),
        ] {
            assert_eq!(seconds(frequency, failures, 0.0), expected);
            let longest = if failures == 0 { expected } else { expected * 1.25 };
            assert_eq!(seconds(frequency, failures, 1.0), longest);
        }
        let longest_of_go = Duration::from_nanos(u64::MAX / 2);
        assert!(pause(longest_of_go, 99, 1.0) > longest_of_go);
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = Settings {
            headers: vec![("X-Token".into(), "secret1".into())],
            ..Settings::new("https://somebody:secret2@host/pods?key=secret3", "node1")
        };
        let shown = format!("{settings:?}");
        assert!(shown.contains("https://host/pods?…") && shown.contains("X-Token"), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("somebody"), "{shown}");
        let broken = format!("{:?}", Settings::new("nonsense secret", "node1"));
        assert!(!broken.contains("secret"), "{broken}");
    }

    #[test]
    fn headers_that_can_not_be_sent_are_refused_without_their_values() {
        let refused =
            |name: &str, value: &str| headers(&[(name.into(), value.into())]).unwrap_err().to_string();
        assert_eq!(refused("a b", "x"), "\"a b\" can not be the name of a header of the manifest URL");
        assert!(refused("Content-Length", "3").starts_with("\"Content-Length\" can not be"));
        let error = refused("X-Token", "secret\r\nX: y");
        assert!(error.contains("\"X-Token\"") && !error.contains("secret"), "{error}");
        let both = [("a".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned())];
        assert_eq!(headers(&both).unwrap().get_all("a").iter().count(), 2);
    }
}
