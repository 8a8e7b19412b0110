//! A request at the API server: made or found again, and waited for (upstream `client-go/util/certificate/csr/csr.go`).

use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use kube_model::Timestamp;
use kube_model::k8s_openapi::ByteString;
use kube_model::k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::sleep;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use crate::key::Key;
use crate::pair::{Leaf, chain};
use crate::template::{Signer, Template};

/// Before a watch that did not come about, or ended, is opened anew.
const AGAIN: Duration = Duration::from_secs(2);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The API server can not be asked.
    #[error("{doing}")]
    Api {
        /// What was being done.
        doing: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// There is no request to make of this.
    #[error("making the request")]
    Request(#[source] rcgen::Error),
    /// Somebody has said no.
    #[error("the certificate signing request {name} is denied, reason: {reason}, message: {message}")]
    Denied {
        /// Which request.
        name: String,
        /// In one word.
        reason: String,
        /// In more.
        message: String,
    },
    /// The signer can not sign it.
    #[error("the certificate signing request {name} failed, reason: {reason}, message: {message}")]
    Failed {
        /// Which request.
        name: String,
        /// In one word.
        reason: String,
        /// In more.
        message: String,
    },
    /// It is gone.
    #[error("the certificate signing request {0} was deleted, or is another one now")]
    Gone(String),
    /// There is one of that name which is not ours.
    #[error("the certificate signing request {name} that is there already can not be used: {why}")]
    Incompatible {
        /// Which request.
        name: String,
        /// In what it differs.
        why: String,
    },
    /// What was signed is something else.
    #[error("the certificate that {name} was answered with can not be used: {why}")]
    Wrong {
        /// Which request.
        name: String,
        /// In what it differs.
        why: String,
    },
}

impl IssueError {
    /// Whether the same request will not be answered otherwise.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Api { .. })
    }

    /// Whether the server does not know, or does not let, who asks.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if matches!(status.code, 401 | 403)))
    }
}

/// A request that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its name.
    pub(crate) name: String,
    uid: Option<String>,
}

fn failed(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> IssueError {
    let doing = doing.into();
    move |source| IssueError::Api { doing, source: Box::new(source) }
}

/// Makes a request. With a `name` one that is there already is found again, if it is the same.
pub(crate) async fn ask(
    client: &Client,
    (template, signer): (&Template, Signer),
    key: &Key,
    name: Option<String>,
    now: Timestamp,
) -> Result<Asked, IssueError> {
    let api = Api::<CertificateSigningRequest>::all(client.clone());
    let pem = template.request(key).map_err(IssueError::Request)?;
    let generate_name = name.is_none().then(|| "csr-".to_owned());
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { name: name.clone(), generate_name, ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.name().to_owned(),
            usages: Some(signer.usages().map(str::to_owned).to_vec()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    match (api.create(&PostParams::default(), &request).await, name) {
        (Ok(made), _) => Ok(asked(&made)),
        (Err(kube::Error::Api(status)), Some(name)) if status.reason == "AlreadyExists" => {
            let doing = || format!("reading the certificate signing request {name}");
            let there = api.get(&name).await.map_err(failed(doing()))?;
            match incompatible(&there, template, signer, key, now) {
                None => Ok(asked(&there)),
                Some(why) => Err(IssueError::Incompatible { name, why }),
            }
        }
        (Err(error), _) => Err(failed("creating a certificate signing request")(error)),
    }
}

fn asked(request: &CertificateSigningRequest) -> Asked {
    Asked { name: request.metadata.name.clone().unwrap_or_default(), uid: request.metadata.uid.clone() }
}

/// In what a request differs from the one that would be made.
fn incompatible(
    there: &CertificateSigningRequest,
    template: &Template,
    signer: Signer,
    key: &Key,
    now: Timestamp,
) -> Option<String> {
    if there.spec.signer_name != signer.name() {
        return Some(format!("its signer is {}", there.spec.signer_name));
    }
    let der = x509_parser::pem::parse_x509_pem(&there.spec.request.0).ok().map(|(_, pem)| pem.contents);
    let parsed = der.as_deref().and_then(|der| X509CertificationRequest::from_der(der).ok());
    let Some((_, request)) = parsed else { return Some("it holds no request in PEM".to_owned()) };
    let info = &request.certification_request_info;
    if info.subject_pki.raw != key.public() {
        return Some("it is for another key".to_owned());
    }
    let name = info.subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    if name != Some(template.common_name.as_str()) {
        return Some(format!("it is for {}", info.subject));
    }
    let certificate = there.status.as_ref().and_then(|status| status.certificate.as_ref())?;
    let leaf = chain(&certificate.0).ok().and_then(|chain| Leaf::of(&chain[0]).ok());
    leaf.filter(|leaf| now > leaf.not_after)
        .map(|leaf| format!("its certificate has ended at {}", leaf.not_after))
}

/// What has become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Nothing yet.
    Waits { approved: bool },
    /// The certificate, in PEM.
    Issued(Vec<u8>),
}

fn verdict(asked: &Asked, request: &CertificateSigningRequest) -> Result<Verdict, IssueError> {
    if request.metadata.uid != asked.uid {
        return Err(IssueError::Gone(asked.name.clone()));
    }
    let status = request.status.as_ref();
    let mut approved = false;
    for condition in status.iter().flat_map(|status| status.conditions.iter().flatten()) {
        let name = asked.name.clone();
        let (reason, message) =
            (condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default());
        match condition.type_.as_str() {
            "Denied" => return Err(IssueError::Denied { name, reason, message }),
            "Failed" => return Err(IssueError::Failed { name, reason, message }),
            "Approved" => approved = true,
            _ => {}
        }
    }
    let certificate = status.and_then(|status| status.certificate.as_ref()).filter(|text| !text.0.is_empty());
    Ok(match certificate.filter(|_| approved) {
        Some(certificate) => Verdict::Issued(certificate.0.clone()),
        None => Verdict::Waits { approved },
    })
}

/// Waits until a request is answered, by a watch, or by looking again where there is none; the server may be away
/// meanwhile. `tell` hears what is waited for.
pub(crate) async fn answer(
    client: &Client,
    asked: &Asked,
    mut tell: impl FnMut(String),
) -> Result<Vec<u8>, IssueError> {
    let name = &asked.name;
    let api = Api::<CertificateSigningRequest>::all(client.clone());
    let field = format!("metadata.name={name}");
    let mut look = |request: &CertificateSigningRequest| match verdict(asked, request)? {
        Verdict::Issued(certificate) => Ok(Some(certificate)),
        Verdict::Waits { approved: true } => {
            tell(format!("the certificate signing request {name} is approved and waits to be signed"));
            Ok(None)
        }
        Verdict::Waits { approved: false } => {
            tell(format!(
                "the certificate signing request {name} waits to be approved (kubectl certificate approve {name})"
            ));
            Ok(None)
        }
    };
    loop {
        let list = match api.list(&ListParams::default().fields(&field)).await {
            Ok(list) => list,
            Err(error) => {
                let error = failed(format!("looking at the certificate signing request {name}"))(error);
                if error.is_refused() {
                    return Err(error);
                }
                tracing::debug!(error = util::causes(&error), "Looking again soon");
                sleep(AGAIN).await;
                continue;
            }
        };
        let Some(request) = list.items.first() else { return Err(IssueError::Gone(name.clone())) };
        if let Some(certificate) = look(request)? {
            return Ok(certificate);
        }
        let since = list.metadata.resource_version.unwrap_or_default();
        if let Ok(events) = api.watch(&WatchParams::default().fields(&field), &since).await {
            pin_mut!(events);
            while let Some(Ok(event)) = events.next().await {
                match event {
                    WatchEvent::Added(request) | WatchEvent::Modified(request) => {
                        if let Some(certificate) = look(&request)? {
                            return Ok(certificate);
                        }
                    }
                    WatchEvent::Deleted(_) => return Err(IssueError::Gone(name.clone())),
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(_) => break,
                }
            }
        }
        sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests;
