//! Who we are and whom we trust, kept up to date with the files that say so.
//!
//! The files are looked at again when a request comes and the last look was a while ago, or after the server
//! refused us: no task, no timer, nothing to do while nothing is sent. What can not be used is told once, and
//! what was there before goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::kubeconfig::Target;
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

/// Keeps the identity.
#[derive(Debug)]
pub(super) struct IdentityCache {
    pub(super) target: Target,
    now: ArcSwap<Identity>,
    look: Mutex<Look>,
}

#[derive(Debug)]
struct Look {
    material: Material,
    /// `None`: look at the next request.
    last: Option<Instant>,
    complaint: Option<Problem>,
}

impl IdentityCache {
    /// Reads everything; blocks for it.
    pub(super) fn load(target: Target) -> Result<Self, Error> {
        let read = || {
            let material = Material::read(&target)?;
            let tls = Arc::new(material.config(&target)?);
            Ok((material, Identity { tls, authorization: credentials::authorization(&target)? }))
        };
        let (material, identity) =
            read().map_err(|problem| Error::Field { path: target.path.clone(), problem })?;
        let look = Look { material, last: Some(Instant::now()), complaint: None };
        Ok(Self { target, now: ArcSwap::from_pointee(identity), look: Mutex::new(look) })
    }

    /// The identity, after a look at its files if one is due.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<Identity> {
        if self.is_due(Instant::now()) {
            let keeper = Arc::clone(self);
            // It fails only when the runtime shuts down.
            let _ = tokio::task::spawn_blocking(move || keeper.refresh()).await;
        }
        self.now.load_full()
    }

    /// The server refused us: the files are looked at with the next request.
    pub(super) fn doubt(&self) {
        self.look().last = None;
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut look = self.look();
        let due = look.last.is_none_or(|last| now.saturating_duration_since(last) >= LOOK_AGAIN);
        if due {
            // Others go on with what there is.
            look.last = Some(now);
        }
        due
    }

    fn refresh(&self) {
        let result = self.read();
        let mut look = self.look();
        match result {
            Ok(()) => look.complaint = None,
            Err(problem) if look.complaint.as_ref() == Some(&problem) => {}
            Err(problem) => {
                let path = self.target.path.display();
                tracing::warn!("kubeconfig {path}: {problem}; what was read before goes on");
                look.complaint = Some(problem);
            }
        }
    }

    fn read(&self) -> Result<(), Problem> {
        let before = self.now.load_full();
        let material = Material::read(&self.target)?;
        let changed = self.look().material != material;
        let tls = match changed {
            true => Arc::new(material.config(&self.target)?),
            false => Arc::clone(&before.tls),
        };
        // A token file that vanished or is empty: the token read last may still be good.
        let (authorization, complaint) = match credentials::authorization(&self.target) {
            Ok(authorization) => (authorization, None),
            Err(problem) => (before.authorization.clone(), Some(problem)),
        };
        if changed || authorization != before.authorization {
            self.now.store(Arc::new(Identity { tls, authorization }));
        }
        if changed {
            self.look().material = material;
            tracing::info!("kubeconfig {}: certificates were read anew", self.target.path.display());
        }
        complaint.map_or(Ok(()), Err)
    }

    fn look(&self) -> MutexGuard<'_, Look> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
