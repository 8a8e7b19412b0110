//! Claims and persistent volumes, each read by its name when a pod needs it: that is all that a node may do with them.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request;
use kube::{Api, Client, Error as KubeError};
use kube_model::core::{PersistentVolume, PersistentVolumeClaim, Secret};
use kube_model::k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube_model::syntax;
use serde_json::Value;

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

    /// What the cluster says of a CSI driver, which is nothing of some.
    ///
    /// # Errors
    /// As [`Storage::claim`], but for one that is not there.
    pub async fn csi_driver(&self, name: &str) -> Result<Option<CSIDriver>, Error> {
        let api = Api::all(self.client.clone());
        answered(api.get_opt(name)).await
    }

    /// That a volume is attached to a node, as the server has it now.
    ///
    /// # Errors
    /// As [`Storage::claim`].
    pub async fn attachment(&self, name: &str) -> Result<VolumeAttachment, Error> {
        let api = Api::all(self.client.clone());
        answered(api.get(name)).await
    }

    /// Strategic merge patch of a claim's status; the answer is the claim after it. A node may change there what tells of
    /// the claim's size.
    ///
    /// # Errors
    /// As [`Storage::claim`]; it has changed meanwhile, if the patch says how it was.
    pub async fn patch_claim(
        &self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<PersistentVolumeClaim, Error> {
        let api = Api::namespaced(self.client.clone(), namespace);
        answered(api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))).await
    }

    /// What is in a Secret that a persistent volume, or a pod's CSI volume, refers to.
    ///
    /// # Errors
    /// As [`Storage::claim`]; nothing of the Secret is in them.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, Error> {
        // Such a name would be another path.
        if let Some(why) = syntax::dns_subdomain(name).or_else(|| syntax::dns_label(namespace)) {
            return Err(Error(format!("there can be no secret \"{namespace}/{name}\": {why}")));
        }
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/secrets"));
        let request =
            request.get(name, &GetParams::default()).map_err(|error| Error(util::causes(&error)))?;
        // kube's own decoding logs what it can not decode.
        let text = answered(self.client.request_text(request)).await?;
        let secret: Secret = serde_json::from_str(&text)
            .map_err(|error| Error(format!("it is not what it should be (line {})", error.line())))?;
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
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
