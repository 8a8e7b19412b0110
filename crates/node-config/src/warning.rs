//! What is accepted, but not as its author may think.

use std::fmt;

use crate::origin::Origin;
use crate::validate::Finding;

/// Something to be told once at start. Each is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A flag that is deprecated was given.
    Deprecated {
        /// The flag, without dashes.
        flag: &'static str,
        /// The field to use instead.
        field: Option<&'static str>,
        /// Without one, what the kubelet advises; may be empty.
        instead: &'static str,
    },
    /// A field that does not exist; it is passed over.
    UnknownField {
        /// Its path.
        field: String,
        /// Where it stands.
        origin: Origin,
    },
    /// A key that stands twice; the last one counts.
    Duplicate {
        /// Its path.
        field: String,
        /// Where the last one stands.
        origin: Origin,
    },
    /// A file with a second document, which is passed over.
    SecondDocument {
        /// Where that begins.
        origin: Origin,
    },
    /// A file in the folder of `--config-dir` that is not read.
    NotConf {
        /// The file, relative to the folder.
        file: String,
    },
    /// Zeros and empty texts in files where that means "not set", so that the defaults count.
    ZeroIsUnset(Vec<(String, Origin)>),
    /// Part of a list that is left out, because it is no address.
    NotAnAddress {
        /// What it is a part of.
        field: String,
        /// The part.
        text: String,
        /// Where it came from.
        origin: Origin,
    },
    /// What was set and does nothing in this agent, or nothing anywhere: each with its origin.
    WithoutEffect(Vec<(String, Origin)>),
    /// What was set and does only a part of what it does in the kubelet.
    Partly {
        /// The field or flag.
        name: String,
        /// What is missing.
        missing: &'static str,
        /// Where the value came from.
        origin: Origin,
    },
    /// A value that is odd.
    Odd(Finding<Origin>),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deprecated { flag, field: Some(field), .. } => {
                write!(f, "flag --{flag} is deprecated: set {field} in the file given with --config")
            }
            Self::Deprecated { flag, field: None, instead: "" } => write!(f, "flag --{flag} is deprecated"),
            Self::Deprecated { flag, field: None, instead } => {
                write!(f, "flag --{flag} has been deprecated, {instead}")
            }
            Self::UnknownField { field, origin } => {
                write!(f, "unknown field {} is ignored ({origin})", field.escape_debug())
            }
            Self::Duplicate { field, origin } => {
                write!(f, "field {} is given twice, the last one counts ({origin})", field.escape_debug())
            }
            Self::SecondDocument { origin } => write!(f, "a second document is ignored ({origin})"),
            Self::NotConf { file } => {
                write!(
                    f,
                    "{file:?} in the folder of --config-dir is not read: its name does not end in .conf"
                )
            }
            Self::ZeroIsUnset(names) => {
                write!(f, "zero is the same as not set, so the defaults count: {}", Names(names))
            }
            Self::NotAnAddress { field, text, origin } => {
                write!(f, "{field}: {text:?} is not an IP address and is left out ({origin})")
            }
            Self::WithoutEffect(names) => {
                write!(f, "accepted, but without effect in this agent: {}", Names(names))
            }
            Self::Partly { name, missing, origin } => {
                let names = [(name.clone(), origin.clone())];
                write!(f, "done only in part: {}: {missing}", Names(&names))
            }
            Self::Odd(finding) => finding.fmt(f),
        }
    }
}

/// Names with their origins; a flag's own name says it all.
struct Names<'a>(&'a [(String, Origin)]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, origin)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match origin {
                Origin::Flag(flag) if *flag == name.trim_start_matches("--") => write!(f, "{comma}{name}")?,
                _ => write!(f, "{comma}{name} ({origin})")?,
            }
        }
        Ok(())
    }
}
