//! The help text of a command, laid out as the kubelet's: what it is, `Usage:`, then `Flags:` in two columns,
//! one line a flag, sorted by name.

use std::fmt::Write as _;

use crate::flag::{Flag, Standing};

/// The whole help of one command. `commands` are pairs of a subcommand and what it does.
pub(crate) fn render<T>(about: &str, usage: &[&str], commands: &[(&str, &str)], table: &[Flag<T>]) -> String {
    let mut out = format!("{about}\n\nUsage:\n");
    for line in usage {
        out.push_str(&format!("  {line}\n"));
    }
    if !commands.is_empty() {
        out.push_str("\nCommands:\n");
        let width = commands.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, what) in commands {
            let _infallible = writeln!(out, "  {name:width$}   {what}");
        }
    }
    out.push_str("\nFlags:\n");
    out.push_str(&flags(table));
    out
}

fn flags<T>(table: &[Flag<T>]) -> String {
    let mut rows: Vec<_> = table.iter().map(|flag| (flag.name, left(flag), right(flag))).collect();
    rows.sort_by_key(|row| row.0);
    let width = rows.iter().map(|(_, left, _)| left.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (_, left, right) in rows {
        let _infallible = writeln!(out, "{left:width$}   {right}");
    }
    out
}

fn left<T>(flag: &Flag<T>) -> String {
    let short = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
    match flag.usage().0 {
        "" => format!("  {short}--{}", flag.name),
        kind => format!("  {short}--{} {kind}", flag.name),
    }
}

fn right<T>(flag: &Flag<T>) -> String {
    let mut text = flag.usage().1;
    // What is left out is the zero value of its type, as pflag has it.
    if !matches!(flag.default, "" | "0" | "0s" | "false") {
        if flag.slot.kind().quoted {
            text.push_str(&format!(" (default {:?})", flag.default));
        } else {
            text.push_str(&format!(" (default {})", flag.default));
        }
    }
    match (flag.standing, flag.field) {
        (Standing::Kubelet, _) => {}
        (Standing::Deprecated, Some(field)) => {
            text.push_str(&format!(" (DEPRECATED: the configuration field is {field})"));
        }
        (Standing::Deprecated, None) => text.push_str(" (DEPRECATED)"),
        (Standing::Ours, _) => text.push_str(" (not a flag of the kubelet)"),
    }
    text
}
