//! What can be wrong with a command line and with the files that it names. The wording is pflag's, which the kubelet uses, so that people and
//! scripts that know the kubelet understand it; what was expected is added behind it.

use std::path::PathBuf;
use std::{fmt, io};

use kube_model::yaml;

use crate::origin::Origin;
use crate::validate::Finding;

/// Why a command line cannot be used. Each text is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// An argument that is not UTF-8.
    #[error("argument {position} is not valid UTF-8: {shown:?}")]
    NotUtf8 {
        /// Position on the command line, the first argument after the program's name being 1.
        position: usize,
        /// The argument with the bad bytes replaced.
        shown: String,
    },
    /// Something like `--=x` or `---x`.
    #[error("bad flag syntax: {}", .0.escape_debug())]
    BadSyntax(String),
    /// No flag has this name.
    #[error("unknown flag: --{}", .0.escape_debug())]
    UnknownFlag(String),
    /// No flag has this letter.
    #[error("unknown shorthand flag: {letter:?} in -{}", .group.escape_debug())]
    UnknownShorthand {
        /// The letter.
        letter: char,
        /// The letters behind the dash that it stands in.
        group: String,
    },
    /// The command line ends where a value should be.
    #[error("flag needs an argument: {flag} ({expected})")]
    MissingValue {
        /// The flag as it was typed: `--root-dir` or `'v' in -v`.
        flag: String,
        /// What kind of value it takes.
        expected: &'static str,
    },
    /// A value that does not fit the flag's type.
    #[error("invalid argument {value:?} for {flag:?} flag: {reason}")]
    BadValue {
        /// The value as it was typed.
        value: String,
        /// All names of the flag: `-v, --v`.
        flag: String,
        /// Why, in the words of the Go function that the kubelet reads such values with.
        reason: String,
    },
    /// A word where no subcommand can stand.
    #[error("unknown command {}{hint}", .word.escape_debug())]
    UnknownCommand {
        /// The word.
        word: String,
        /// What was probably meant, with its leading punctuation; may be empty.
        hint: String,
    },
    /// `validate` without a path.
    #[error("validate takes at least one path: a file, a folder, or - for standard input")]
    NoPath,
    /// `explain` without a pod, or with several.
    #[error("{command} takes exactly one {what}, got {got}")]
    WordCount {
        /// The subcommand.
        command: &'static str,
        /// What it takes.
        what: &'static str,
        /// How many words it got.
        got: usize,
    },
    /// `exec` without a command.
    #[error("exec takes a command behind two dashes: node-agent exec POD -- COMMAND [ARGUMENT...]")]
    NoCommand,
    /// `port-forward` without a port.
    #[error("port-forward takes at least one port: node-agent port-forward POD [LOCAL:]REMOTE...")]
    NoPort,
    /// A port to forward that is none.
    #[error(
        "{0:?} is no port to forward: it must be REMOTE, LOCAL:REMOTE or :REMOTE, with numbers from 1 to 65535; REMOTE may be a port's name"
    )]
    Port(String),
    /// A value of a subcommand's flag that it does not know.
    #[error("--{flag} {value:?} {rule}")]
    Value {
        /// The flag, without dashes.
        flag: &'static str,
        /// The value as it was typed.
        value: String,
        /// What was expected, as the end of a sentence.
        rule: String,
    },
}

/// Values that have the right type and still cannot be; all of them. One line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {}", Joined(.0))]
pub struct InvalidConfiguration(pub Vec<Finding<Origin>>);

/// Why files can not be read into a configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file that can not be read at all.
    #[error("reading {origin}")]
    Read {
        /// The file.
        origin: Origin,
        /// Why.
        source: io::Error,
    },
    /// A folder of `--config-dir` that can not be listed.
    #[error("listing the folder {path:?} of --config-dir")]
    List {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A text that is neither YAML nor JSON.
    #[error("reading {origin}")]
    Syntax {
        /// The place.
        origin: Origin,
        /// What is wrong there.
        source: yaml::Error,
    },
    /// A text with nothing in it.
    #[error("{origin} is empty: a configuration has at least an apiVersion and a kind")]
    Empty {
        /// The file.
        origin: Origin,
    },
    /// A text that is something else.
    #[error("{origin}: expected {expected}, got {got}")]
    Kind {
        /// The place.
        origin: Origin,
        /// What was expected.
        expected: String,
        /// What it is.
        got: String,
    },
    /// Values of the wrong type: the first one of each field.
    #[error("wrong types: {}", Joined(.0))]
    Types(Vec<WrongType>),
    /// What the command line was accepted with does not fit any more.
    #[error(transparent)]
    Flag(#[from] UsageError),
}

/// A value of the wrong type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongType {
    /// Its path.
    pub field: String,
    /// What it is and what was expected.
    pub reason: String,
    /// Where it stands.
    pub origin: Origin,
}

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.field, self.reason, self.origin)
    }
}

struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}
