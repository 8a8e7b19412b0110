//! What can be wrong with a command line. The wording is pflag's, which the kubelet uses, so that people and
//! scripts that know the kubelet understand it; what was expected is added behind it.

use std::fmt;

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
    /// Values that have the right type and still cannot be; all of them.
    #[error("invalid configuration: {}", Joined(.0))]
    Invalid(Vec<Invalid>),
}

/// One value that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The flag, without dashes.
    pub flag: &'static str,
    /// The KubeletConfiguration field that the flag sets, where there is one.
    pub field: Option<&'static str>,
    /// The value as it was typed, or the default.
    pub value: String,
    /// The rule, as the end of a sentence: `must be between 0 and 65535`.
    pub rule: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flag, field, value, rule } = self;
        match field {
            Some(field) => write!(f, "{field} (--{flag}) {value:?} {rule}"),
            None => write!(f, "--{flag} {value:?} {rule}"),
        }
    }
}

struct Joined<'a>(&'a [Invalid]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, invalid) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            invalid.fmt(f)?;
        }
        Ok(())
    }
}
