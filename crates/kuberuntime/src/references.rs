//! Objects of the API server that containers and images need, looked up. What follows from what is found, `cri-config`
//! and `images` say.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver_sync::objects::{Error, FIRST_ANSWER, Kind, Object, Objects};
use apiserver_sync::services::{NotSynced, Services};
use cri_config::env::{self, Missing};
use futures::future::join_all;
use images::PullSecretError;
use images::credentials::Keyring;
use kube_model::core::{Container, Pod};
use kube_model::pod;

/// What is known of the API server's objects.
#[derive(Debug, Clone)]
pub struct References {
    /// ConfigMaps and Secrets.
    pub objects: Objects,
    /// Services.
    pub services: Services,
}

/// What was found for one container.
pub(super) struct Found<'a> {
    services: BTreeMap<String, String>,
    objects: Vec<(Name<'a>, Result<Arc<Object>, Missing>)>,
}

type Name<'a> = (env::Kind, &'a str);

impl Found<'_> {
    pub(super) fn as_inputs(&self) -> env::References<'_> {
        let objects = self.objects.iter();
        let objects =
            objects.map(|(name, found)| (*name, found.as_ref().map(|o| &o.data).map_err(Clone::clone)));
        env::References { services: &self.services, objects: objects.collect() }
    }
}

impl References {
    /// What the container's variables come from, and no more.
    ///
    /// # Errors
    /// The services are not known, and the server did not tell of them within [`FIRST_ANSWER`]. A static pod goes
    /// without: it may be what makes the server reachable.
    pub(super) async fn of_container<'a>(
        &self,
        pod: &Pod,
        container: &'a Container,
    ) -> Result<Found<'a>, NotSynced> {
        let services = async {
            if !pod::is_static(pod) {
                // Without an answer in time the error below says what is missing.
                let _ = tokio::time::timeout(FIRST_ANSWER, self.services.synced()).await;
            }
            let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
            match self.services.environment(namespace(pod), links) {
                Err(NotSynced) if pod::is_static(pod) => Ok(BTreeMap::new()),
                known => known,
            }
        };
        let object = |(kind, name): Name<'a>| async move {
            let found = self.objects.get(kind, namespace(pod), name).await.map_err(|error| match error {
                Error::NotFound(_) => Missing::NotFound,
                error => Missing::Unreadable(error.to_string()),
            });
            ((kind, name), found)
        };
        let objects = join_all(env::references(container).into_iter().map(object));
        let (services, objects) = futures::join!(services, objects);
        Ok(Found { services: services?, objects })
    }

    /// One of the pod's pull secrets.
    pub(super) async fn pull_secret(&self, pod: &Pod, name: &str) -> Result<Keyring, PullSecretError> {
        match self.objects.get(Kind::Secret, namespace(pod), name).await {
            Ok(secret) => Ok(Keyring::from_secret(&secret.kind, &secret.data)?),
            Err(error) => {
                // The pod's event does not say why.
                tracing::warn!("no image pull secret: {}", util::causes(&error));
                Err(PullSecretError::Missing)
            }
        }
    }
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
