//! What is wrong with a request, as Kubernetes says it: code, reason, words and causes of a `Status`.
//!
//! Rule: upstream `k8s.io/apimachinery/pkg/api/errors/errors.go`.

use std::borrow::Cow;
use std::fmt;

use kube_model::PodKey;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use kube_model::objects::Kind;

pub(crate) use manifest::submitted::Cause;

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// HTTP status code.
    pub(crate) code: u16,
    /// One word for machines: `NotFound`.
    pub(crate) reason: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
    /// Name of the object concerned; empty if it is about none.
    pub(crate) name: String,
    /// What kind of object that is.
    pub(crate) resource: Resource,
    /// What is wrong with which field.
    pub(crate) causes: Vec<Cause>,
}

/// A kind of objects, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Pods,
    Content(Kind),
    /// By the word of its path; such a thing is never sent.
    Other(&'static str),
}

impl Resource {
    /// ConfigMaps or Secrets.
    pub(crate) fn of(kind: Kind) -> Self {
        Self::Content(kind)
    }

    /// `pods`
    fn plural(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Content(kind) => kind.plural(),
            Self::Other(plural) => plural,
        }
    }

    /// `Pod`
    fn kind(self) -> &'static str {
        match self {
            Self::Pods => "Pod",
            Self::Content(kind) => kind.name(),
            Self::Other(_) => "",
        }
    }

    fn error(self, name: &str, code: u16, reason: &'static str, message: String) -> ApiError {
        let resource = self;
        ApiError { resource, name: name.to_owned(), ..ApiError::new(code, reason, message) }
    }

    /// 404: there is none of that name.
    pub(crate) fn not_found(self, name: &str) -> ApiError {
        self.error(name, 404, "NotFound", format!("{} {name:?} not found", self.plural()))
    }

    /// 409: the name is taken.
    pub(crate) fn already_exists(self, name: &str) -> ApiError {
        self.error(name, 409, "AlreadyExists", format!("{} {name:?} already exists", self.plural()))
    }

    /// 409: what the request assumed is no longer so.
    pub(crate) fn conflict(self, name: &str, why: impl fmt::Display) -> ApiError {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", self.plural());
        self.error(name, 409, "Conflict", message)
    }

    /// 403: nobody may do that.
    pub(crate) fn forbidden(self, name: &str, why: impl fmt::Display) -> ApiError {
        self.error(name, 403, "Forbidden", format!("{} {name:?} is forbidden: {why}", self.plural()))
    }

    /// 422: fields have values that they must not have.
    pub(crate) fn invalid(self, name: &str, causes: Vec<Cause>) -> ApiError {
        let list: Vec<Cow<'_, str>> = causes
            .iter()
            .map(|cause| match cause.field.as_str() {
                "" => Cow::from(&cause.message),
                field => format!("{field}: {}", cause.message).into(),
            })
            .collect();
        let list = match &list[..] {
            [one] => one.to_string(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {list}", self.kind());
        ApiError { causes, ..self.error(name, 422, "Invalid", message) }
    }
}

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ApiError {
    /// An error that is about no pod.
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let (name, causes) = (String::new(), Vec::new());
        Self { code, reason, message: message.into(), name, resource: Resource::Pods, causes }
    }

    fn of(name: &str, code: u16, reason: &'static str, message: String) -> Self {
        Self { name: name.to_owned(), ..Self::new(code, reason, message) }
    }

    /// 400: the request makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 404: there is no such pod.
    pub(crate) fn not_found(key: &PodKey) -> Self {
        Resource::Pods.not_found(&key.name)
    }

    /// 404: there is no such object of another kind.
    pub(crate) fn no_such(resource: &'static str, name: &str) -> Self {
        Resource::Other(resource).not_found(name)
    }

    /// 409: the name of a pod is taken.
    pub(crate) fn already_exists(key: &PodKey) -> Self {
        Resource::Pods.already_exists(&key.name)
    }

    /// 409: fields belong to other managers; `causes` has those of one manager together. Rule: upstream
    /// `k8s.io/apimachinery/pkg/util/managedfields/internal/conflict.go`.
    pub(crate) fn apply_conflict(name: &str, causes: Vec<Cause>) -> Self {
        let message = match &causes[..] {
            [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
            many => {
                let manager = |of: &[Cause]| {
                    let with =
                        of.first().map_or("", |cause| &cause.message).replacen("conflict", "conflicts", 1);
                    let fields: String = of.iter().map(|cause| format!("\n- {}", cause.field)).collect();
                    format!("{with}:{fields}")
                };
                let managers: Vec<_> = many.chunk_by(|a, b| a.message == b.message).map(manager).collect();
                format!("Apply failed with {} conflicts: {}", many.len(), managers.join("\n"))
            }
        };
        Self { causes, ..Self::of(name, 409, "Conflict", message) }
    }

    /// 422: fields have values that they must not have.
    pub(crate) fn invalid(name: &str, causes: Vec<Cause>) -> Self {
        Resource::Pods.invalid(name, causes)
    }

    /// 403: nobody may do that.
    pub(crate) fn forbidden(name: &str, why: impl fmt::Display) -> Self {
        Resource::Pods.forbidden(name, why)
    }

    /// 410: the changes since then are no longer known; list again.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 507: the disk is full. Kubernetes has no word for it.
    pub(crate) fn no_space(message: impl Into<String>) -> Self {
        Self::new(507, "InsufficientStorage", message)
    }

    /// 500: not the fault of the request.
    pub(crate) fn internal(what: impl fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {what}"))
    }

    /// As the API answers it.
    pub(crate) fn status(&self) -> Status {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let causes = self.causes.iter().map(|cause| StatusCause {
            field: text(&cause.field),
            message: text(&cause.message),
            reason: text(cause.reason),
        });
        let kind = match (self.name.is_empty(), self.reason) {
            (true, _) => "",
            (false, "Invalid") => self.resource.kind(),
            (false, _) => self.resource.plural(),
        };
        let details = StatusDetails {
            causes: Some(causes.collect()).filter(|causes: &Vec<_>| !causes.is_empty()),
            kind: text(kind),
            name: text(&self.name),
            ..StatusDetails::default()
        };
        Status {
            code: Some(self.code.into()),
            // Clients look into it without asking whether it is there; upstream leaves it out of this one only.
            details: Some(details).filter(|_| self.code != 401),
            message: text(&self.message),
            reason: text(self.reason),
            status: text("Failure"),
            ..Status::default()
        }
    }
}
