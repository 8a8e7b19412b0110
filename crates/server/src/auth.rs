//! Who sends a request, and whether that user may do it (upstream `pkg/kubelet/server/auth.go`). Every path is denied
//! unless an authoriser allows it.
//!
//! Deciding what a request needs (`attributes`) is pure; answers of the API server are kept for a while.

mod attributes;
mod authenticate;
mod authorize;
mod cache;
mod tokens;

use std::collections::BTreeMap;

pub use attributes::Access;
pub use authenticate::{Authentication, ClientCa};
pub use authorize::Authorization;
pub(crate) use authorize::Refused;

/// Every user but the anonymous one is in it.
const AUTHENTICATED: &str = "system:authenticated";

/// Who sends a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's UID; often empty.
    pub uid: String,
    /// Groups that the user is in.
    pub groups: Vec<String>,
    /// What else the authenticator told.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..Self::default()
        }
    }

    /// Whether it is somebody, not the anonymous user.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == AUTHENTICATED)
    }

    fn authenticated(mut self) -> Self {
        if !self.is_authenticated() {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
