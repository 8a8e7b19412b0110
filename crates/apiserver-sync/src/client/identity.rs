//! Who we are and whom we trust, kept up to date with the files that say so.
//!
//! The files are looked at again when a request comes and the last look was a while ago, or after the server
//! refused us: no task, no timer, nothing to do while nothing is sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderValue;
use reload::Reloaded;
use rustls::ClientConfig;
use tokio::sync::watch;
use tower::BoxError;

use super::kubeconfig::{Source, Target};
use super::tls::Material;
use super::{Error, Problem, credentials};

/// How long a file may have changed before it is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// One state of the files.
#[derive(Debug)]
pub(super) struct Identity {
    /// The same `Arc` as long as no certificate, key or authority changed.
    pub(super) tls: Arc<ClientConfig>,
    /// `Authorization`, unless an exec plugin gives it.
    pub(super) authorization: Option<HeaderValue>,
    /// Whether an exec plugin counts.
    pub(super) exec: bool,
}

/// A client certificate that is got and renewed while clients are in use. It goes before what the kubeconfig says of its
/// user.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// Where it may be, with its key; the first that is there counts.
    pub places: Vec<(PathBuf, PathBuf)>,
    /// Whether the kubeconfig's user is nobody's business: without the certificate nothing is asked.
    pub alone: bool,
    /// Whether what is there does not count yet, but only what comes ([`super::Access::renewed`]).
    pub ignored: Arc<AtomicBool>,
    /// Why there is none yet.
    pub waits: watch::Receiver<Option<String>>,
}

impl Renewed {
    /// `target` with the certificate that is there; `None`: there is none.
    fn of(&self, target: &Target) -> Option<Target> {
        if self.ignored.load(Ordering::Relaxed) {
            return None;
        }
        let there = self.places.iter().find(|(certificate, key)| certificate.exists() && key.exists());
        there.map(|(certificate, key)| target.with_certificate(certificate, key))
    }
}

/// Nobody can be asked without a certificate.
#[derive(Debug, thiserror::Error)]
#[error("the API server is not asked: {0}")]
struct Waits(String);

/// What connections are made with; `None`: there is no certificate yet.
type Tls = Option<InUse>;

#[derive(Debug, Clone)]
struct InUse {
    material: Material,
    config: Arc<ClientConfig>,
    /// Whether the certificate is the one that is renewed.
    renewed: bool,
}

/// Keeps the identity. What the token's file says does not depend on whether certificates can be used, nor the other way
/// round.
#[derive(Debug)]
pub(super) struct IdentityCache {
    pub(super) target: Arc<Target>,
    renewed: Option<Renewed>,
    tls: Reloaded<Tls, Error>,
    authorization: Reloaded<Option<HeaderValue>, Error>,
}

impl IdentityCache {
    /// Reads everything; blocks for it.
    pub(super) fn load(target: Target, renewed: Option<Renewed>) -> Result<Self, Error> {
        let target = Arc::new(target);
        let path = target.path.display();
        let failed = |target: &Target, problem| Error::Field { path: target.path.clone(), problem };

        let files = [&target.ca, &target.certificate, &target.key].into_iter().flatten();
        let mut files: Vec<PathBuf> = files.filter_map(Source::path).map(Into::into).collect();
        let places = renewed.iter().flat_map(|renewed| &renewed.places);
        files.extend(places.flat_map(|(certificate, key)| [certificate.clone(), key.clone()]));
        let (of, by) = (Arc::clone(&target), renewed.clone());
        let tls = move |last: Option<&Tls>| match in_use(&of, by.as_ref(), last.and_then(Option::as_ref)) {
            // Whoever gets the certificate says what is wrong with it.
            Err(_) if last.is_none() && by.as_ref().is_some_and(|renewed| renewed.alone) => Ok(None),
            read => read.map_err(|problem| failed(&of, problem)),
        };
        let tls = Reloaded::open(format!("certificates of kubeconfig {path}"), files, LOOK_AGAIN, tls)?;

        let file = target.user.token_file.iter().filter(|file| !file.is_empty()).map(Into::into).collect();
        let of = Arc::clone(&target);
        let authorization =
            move |_: Option<&_>| credentials::authorization(&of).map_err(|problem| failed(&of, problem));
        let authorization =
            Reloaded::open(format!("token of kubeconfig {path}"), file, LOOK_AGAIN, authorization)?;
        Ok(Self { tls, authorization, target, renewed })
    }

    /// The identity, after a look at its files if one is due. Fails while there is none.
    pub(super) async fn current(&self) -> Result<Identity, BoxError> {
        let Some(InUse { config, renewed, .. }) = &*self.tls.current().await else {
            let waits = self.renewed.as_ref().and_then(|renewed| renewed.waits.borrow().clone());
            return Err(
                Waits(waits.unwrap_or_else(|| "there is no client certificate yet".to_owned())).into()
            );
        };
        let authorization = match renewed {
            true => None,
            false => Option::clone(&*self.authorization.current().await),
        };
        Ok(Identity { tls: Arc::clone(config), authorization, exec: !renewed })
    }

    /// There is another certificate.
    pub(super) fn renewed(&self) {
        self.renewed.iter().for_each(|renewed| renewed.ignored.store(false, Ordering::Relaxed));
        self.doubt();
    }

    /// The server refused us: the files are looked at with the next request.
    pub(super) fn doubt(&self) {
        self.tls.doubt();
        self.authorization.doubt();
    }
}

/// What the files say now; what was made of them the last time, where they say the same.
fn in_use(target: &Target, by: Option<&Renewed>, last: Option<&InUse>) -> Result<Tls, Problem> {
    let renewed = by.and_then(|renewed| renewed.of(target));
    if renewed.is_none() && by.is_some_and(|renewed| renewed.alone) {
        return Ok(None);
    }
    let (is_renewed, target) = (renewed.is_some(), renewed.as_ref().unwrap_or(target));
    let material = Material::read(target)?;
    let config = match last.filter(|last| last.material == material) {
        Some(last) => Arc::clone(&last.config),
        None => Arc::new(material.config(target)?),
    };
    Ok(Some(InUse { material, config, renewed: is_renewed }))
}
