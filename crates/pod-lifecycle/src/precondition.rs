//! What a pod needs before anything of it starts: its volumes mounted, its devices and claims there (upstream
//! `pkg/kubelet/kubelet.go` `SyncPod`, which touches no container before `WaitForAttachAndMount`).

use kube_model::Monotonic;
use kube_model::view::Wait;

use crate::context::Context;
use crate::{Rejection, deadline, phase};

/// Waiting reason where the spec names what the node cannot give.
pub(crate) const UNSUPPORTED: &str = "Unsupported";

/// Something that a pod needs and does not have. While there is any, nothing of it is started, and nothing that runs is
/// stopped to be started anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// The spec names what this agent does not do; only another spec helps.
    Unsupported {
        /// Fields and reasons.
        message: String,
    },
    /// It is being worked on. Whoever does so wakes the pod when it is done.
    Waiting {
        /// What kind of thing, in one word: `VolumesNotMounted`.
        reason: String,
        /// What is missing, and why.
        message: String,
        /// Since when.
        since: Monotonic,
        /// When the next attempt is due, if one has failed.
        until: Option<Monotonic>,
    },
    /// It will never be there: the pod fails with that, and what runs of it is stopped.
    Failed(Rejection),
}

/// Why the pod fails without having had all that it needs: the node has not taken it, or cannot go on with it. Nothing
/// if it had ended before: a terminal phase stays (upstream `pkg/kubelet/kubelet_pods.go` `generateAPIPodStatus`).
pub(crate) fn rejection(cx: Context<'_>) -> Option<&Rejection> {
    let failed = cx.inputs.preconditions.iter().find_map(|unmet| match unmet {
        Unmet::Failed(rejection) => Some(rejection),
        Unmet::Unsupported { .. } | Unmet::Waiting { .. } => None,
    });
    let rejection = cx.inputs.memory.rejection.as_ref().or(failed)?;
    let ended = phase::terminal_status(cx);
    ended.is_none_or(|status| Rejection::from_status(status).as_ref() == Some(rejection)).then_some(rejection)
}

/// What the spec names and the node cannot give.
pub(crate) fn unsupported(cx: Context<'_>) -> Option<&str> {
    cx.inputs.preconditions.iter().find_map(|unmet| match unmet {
        Unmet::Unsupported { message } => Some(message.as_str()),
        Unmet::Waiting { .. } | Unmet::Failed(_) => None,
    })
}

/// What is being worked on, first of all.
pub(crate) fn pending(cx: Context<'_>) -> Option<&str> {
    cx.inputs.preconditions.iter().find_map(|unmet| match unmet {
        Unmet::Waiting { message, .. } => Some(message.as_str()),
        Unmet::Unsupported { .. } | Unmet::Failed(_) => None,
    })
}

/// One for each thing that is missing.
pub(crate) fn waits(cx: Context<'_>) -> impl Iterator<Item = Wait<Monotonic>> {
    let wait = |reason: &str, message: &str, since, until| Wait {
        container: None,
        reason: reason.to_owned(),
        message: message.to_owned(),
        since,
        until,
    };
    cx.inputs.preconditions.iter().filter_map(move |unmet| match unmet {
        Unmet::Unsupported { message } => {
            // A pod of which nothing was ever started has waited since it was first seen; of another nobody knows.
            let since = cx.inputs.observed.containers.is_empty().then(|| deadline::started_at(cx));
            Some(wait(UNSUPPORTED, message, since, None))
        }
        Unmet::Waiting { reason, message, since, until } => Some(wait(reason, message, Some(*since), *until)),
        Unmet::Failed(_) => None,
    })
}
