//! Objects that containers and images need, looked up: of the API server for its pods, of this node's manifests for all
//! others. What follows from what is found, `cri-config` and `images` say.
//!
//! Which of the two has it follows from the pod alone, so that neither can give a pod what the other was meant for.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver_sync::objects::{Error, FIRST_ANSWER, Key, Kind, Object, Objects};
use apiserver_sync::services::{NotSynced, Services};
use cri_config::env::{self, FileKey, Missing};
use futures::future::join_all;
use images::PullSecretError;
use images::credentials::Keyring;
use kube_model::core::{Container, Pod};
use kube_model::pod;
use tokio::sync::watch;

/// ConfigMaps and Secrets that are there for the pods of this node alone.
pub type LocalObjects = BTreeMap<Key, Arc<Object>>;

/// What pods refer to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct References {
    /// What the API server has; `None`: there is none.
    pub api: Option<ApiReferences>,
    /// What the manifests of this node have, for pods that are not the API server's.
    pub local: watch::Receiver<Arc<LocalObjects>>,
}

/// What is known of the API server's objects.
#[derive(Debug, Clone)]
pub struct ApiReferences {
    /// ConfigMaps and Secrets.
    pub objects: Objects,
    /// Services.
    pub services: Services,
}

/// What was found for one container.
pub(super) struct Found<'a> {
    services: BTreeMap<String, String>,
    objects: Vec<(Name<'a>, Result<Arc<Object>, Missing>)>,
    /// What stands in files of its volumes.
    pub(super) files: BTreeMap<FileKey<'a>, Result<Option<Vec<u8>>, Missing>>,
}

type Name<'a> = (env::Kind, &'a str);

impl Found<'_> {
    pub(super) fn as_inputs(&self) -> env::References<'_> {
        let objects = self.objects.iter();
        let objects =
            objects.map(|(name, found)| (*name, found.as_ref().map(|o| &o.data).map_err(Clone::clone)));
        let files = self.files.iter();
        let files =
            files.map(|(key, found)| (*key, found.as_ref().map(|v| v.as_deref()).map_err(Clone::clone)));
        env::References { services: &self.services, objects: objects.collect(), files: files.collect() }
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
            let Some(ApiReferences { services, .. }) = &self.api else { return Ok(BTreeMap::new()) };
            if !pod::is_static(pod) {
                // Without an answer in time the error below says what is missing.
                let _ = tokio::time::timeout(FIRST_ANSWER, services.synced()).await;
            }
            let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
            match services.environment(namespace(pod), links) {
                Err(NotSynced) if pod::is_static(pod) => Ok(BTreeMap::new()),
                known => known,
            }
        };
        let object = |(kind, name): Name<'a>| async move {
            let found = self.object(pod, kind, name).await.map_err(|error| match error {
                Error::NotFound(_) => Missing::NotFound,
                error => Missing::Unreadable(error.to_string()),
            });
            ((kind, name), found)
        };
        let objects = join_all(env::references(container).into_iter().map(object));
        let (services, objects) = futures::join!(services, objects);
        Ok(Found { services: services?, objects, files: BTreeMap::new() })
    }

    /// A ConfigMap or Secret that the pod refers to.
    ///
    /// # Errors
    /// Why it can not be had.
    pub async fn object(&self, pod: &Pod, kind: Kind, name: &str) -> Result<Arc<Object>, Error> {
        let key = Key { kind, namespace: namespace(pod).into(), name: name.into() };
        match &self.api {
            Some(api) if !pod::is_static(pod) => api.objects.get(kind, &key.namespace, &key.name).await,
            _ => self.local.borrow().get(&key).cloned().ok_or(Error::NotFound(key)),
        }
    }

    /// One of the pod's pull secrets.
    pub(super) async fn pull_secret(&self, pod: &Pod, name: &str) -> Result<Keyring, PullSecretError> {
        match self.object(pod, Kind::Secret, name).await {
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
