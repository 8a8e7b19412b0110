//! The codes of gRPC.

/// A gRPC status code, named as Go's `codes.Code` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "their meaning is gRPC's")]
pub enum Code {
    Ok,
    Canceled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Code {
    /// A function and not `From`, which would make tonic's version a part of this crate's.
    pub(crate) fn of(code: tonic::Code) -> Self {
        use tonic::Code as Wire;
        match code {
            Wire::Ok => Self::Ok,
            Wire::Cancelled => Self::Canceled,
            Wire::Unknown => Self::Unknown,
            Wire::InvalidArgument => Self::InvalidArgument,
            Wire::DeadlineExceeded => Self::DeadlineExceeded,
            Wire::NotFound => Self::NotFound,
            Wire::AlreadyExists => Self::AlreadyExists,
            Wire::PermissionDenied => Self::PermissionDenied,
            Wire::ResourceExhausted => Self::ResourceExhausted,
            Wire::FailedPrecondition => Self::FailedPrecondition,
            Wire::Aborted => Self::Aborted,
            Wire::OutOfRange => Self::OutOfRange,
            Wire::Unimplemented => Self::Unimplemented,
            Wire::Internal => Self::Internal,
            Wire::Unavailable => Self::Unavailable,
            Wire::DataLoss => Self::DataLoss,
            Wire::Unauthenticated => Self::Unauthenticated,
        }
    }
}
