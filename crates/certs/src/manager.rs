//! Keeps one certificate: gets the first one, renews it in time, says what it waits for (upstream
//! `client-go/util/certificate/certificate_manager.go`). What is to be done is decided in [`crate::decide`].

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube_model::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use util::Backoff;

use crate::decide::{Facts, Held, Identity, Next, Why, lifetime, next, presumed_now};
use crate::issue::{Asked, IssueError, answer, ask};
use crate::key::Key;
use crate::metrics::Metrics;
use crate::pair::Pair;
use crate::store::{Store, StoreError};
use crate::template::{Signer, Template};

/// How long nobody may answer a request before that counts as a failure; the request stays.
const ANSWER: Duration = Duration::from_secs(15 * 60);

/// Pauses after a failure (upstream: five attempts from 2 s on, then one each 32 s), and after somebody said no: each
/// attempt is a new request, which people have to look at.
const FAILED: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(32));
const REFUSED: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));

/// The longest time without a look at the clock, which may have been set.
const LOOK: Duration = Duration::from_secs(600);

/// How often one looks whether somebody has helped.
const STUCK: Duration = Duration::from_secs(10);

/// What the certificate's owner gives.
pub trait Ways: Send + Sync + 'static {
    /// To the API server as the node itself; also before there is a certificate, if the kubeconfig says who we are.
    fn own(&self) -> Client;

    /// Whether there is somebody who may ask for a first certificate; blocks for files.
    fn may_bootstrap(&self) -> bool;

    /// To the API server as that one; blocks for files, within the runtime.
    ///
    /// # Errors
    /// What is wrong with what says so.
    fn bootstrap(&self) -> Result<Client, Box<dyn Error + Send + Sync>>;

    /// Writes the kubeconfig that goes with the certificate; blocks.
    ///
    /// # Errors
    /// Why it can not be written.
    fn write_kubeconfig(&self) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// There is another certificate.
    fn renewed(&self);

    /// What to do where there is no way left: files and commands.
    fn help(&self) -> String;
}

/// How one certificate is kept.
pub struct Settings {
    /// Who signs it.
    pub signer: Signer,
    /// Where it is kept.
    pub store: Store,
    /// What it is to say; `None` while that is not known.
    pub template: watch::Receiver<Option<Template>>,
    /// Whether it is renewed.
    pub rotate: bool,
    /// Whether the kubeconfig has an identity of the node's own.
    pub own: bool,
    /// Whether that one has nothing to do with the store, until there is a new certificate.
    pub apart: bool,
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What it waits for; `None`: nothing.
    pub waits: watch::Sender<Option<String>>,
}

/// A request that is not answered yet.
struct Pending {
    identity: Identity,
    template: Template,
    key: Arc<Key>,
    asked: Asked,
}

/// A certificate that came while this runs.
struct Came {
    not_after: Timestamp,
    /// By the wall clock, and by the other one.
    at: Timestamp,
    since: Instant,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the bootstrap kubeconfig")]
    Bootstrap(#[source] Box<dyn Error + Send + Sync>),
    #[error("writing the kubeconfig")]
    Kubeconfig(#[source] Box<dyn Error + Send + Sync>),
    #[error("the certificate signing request {0} was not answered within 15 minutes")]
    NoAnswer(String),
    /// The agent is going down.
    #[error("ended")]
    Ended,
}

/// Keeps a certificate.
pub struct Manager<W> {
    settings: Settings,
    ways: Arc<W>,
    pending: Option<Pending>,
    came: Option<Came>,
    /// The certificate that `share` was chosen for, by its end.
    chosen: Option<Timestamp>,
    share: f64,
    /// Whether there is a certificate that is good.
    good: bool,
    failed: Backoff,
    refused: Backoff,
}

impl<W: Ways> Manager<W> {
    /// Does nothing yet.
    pub fn new(settings: Settings, ways: Arc<W>) -> Self {
        Self {
            settings,
            ways,
            pending: None,
            came: None,
            chosen: None,
            share: 0.0,
            good: false,
            failed: FAILED,
            refused: REFUSED,
        }
    }

    /// Runs until it is dropped. What was asked for is found again by the next one, where it is the first certificate.
    pub async fn run(mut self) {
        loop {
            let held = self.held().await;
            match self.next(&held).await {
                Next::Use(until) => {
                    self.good = false;
                    self.waits(None);
                    let Some(until) = until else { return std::future::pending().await };
                    let Ok(Some(Pair { leaf, .. })) = &held else { continue };
                    let left = Duration::try_from(until.duration_since(self.now(&held))).unwrap_or_default();
                    // Also a wrong clock is right some time.
                    let look = (lifetime(leaf) / 20).clamp(Duration::from_secs(1), LOOK);
                    self.pause(left.min(look)).await;
                }
                Next::NoTemplate => {
                    self.waits(Some("it is not known yet for which addresses it is to be".to_owned()));
                    if self.settings.template.changed().await.is_err() {
                        return;
                    }
                }
                Next::WriteKubeconfig => match self.write_kubeconfig().await {
                    Ok(()) => self.ways.renewed(),
                    Err(error) => self.failed(&error).await,
                },
                Next::Ask(identity, why) => {
                    let template = self.settings.template.borrow_and_update().clone();
                    let Some(template) = template else { continue };
                    self.good = matches!(why, Why::Due | Why::Lacking(_));
                    match self.obtain(identity, &why, &template, held.ok().flatten()).await {
                        Ok(()) => (self.failed, self.refused) = (FAILED, REFUSED),
                        Err(Failure::Ended) => return,
                        Err(error) => self.failed(&error).await,
                    }
                }
                Next::Stuck(why) => {
                    self.waits(Some(format!("{why}; {}", self.ways.help())));
                    self.pause(STUCK).await;
                }
            }
        }
    }

    async fn held(&self) -> Result<Option<Pair>, String> {
        let store = self.settings.store.clone();
        let held = self.blocking(move || store.current().map_err(|error| util::causes(&error))).await;
        let held = held.unwrap_or(Ok(None));
        let not_after = held.as_ref().ok().and_then(Option::as_ref).map(|pair| pair.leaf.not_after);
        self.settings.metrics.held(not_after);
        held
    }

    async fn next(&mut self, held: &Result<Option<Pair>, String>) -> Next {
        let not_after = held.as_ref().ok().and_then(Option::as_ref).map(|pair| pair.leaf.not_after);
        if self.chosen != not_after {
            (self.chosen, self.share) = (not_after, fastrand::f64());
        }
        let ways = Arc::clone(&self.ways);
        let bootstrap = self.blocking(move || ways.may_bootstrap()).await.unwrap_or(false);
        next(Facts {
            held: match held {
                Ok(Some(pair)) => Held::Certificate(&pair.leaf),
                Ok(None) => Held::Nothing,
                Err(why) => Held::Unusable(why),
            },
            template: self.settings.template.borrow().as_ref(),
            now: self.now(held),
            share: self.share,
            rotate: self.settings.rotate,
            own: self.settings.own,
            apart: self.settings.apart,
            bootstrap,
        })
    }

    fn now(&self, held: &Result<Option<Pair>, String>) -> Timestamp {
        let now = (self.settings.clock)();
        match (held, &self.came) {
            (Ok(Some(Pair { leaf, .. })), Some(came)) if came.not_after == leaf.not_after => {
                presumed_now(leaf, came.at, now, came.since.elapsed())
            }
            _ => now,
        }
    }

    /// Asks for a certificate, or goes on waiting for one, and takes it.
    async fn obtain(
        &mut self,
        identity: Identity,
        why: &Why,
        template: &Template,
        old: Option<Pair>,
    ) -> Result<(), Failure> {
        let signer = self.settings.signer;
        let client = match identity {
            Identity::Own => self.ways.own(),
            Identity::Bootstrap => {
                let ways = Arc::clone(&self.ways);
                self.blocking(move || ways.bootstrap()).await?.map_err(Failure::Bootstrap)?
            }
        };
        let same = |pending: &Pending| pending.identity == identity && pending.template == *template;
        let pending = match self.pending.take().filter(same) {
            Some(pending) => pending,
            None => {
                tracing::info!("A {} is asked for: {why}", signer.what());
                let key = self.key(identity).await?;
                let name = (identity == Identity::Bootstrap).then(|| template.digested_name(&key, signer));
                let asked = ask(&client, (template, signer), &key, name, (self.settings.clock)()).await;
                let asked = match asked {
                    Err(error) if error.is_final() => return self.over(identity, error).await,
                    other => other?,
                };
                Pending { identity, template: template.clone(), key: Arc::new(key), asked }
            }
        };
        let (key, asked) = (Arc::clone(&pending.key), pending.asked.clone());
        self.pending = Some(pending);
        let (waits, good) = (self.settings.waits.clone(), self.good);
        let mut changes = self.settings.template.clone();
        let told = |what| tell(signer, &waits, good, Some(what));
        let answered = tokio::select! {
            answered = timeout(ANSWER, answer(&client, &asked, told)) => answered,
            // What was asked for is not what is wanted any more. What was answered meanwhile is lost, and asked for anew.
            Ok(()) = until_other(&mut changes, template) => return Ok(()),
        };
        let certificate = match answered {
            Err(_) => return Err(Failure::NoAnswer(asked.name)),
            Ok(Err(error)) if error.is_final() => return self.over(identity, error).await,
            Ok(answered) => answered?,
        };
        self.pending = None;
        match self.take(&certificate, key, template, &asked).await {
            Ok(pair) => {
                let age = old.and_then(|old| {
                    Duration::try_from((self.settings.clock)().duration_since(old.leaf.not_before)).ok()
                });
                age.into_iter().for_each(|age| self.settings.metrics.replaced(age));
                tracing::info!(not_after = %pair.leaf.not_after, "There is a new {}", signer.what());
            }
            Err(Failure::Issue(error)) => return self.over(identity, error).await,
            Err(other) => return Err(other),
        }
        if identity == Identity::Bootstrap {
            self.write_kubeconfig().await?;
            self.forget_key().await?;
        }
        self.settings.apart = false;
        self.good = false;
        self.waits(None);
        self.ways.renewed();
        Ok(())
    }

    /// Keeps what was signed, if it is what was asked for.
    async fn take(
        &mut self,
        certificate: &[u8],
        key: Arc<Key>,
        template: &Template,
        asked: &Asked,
    ) -> Result<Pair, Failure> {
        let wrong = |why| IssueError::Wrong { name: asked.name.clone(), why };
        let pair = Pair::read(certificate, key.to_pem().as_bytes()).map_err(|e| wrong(util::causes(&e)))?;
        if let Some(why) = template.lacking(&pair.leaf) {
            return Err(wrong(why).into());
        }
        let (store, now) = (self.settings.store.clone(), (self.settings.clock)());
        if !(pair.leaf.not_before..=pair.leaf.not_after).contains(&now) {
            tracing::warn!(
                "A certificate that was signed just now is valid from {} to {}, and the clock of this machine says {now}: \
                 one of them is wrong",
                pair.leaf.not_before,
                pair.leaf.not_after
            );
        }
        let certificate = certificate.to_vec();
        let pair = self.blocking(move || store.update(&certificate, &key, now)).await??;
        self.came = Some(Came { not_after: pair.leaf.not_after, at: now, since: Instant::now() });
        Ok(pair)
    }

    async fn key(&self, identity: Identity) -> Result<Key, Failure> {
        let store = self.settings.store.clone();
        Ok(self
            .blocking(move || match identity {
                Identity::Bootstrap => store.pending_key(),
                Identity::Own => Key::generate().map_err(StoreError::Key),
            })
            .await??)
    }

    /// That request comes to nothing: the next one is another.
    async fn over(&mut self, identity: Identity, error: IssueError) -> Result<(), Failure> {
        self.pending = None;
        if identity == Identity::Bootstrap {
            self.forget_key().await?;
        }
        Err(error.into())
    }

    async fn forget_key(&self) -> Result<(), Failure> {
        let store = self.settings.store.clone();
        Ok(self.blocking(move || store.forget_key()).await??)
    }

    async fn write_kubeconfig(&mut self) -> Result<(), Failure> {
        let ways = Arc::clone(&self.ways);
        self.blocking(move || ways.write_kubeconfig()).await?.map_err(Failure::Kubeconfig)?;
        self.settings.own = true;
        Ok(())
    }

    /// Says what went wrong, and waits before the next attempt.
    async fn failed(&mut self, error: &Failure) {
        self.settings.metrics.failed();
        let what = self.settings.signer.what();
        if let Failure::NoAnswer(_) = error {
            // The same request is waited for.
            tracing::warn!(error = util::causes(error), "There is no new {what} yet");
            return;
        }
        if self.good {
            tracing::warn!(error = util::causes(error), "The {what} is not renewed");
        }
        let (pause, advice) = match error {
            Failure::Issue(IssueError::Gone(_)) => (self.failed.failed(), String::new()),
            Failure::Issue(error) if error.is_final() => (self.refused.failed(), String::new()),
            Failure::Issue(error) if error.is_refused() => {
                (self.failed.failed(), format!("; {}", self.ways.help()))
            }
            _ => (self.failed.failed(), String::new()),
        };
        let error = util::causes(error);
        self.waits(Some(format!("{error}{advice}; the next attempt is in {pause:?}")));
        self.pause(pause).await;
    }

    fn waits(&self, what: Option<String>) {
        tell(self.settings.signer, &self.settings.waits, self.good, what);
    }

    /// Ends early when something else is wanted.
    async fn pause(&mut self, pause: Duration) {
        // Without a sender the template stays.
        let changed = async {
            if self.settings.template.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = changed => {}
        }
    }

    /// It fails when the agent is going down, or by a panic, which has been shown.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        tokio::task::spawn_blocking(work).await.map_err(|_| Failure::Ended)
    }
}

/// Says it once. Nobody waits for another certificate while the last one is good.
fn tell(signer: Signer, waits: &watch::Sender<Option<String>>, good: bool, what: Option<String>) {
    let what = what.map(|what| match good {
        true => format!("the {} is not renewed yet: {what}", signer.what()),
        false => format!("no {} yet: {what}", signer.what()),
    });
    let say = |what: &str| match good {
        true => tracing::info!("{what}"),
        false => tracing::warn!("{what}"),
    };
    if good {
        what.iter().for_each(|what| say(what));
        return;
    }
    waits.send_if_modified(|last| {
        let other = *last != what;
        what.iter().filter(|_| other).for_each(|what| say(what));
        *last = what;
        other
    });
}

async fn until_other(
    changes: &mut watch::Receiver<Option<Template>>,
    template: &Template,
) -> Result<(), watch::error::RecvError> {
    changes.wait_for(|now| now.as_ref().is_some_and(|now| now != template)).await.map(drop)
}

#[cfg(test)]
mod tests;
