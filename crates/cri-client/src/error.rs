//! What a failed call is called.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use crate::code::Code;
use crate::endpoint::Endpoint;

/// A failed call: which, to whom, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{method} on {endpoint}: {kind}")]
pub struct Error {
    method: &'static str,
    endpoint: Arc<Endpoint>,
    kind: ErrorKind,
}

/// Why a call failed. A `message` from the runtime is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The runtime knows no such sandbox, container or image.
    NotFound {
        /// What the runtime said.
        message: String,
    },
    /// Nobody answers at the endpoint, or the connection broke before the answer: the call may or may not have
    /// had its effect.
    Unavailable {
        /// What the connection, or the runtime, said.
        message: String,
    },
    /// The deadline passed without an answer: the call may still have its effect. For `ExecSync` also: the
    /// command ran longer than its own timeout.
    DeadlineExceeded {
        /// How long the call took.
        after: Duration,
        /// What the runtime said, if it did.
        message: String,
    },
    /// The runtime does not have this call.
    Unimplemented {
        /// What the runtime said.
        message: String,
    },
    /// What answers at the endpoint is no CRI v1 runtime. Only `Version` says this.
    Incompatible {
        /// What is missing.
        message: String,
    },
    /// The runtime refused or failed, with any other code. containerd has `Unknown` for most failures.
    Runtime {
        /// Its gRPC code.
        code: Code,
        /// What the runtime said.
        message: String,
    },
}

impl Error {
    /// The CRI call, such as `RunPodSandbox`.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Where it went.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Why it failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The runtime's own words, whole; those of the connection where the runtime had none.
    pub fn message(&self) -> &str {
        match &self.kind {
            ErrorKind::NotFound { message }
            | ErrorKind::Unavailable { message }
            | ErrorKind::DeadlineExceeded { message, .. }
            | ErrorKind::Unimplemented { message }
            | ErrorKind::Incompatible { message }
            | ErrorKind::Runtime { message, .. } => message,
        }
    }

    /// Whether the thing that the call is about does not exist; for calls that remove or stop, a success.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound { .. })
    }

    /// Whether the runtime has too much to do already, such as streams that nobody has come for yet.
    pub fn is_exhausted(&self) -> bool {
        matches!(self.kind, ErrorKind::Runtime { code: Code::ResourceExhausted, .. })
    }

    /// Whether the runtime does not have this call.
    pub fn is_unimplemented(&self) -> bool {
        matches!(self.kind, ErrorKind::Unimplemented { .. })
    }

    /// Whether the same call may succeed later. Says nothing of whether it had its effect already.
    pub fn is_retryable(&self) -> bool {
        match &self.kind {
            ErrorKind::Unavailable { .. } | ErrorKind::DeadlineExceeded { .. } => true,
            ErrorKind::NotFound { .. } | ErrorKind::Unimplemented { .. } | ErrorKind::Incompatible { .. } => {
                false
            }
            ErrorKind::Runtime { code, .. } => !matches!(
                code,
                Code::InvalidArgument
                    | Code::AlreadyExists
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::OutOfRange
            ),
        }
    }

    pub(crate) fn new(method: &'static str, endpoint: &Arc<Endpoint>, kind: ErrorKind) -> Self {
        Self { method, endpoint: Arc::clone(endpoint), kind }
    }
}

impl ErrorKind {
    /// Reads a failure that came `after` that long, of a call that could take until `deadline`.
    pub(crate) fn of(status: &Status, after: Duration, deadline: Option<Duration>) -> Self {
        // tonic sets a source on what happened on our side of the wire, and only then; its codes for that are a
        // guess from the HTTP/2 error.
        let broken = status.source().is_some();
        // Our timer, tonic's and the runtime's race for the same instant; the first to speak must not matter.
        let late = deadline.is_some_and(|d| after + Duration::from_millis(1) >= d);
        let message = if broken { chain(status) } else { status.message().to_owned() };
        match Code::of(status.code()) {
            Code::DeadlineExceeded => Self::DeadlineExceeded { after, message },
            Code::Canceled if late => Self::DeadlineExceeded { after, message },
            _ if broken => Self::Unavailable { message },
            Code::NotFound => Self::NotFound { message },
            Code::Unavailable => Self::Unavailable { message },
            Code::Unimplemented => Self::Unimplemented { message },
            code => Self::Runtime { code, message },
        }
    }
}

/// The status and its causes in one line. tonic wraps everything in a "transport error", which says nothing more.
fn chain(status: &Status) -> String {
    util::causes_with(status, |error| match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => Some(error.to_string()).filter(|text| text != "transport error").unwrap_or_default(),
    })
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { message } => write!(f, "not found: {message}"),
            Self::Unavailable { message } => write!(f, "runtime unavailable: {message}"),
            Self::DeadlineExceeded { after, message } if message.is_empty() => {
                write!(f, "no answer within {after:.1?}")
            }
            Self::DeadlineExceeded { after, message } => {
                write!(f, "deadline exceeded after {after:.1?}: {message}")
            }
            Self::Unimplemented { message } => write!(f, "not implemented by the runtime: {message}"),
            Self::Incompatible { message } => write!(f, "no CRI v1 runtime: {message}"),
            Self::Runtime { code, message } => write!(f, "{message} ({code:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn error(status: &Status) -> Error {
        let endpoint = Arc::new("/run/x.sock".parse().unwrap());
        let kind = ErrorKind::of(status, Duration::from_millis(10), Some(Duration::from_secs(120)));
        Error::new("RunPodSandbox", &endpoint, kind)
    }

    #[test]
    fn each_code_has_its_kind_its_text_and_its_retry_rule() {
        for (code, text, retryable) in [
            (Code::NotFound, "not found: why", false),
            (Code::Unavailable, "runtime unavailable: why", true),
            (Code::DeadlineExceeded, "deadline exceeded after 10.0ms: why", true),
            (Code::Unimplemented, "not implemented by the runtime: why", false),
            (Code::Unknown, "why (Unknown)", true),
            (Code::ResourceExhausted, "why (ResourceExhausted)", true),
            (Code::Cancelled, "why (Canceled)", true),
            (Code::InvalidArgument, "why (InvalidArgument)", false),
            (Code::AlreadyExists, "why (AlreadyExists)", false),
        ] {
            let error = error(&Status::new(code, "why"));
            assert_eq!(error.to_string(), format!("RunPodSandbox on unix:///run/x.sock: {text}"));
            assert_eq!(error.is_retryable(), retryable, "{code:?}");
            assert_eq!(error.is_exhausted(), code == Code::ResourceExhausted);
            assert_eq!(error.message(), "why");
        }
    }

    #[test]
    fn a_failure_on_our_side_of_the_wire_is_unavailable_whatever_its_code() {
        let status = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        assert_eq!(error(&status).kind(), &ErrorKind::Unavailable { message: "broken pipe".into() });
    }

    #[test]
    fn a_cancellation_at_the_deadline_is_the_deadline() {
        let deadline = Duration::from_secs(2);
        let kind = ErrorKind::of(&Status::cancelled("Timeout expired"), deadline, Some(deadline));
        assert!(matches!(kind, ErrorKind::DeadlineExceeded { .. }), "{kind:?}");
    }
}
