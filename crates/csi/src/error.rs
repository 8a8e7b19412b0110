//! What a failed call is called.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

/// The codes of gRPC.
pub use tonic::Code;
use tonic::Status;

/// A call that failed, in the words that Go's gRPC has for it: users search for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", name(*.code))]
pub struct Error {
    method: &'static str,
    code: Code,
    message: String,
}

impl Error {
    /// The call, such as `NodeStageVolume`.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// What kind of failure it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Whether the driver has done with it: nothing of what was asked for is there, and nothing will come. Else it may
    /// be there, or come yet (upstream `pkg/volume/csi/csi_client.go` `isFinalError`).
    pub fn is_final(&self) -> bool {
        !matches!(
            self.code,
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Unavailable
                | Code::ResourceExhausted
                // CSI: something is being done to the volume already.
                | Code::Aborted
        )
    }

    /// Whether the driver refuses as long as the volume is in use.
    pub fn is_in_use(&self) -> bool {
        self.code == Code::FailedPrecondition
    }

    /// Whether what is asked for can never be (upstream `pkg/volume/csi/expander.go` `isInfeasibleError`).
    pub fn is_infeasible(&self) -> bool {
        matches!(self.code, Code::InvalidArgument | Code::OutOfRange | Code::NotFound)
    }

    pub(crate) fn new(method: &'static str, code: Code, message: impl Into<String>) -> Self {
        Self { method, code, message: message.into() }
    }

    /// What a status says, of a call to `endpoint` that was made with so much time left.
    pub(crate) fn of(method: &'static str, endpoint: &Path, status: &Status, late: bool) -> Self {
        // tonic sets a source on what happened on our side of the wire, and only then.
        let broken = status.source().is_some();
        match status.code() {
            Code::DeadlineExceeded => Self::deadline(method),
            Code::Cancelled if late => Self::deadline(method),
            _ if broken => {
                let why = format!("connection error: {}: {}", endpoint.display(), chain(status));
                Self::new(method, Code::Unavailable, why)
            }
            code => Self::new(method, code, status.message()),
        }
    }

    pub(crate) fn deadline(method: &'static str) -> Self {
        Self::new(method, Code::DeadlineExceeded, "context deadline exceeded")
    }

    /// The same, of a call whose time does not come from outside.
    pub(crate) fn late(method: &'static str, limit: Duration) -> Self {
        Self::new(method, Code::DeadlineExceeded, format!("no answer within {limit:?}"))
    }
}

/// The status and its causes in one line. tonic wraps everything in a "transport error", which says nothing more.
fn chain(status: &Status) -> String {
    util::causes_with(status, |error| match error.downcast_ref::<Status>() {
        Some(status) => {
            Some(status.message().to_owned()).filter(|t| t != "transport error").unwrap_or_default()
        }
        None => Some(error.to_string()).filter(|text| text != "transport error").unwrap_or_default(),
    })
}

/// As Go writes it.
pub(crate) fn name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_gos_name_and_says_whether_the_driver_has_done_with_it() {
        for (code, text, is_final) in [
            (Code::Internal, "Internal", true),
            (Code::InvalidArgument, "InvalidArgument", true),
            (Code::NotFound, "NotFound", true),
            (Code::Unknown, "Unknown", true),
            (Code::Cancelled, "Canceled", false),
            (Code::DeadlineExceeded, "DeadlineExceeded", false),
            (Code::Unavailable, "Unavailable", false),
            (Code::ResourceExhausted, "ResourceExhausted", false),
            (Code::Aborted, "Aborted", false),
        ] {
            let status = Status::new(code, "why");
            let error = Error::of("NodeStageVolume", Path::new("/run/d.sock"), &status, false);
            let message = if code == Code::DeadlineExceeded { "context deadline exceeded" } else { "why" };
            assert_eq!(error.to_string(), format!("rpc error: code = {text} desc = {message}"));
            assert_eq!(error.is_final(), is_final, "{code:?}");
        }
    }

    #[test]
    fn a_broken_connection_may_have_had_its_effect_and_names_the_socket() {
        let status = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        let error = Error::of("NodeStageVolume", Path::new("/run/d.sock"), &status, false);
        let said = "rpc error: code = Unavailable desc = connection error: /run/d.sock: broken pipe";
        assert_eq!((error.to_string().as_str(), error.is_final()), (said, false));
        let late = Error::of("NodeStageVolume", Path::new("/"), &Status::cancelled("Timeout expired"), true);
        assert_eq!(late.code(), Code::DeadlineExceeded);
    }
}
