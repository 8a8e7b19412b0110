//! Who we are and whom we trust, kept up to date with the files that say so.
//!
//! The files are looked at again when a request comes and the last look was a while ago, or after the server
//! refused us: no task, no timer, nothing to do while nothing is sent.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use reload::Reloaded;
use rustls::ClientConfig;

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
}

/// Keeps the identity. What the token's file says does not depend on whether certificates can be used, nor the other way
/// round.
#[derive(Debug)]
pub(super) struct IdentityCache {
    pub(super) target: Arc<Target>,
    tls: Reloaded<(Material, Arc<ClientConfig>), Error>,
    authorization: Reloaded<Option<HeaderValue>, Error>,
}

impl IdentityCache {
    /// Reads everything; blocks for it.
    pub(super) fn load(target: Target) -> Result<Self, Error> {
        let target = Arc::new(target);
        let path = target.path.display();
        let failed = |target: &Target, problem| Error::Field { path: target.path.clone(), problem };

        let files = [&target.ca, &target.certificate, &target.key].into_iter().flatten();
        let files = files.filter_map(Source::path).map(Into::into).collect();
        let of = Arc::clone(&target);
        let tls = move |last: Option<&(Material, Arc<ClientConfig>)>| {
            let read = || -> Result<_, Problem> {
                let material = Material::read(&of)?;
                let config = match last.filter(|(before, _)| *before == material) {
                    Some((_, config)) => Arc::clone(config),
                    None => Arc::new(material.config(&of)?),
                };
                Ok((material, config))
            };
            read().map_err(|problem| failed(&of, problem))
        };
        let tls = Reloaded::open(format!("certificates of kubeconfig {path}"), files, LOOK_AGAIN, tls)?;

        let file = target.user.token_file.iter().filter(|file| !file.is_empty()).map(Into::into).collect();
        let of = Arc::clone(&target);
        let authorization =
            move |_: Option<&_>| credentials::authorization(&of).map_err(|problem| failed(&of, problem));
        let authorization =
            Reloaded::open(format!("token of kubeconfig {path}"), file, LOOK_AGAIN, authorization)?;
        Ok(Self { tls, authorization, target })
    }

    /// The identity, after a look at its files if one is due.
    pub(super) async fn current(&self) -> Identity {
        let (_, tls) = &*self.tls.current().await;
        let authorization = self.authorization.current().await;
        Identity { tls: Arc::clone(tls), authorization: Option::clone(&authorization) }
    }

    /// The server refused us: the files are looked at with the next request.
    pub(super) fn doubt(&self) {
        self.tls.doubt();
        self.authorization.doubt();
    }
}
