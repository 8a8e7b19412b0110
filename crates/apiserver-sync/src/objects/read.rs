//! Reading one object once.

use kube::api::GetParams;
use kube::core::Request;
use kube::{Client, Error as KubeError};
use kube_model::objects::{Key, Object};

use super::Error;
use super::object::Received;

/// How new the answer has to be.
#[derive(Clone, Copy)]
pub(super) enum Freshness {
    /// As etcd has it.
    Latest,
    /// What the server has at hand, perhaps older than what was read before.
    AtHand,
}

/// Why there is no object.
pub(super) enum Failure {
    NotFound,
    /// In the words of the server or of the way to it.
    Kube(KubeError),
    /// What the server sent is no such object; nothing of it is in the text.
    Odd(String),
}

pub(super) fn request(key: &Key) -> Request {
    Request::new(format!("/api/v1/namespaces/{}/{}", key.namespace, key.kind.plural()))
}

/// The object and its version.
pub(super) async fn read(
    client: &Client,
    key: &Key,
    freshness: Freshness,
) -> Result<(Object, String), Failure> {
    let params = match freshness {
        Freshness::Latest => GetParams::default(),
        Freshness::AtHand => GetParams::at("0"),
    };
    let request = request(key).get(&key.name, &params).map_err(KubeError::BuildRequest);
    let answer = match request {
        Ok(request) => client.request_text(request).await,
        Err(error) => Err(error),
    };
    match answer {
        // The decoder's own words may hold a value.
        Ok(text) => match serde_json::from_str::<Received>(&text) {
            Ok(received) => {
                let version = received.resource_version().to_owned();
                received.into_object(key.kind).map(|object| (object, version)).map_err(Failure::Odd)
            }
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                Err(Failure::Odd(format!(
                    "the answer is not what it should be (line {line}, column {column})"
                )))
            }
        },
        Err(KubeError::Api(status)) if status.code == 404 => Err(Failure::NotFound),
        Err(error) => Err(Failure::Kube(error)),
    }
}

/// A failure of the way or the server, told.
pub(super) fn error_of(key: &Key, error: &KubeError) -> Error {
    match error {
        KubeError::Api(status) if status.code == 403 => {
            Error::Forbidden { key: key.clone(), message: status.message.clone() }
        }
        error => Error::Unavailable { key: key.clone(), message: util::causes(error) },
    }
}
