//! What the recordings show and this crate does not do yet: the one list, which only ever gets shorter.

/// Which half of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The CRI calls.
    Calls,
    /// The status.
    Status,
}

/// Recording, half, and the reason why it does not agree yet. An entry that agrees fails the test.
pub(crate) const LATER: &[(&str, Part, &str)] = &[
    ("node-selector-mismatch", Part::Calls, "refused by admission"),
    ("node-selector-mismatch", Part::Status, "refused by admission"),
    ("sysctl-unsafe", Part::Calls, "refused by admission"),
    ("sysctl-unsafe", Part::Status, "refused by admission"),
    ("too-much-cpu", Part::Calls, "refused by admission"),
    ("too-much-cpu", Part::Status, "refused by admission"),
    ("hooks", Part::Calls, "the preStop hook takes its time from the grace period"),
];
