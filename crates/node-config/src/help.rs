//! The help text of a command, laid out as the kubelet's: what it is, `Usage:`, then `Flags:` in two columns,
//! sorted by name; wrapped, as the kubelet's only pretends to be.

use std::fmt::Write as _;

use crate::config::Effect;
use crate::flag::{Flag, Standing, WITHOUT_EFFECT};

/// The width that lines are wrapped at.
const WIDTH: usize = 120;

/// What the help of a command says beside its flags.
pub(crate) struct Help {
    /// What it does.
    pub(crate) about: &'static str,
    /// How it is called.
    pub(crate) usage: &'static [&'static str],
    /// Pairs of a subcommand and what it does.
    pub(crate) commands: &'static [(&'static str, &'static str)],
}

impl Help {
    /// The whole help of the command, whose flags are those of `table`.
    pub(crate) fn render<T>(&self, table: &[Flag<T>]) -> String {
        let mut out = wrap(self.about, WIDTH).join("\n");
        out.push_str("\n\nUsage:\n");
        for line in self.usage {
            let _infallible = writeln!(out, "  {line}");
        }
        if !self.commands.is_empty() {
            out.push_str("\nCommands:\n");
            let width = self.commands.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, what) in self.commands {
                let _infallible = writeln!(out, "  {name:width$}   {what}");
            }
        }
        out.push_str("\nFlags:\n");
        out.push_str(&flags(table));
        out
    }
}

fn flags<T>(table: &[Flag<T>]) -> String {
    let mut rows: Vec<_> = table.iter().map(|flag| (flag.name, left(flag), about_flag(flag))).collect();
    rows.sort_by_key(|row| row.0);
    let width = rows.iter().map(|(_, left, _)| left.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (_, left, right) in rows {
        let mut left = left.as_str();
        for line in wrap(&right, WIDTH.saturating_sub(width + 3)) {
            let _infallible = writeln!(out, "{left:width$}   {line}");
            left = "";
        }
    }
    out
}

/// Breaks `text` at blanks into lines of at most `width` bytes; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn left<T>(flag: &Flag<T>) -> String {
    let short = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
    match flag.usage().0 {
        "" => format!("  {short}--{}", flag.name),
        kind => format!("  {short}--{} {kind}", flag.name),
    }
}

/// What a flag is for, what it is by default, and what is to be known of it.
pub(crate) fn about_flag<T>(flag: &Flag<T>) -> String {
    let mut text = flag.usage().1;
    let default = flag.shown_default();
    if !default.is_empty() {
        text.push_str(&format!(" (default {default})"));
    }
    match flag.effect() {
        Effect::Done => {}
        Effect::Partly(missing) => text.push_str(&format!(" (in part: {missing})")),
        Effect::NotYet if flag.help == WITHOUT_EFFECT => {}
        Effect::NotYet => text.push_str(" (without effect yet)"),
        Effect::Nothing => text.push_str(" (without effect)"),
    }
    match (flag.standing, flag.field) {
        (Standing::Kubelet, _) => {}
        (Standing::Deprecated, Some(field)) => {
            text.push_str(&format!(" (DEPRECATED: use {field})"));
        }
        (Standing::Deprecated, None) if flag.instead.is_empty() => text.push_str(" (DEPRECATED)"),
        (Standing::Deprecated, None) => text.push_str(&format!(" (DEPRECATED: {})", flag.instead)),
        (Standing::Ours, _) => text.push_str(" (not a flag of the kubelet)"),
    }
    text
}
