//! What a flag is: a row of a table. Knows no particular flag.

use std::marker::PhantomData;

use crate::config::{self, Effect};
use crate::value::FlagValue;

/// One flag of a command whose typed values live in a `T`.
pub struct Flag<T: 'static> {
    /// The name, with dashes. On the command line underscores may stand for them.
    pub name: &'static str,
    /// The single letter, if it has one.
    pub short: Option<char>,
    /// The value that it has when it is not given, written as on the command line.
    pub default: &'static str,
    /// What it is for. A part in backquotes names the value in the help, as with pflag.
    pub help: &'static str,
    /// The KubeletConfiguration field that it sets.
    pub field: Option<&'static str>,
    /// Whose flag it is and whether it should be used.
    pub standing: Standing,
    /// What it does in this agent. Of a flag that sets a field, [`config::field`] says so instead.
    pub effect: Effect,
    /// What to use instead of a deprecated flag that sets no field, in the kubelet's words; may be empty.
    pub instead: &'static str,
    /// Where its value goes; this also fixes its type.
    pub slot: &'static dyn Slot<T>,
}

/// The help of a flag that is accepted for its past only.
pub const WITHOUT_EFFECT: &str = "without effect";

/// Whose flag it is and whether it should be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The kubelet's.
    Kubelet,
    /// The kubelet's, which prefers the configuration field over the flag (upstream
    /// `cmd/kubelet/app/options/options.go`).
    Deprecated,
    /// Ours: the kubelet has no such flag.
    Ours,
}

/// The type of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The name in the help; empty for a bool.
    pub name: &'static str,
    /// What to type, for the error about a missing value.
    pub expected: &'static str,
    /// The value that `--flag` alone stands for; `None` when a value must follow.
    pub alone: Option<&'static str>,
    /// How the help shows the default.
    pub shown: Shown,
}

/// How the help shows a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As it is.
    Plain,
    /// In quotes.
    Quoted,
    /// In brackets, as a list.
    Listed,
}

/// Where the value of a flag goes.
pub trait Slot<T>: Sync {
    /// The type of the value.
    fn kind(&self) -> Kind;

    /// Reads `text` and stores it. A list is replaced by the `first` use of its flag and extended by others.
    ///
    /// # Errors
    /// The reason why `text` is no such value, in the words of the Go function that the kubelet reads it with.
    fn set(&self, values: &mut T, text: &str, first: bool) -> Result<(), String>;
}

/// A [`Slot`] for what is checked and then forgotten: flags that do nothing.
pub struct Unused<V>(PhantomData<fn() -> V>);

/// The slot that takes a `V` and forgets it.
pub const fn unused<V>() -> Unused<V> {
    Unused(PhantomData)
}

impl<T, V: FlagValue + Default> Slot<T> for Unused<V> {
    fn kind(&self) -> Kind {
        V::KIND
    }

    fn set(&self, _values: &mut T, text: &str, first: bool) -> Result<(), String> {
        V::default().set(text, first)
    }
}

/// A [`Slot`] that is a field of the values.
pub struct Field<T, V>(fn(&mut T) -> &mut V);

/// The slot for the field that `get` gives access to.
pub const fn field<T, V>(get: fn(&mut T) -> &mut V) -> Field<T, V> {
    Field(get)
}

impl<T, V: FlagValue> Slot<T> for Field<T, V> {
    fn kind(&self) -> Kind {
        V::KIND
    }

    fn set(&self, values: &mut T, text: &str, first: bool) -> Result<(), String> {
        (self.0)(values).set(text, first)
    }
}

impl<T> Flag<T> {
    /// The names as pflag writes them in errors: `-v, --v` or `--root-dir`.
    pub fn names(&self) -> String {
        match self.short {
            Some(letter) => format!("-{letter}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }

    /// The default as the help shows it; empty for the zero value of its type, which is left out, as with pflag.
    pub fn shown_default(&self) -> String {
        match (self.default, self.slot.kind().shown) {
            ("" | "0" | "0s" | "false", _) => String::new(),
            (text, Shown::Plain) => text.to_owned(),
            (text, Shown::Quoted) => format!("{text:?}"),
            (text, Shown::Listed) => format!("[{text}]"),
        }
    }

    /// What it does.
    pub fn effect(&self) -> Effect {
        self.field.and_then(config::field).map_or(self.effect, |row| row.effect)
    }

    /// The name of its value for the help, and the help text without backquotes.
    pub fn usage(&self) -> (&'static str, String) {
        let mut parts = self.help.splitn(3, '`');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(before), Some(name), Some(after)) => (name, format!("{before}{name}{after}")),
            _ => (self.slot.kind().name, self.help.to_owned()),
        }
    }
}
