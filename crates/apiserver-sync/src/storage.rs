//! Claims and persistent volumes, each read by its name when a pod needs it: that is all that a node may do with them.

use std::time::Duration;

use kube::{Api, Client, Error as KubeError};
use kube_model::core::{PersistentVolume, PersistentVolumeClaim};

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Why there is no object, in the server's words: `persistentvolumeclaims "a" not found`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Who asks for them. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    client: Client,
}

impl Storage {
    /// Nothing is asked for yet.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// A claim, as the server has it now.
    ///
    /// # Errors
    /// It is not there, the node may not read it, or the server does not answer.
    pub async fn claim(&self, namespace: &str, name: &str) -> Result<PersistentVolumeClaim, Error> {
        let api = Api::namespaced(self.client.clone(), namespace);
        answered(api.get(name)).await
    }

    /// A persistent volume, as the server has it now.
    ///
    /// # Errors
    /// As [`Storage::claim`].
    pub async fn volume(&self, name: &str) -> Result<PersistentVolume, Error> {
        let api = Api::all(self.client.clone());
        answered(api.get(name)).await
    }
}

async fn answered<T>(request: impl Future<Output = Result<T, KubeError>>) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(KubeError::Api(status))) => Err(Error(status.message.clone())),
        Ok(Err(error)) => Err(Error(util::causes(&error))),
        Err(_) => Err(Error(format!("the API server has not answered within {} s", ANSWER.as_secs()))),
    }
}
