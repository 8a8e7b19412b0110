//! pflag's grammar over a table of flags.

use std::collections::BTreeSet;

use crate::error::UsageError;
use crate::flag::Flag;
use crate::secret::{MASK, is_secret};

/// A command line, read with one table.
#[derive(Clone)]
pub(crate) struct Parsed<T: 'static> {
    /// The typed values: defaults, overwritten by what was given.
    pub(crate) values: T,
    /// Each use of a flag with its text, in the order of the command line.
    pub(crate) uses: Vec<(&'static Flag<T>, String)>,
    /// The words that belong to no flag.
    pub(crate) words: Vec<Word>,
    /// How many of the words stand before `--`, if that is there.
    pub(crate) before_dashes: Option<usize>,
}

/// A word that belongs to no flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// The flag right before it that takes no separate value: `--register-node false` is a common slip.
    pub(crate) after: Option<&'static str>,
}

/// The values of `table` when nothing is given.
///
/// # Errors
/// When a default in the table does not fit its flag's type; a test over each table shows that none does.
pub(crate) fn defaults<T: Default>(table: &[Flag<T>]) -> Result<T, UsageError> {
    let mut values = T::default();
    for flag in table.iter().filter(|flag| !flag.default.is_empty()) {
        set(flag, &mut values, flag.default, true)?;
    }
    Ok(values)
}

/// Reads `args`, which do not include the program's name. The last use of a flag wins; lists add up.
pub(crate) fn parse<T: Default>(
    table: &'static [Flag<T>],
    args: impl IntoIterator<Item = String>,
) -> Result<Parsed<T>, UsageError> {
    let mut parsed =
        Parsed { values: defaults(table)?, uses: Vec::new(), words: Vec::new(), before_dashes: None };
    let mut args = args.into_iter();
    let mut after = None;
    while let Some(arg) = args.next() {
        if arg == "--" {
            parsed.before_dashes = Some(parsed.words.len());
            parsed.words.extend(args.map(|text| Word { text, after: None }));
            break;
        }
        after = if let Some(long) = arg.strip_prefix("--") {
            parsed.long(table, &arg, long, &mut args)?
        } else if let Some(group) = arg.strip_prefix('-').filter(|group| !group.is_empty()) {
            parsed.group(table, group, &mut args)?;
            None
        } else {
            parsed.words.push(Word { text: arg, after });
            None
        };
    }
    Ok(parsed)
}

impl<T> Parsed<T> {
    /// `--name`, `--name=value` or `--name value`; answers the name when the flag took no value.
    fn long(
        &mut self,
        table: &'static [Flag<T>],
        arg: &str,
        long: &str,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<Option<&'static str>, UsageError> {
        if long.starts_with(['-', '=']) {
            return Err(UsageError::BadSyntax(arg.to_owned()));
        }
        let (typed, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let name = typed.replace('_', "-");
        let flag = table
            .iter()
            .find(|flag| flag.name == name)
            .ok_or_else(|| UsageError::UnknownFlag(typed.to_owned()))?;
        let kind = flag.slot.kind();
        if let (None, Some(alone)) = (&value, kind.alone) {
            self.give(flag, alone.to_owned())?;
            return Ok(Some(flag.name));
        }
        let value = value.or_else(|| rest.next()).ok_or_else(|| UsageError::MissingValue {
            flag: format!("--{}", flag.name),
            expected: kind.expected,
        })?;
        self.give(flag, value)?;
        Ok(None)
    }

    /// Letters behind one dash: `-v4`, `-v=4`, `-v 4`, `-hv4`.
    fn group(
        &mut self,
        table: &'static [Flag<T>],
        group: &str,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), UsageError> {
        let mut letters = group.chars();
        while let Some(letter) = letters.next() {
            let flag = table
                .iter()
                .find(|flag| flag.short == Some(letter))
                .ok_or_else(|| UsageError::UnknownShorthand { letter, group: group.to_owned() })?;
            let kind = flag.slot.kind();
            let tail = letters.as_str();
            let value = match (tail.strip_prefix('='), kind.alone) {
                (Some(value), _) if !value.is_empty() => value.to_owned(),
                (_, Some(alone)) => {
                    self.give(flag, alone.to_owned())?;
                    continue;
                }
                _ if !tail.is_empty() => tail.to_owned(),
                _ => rest.next().ok_or_else(|| UsageError::MissingValue {
                    flag: format!("{letter:?} in -{group}"),
                    expected: kind.expected,
                })?,
            };
            return self.give(flag, value);
        }
        Ok(())
    }

    fn give(&mut self, flag: &'static Flag<T>, text: String) -> Result<(), UsageError> {
        let first = self.uses.iter().all(|(other, _)| other.name != flag.name);
        set(flag, &mut self.values, &text, first)?;
        self.uses.push((flag, text));
        Ok(())
    }

    /// Sets `values` as the command line says, as if it was read with them as the defaults.
    ///
    /// # Errors
    /// None that reading the command line did not have.
    pub(crate) fn apply(&self, values: &mut T) -> Result<(), UsageError> {
        let mut seen = BTreeSet::new();
        self.uses.iter().try_for_each(|(flag, text)| set(flag, values, text, seen.insert(flag.name)))
    }
}

fn set<T>(flag: &Flag<T>, values: &mut T, text: &str, first: bool) -> Result<(), UsageError> {
    flag.slot.set(values, text, first).map_err(|reason| UsageError::BadValue {
        value: if flag.field.is_some_and(is_secret) { MASK } else { text }.to_owned(),
        flag: flag.names(),
        reason,
    })
}

#[cfg(test)]
mod tests;
