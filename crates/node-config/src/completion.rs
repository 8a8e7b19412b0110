//! Scripts that complete commands and flags, made from the tables of flags.

use std::fmt::Write as _;

use crate::flag::Flag;
use crate::table::{AGENT, EXEC, EXPLAIN, LOGS, PODS, PORT_FORWARD, SOURCES};

/// A shell that there is a script for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            _ => None,
        }
    }
}

/// A flag as the scripts need it.
struct Entry {
    name: &'static str,
    short: Option<char>,
    about: String,
    /// Whether a value must follow, and may be a file.
    value: bool,
}

fn entries<T>(table: &'static [Flag<T>]) -> Vec<Entry> {
    let entry = |flag: &'static Flag<T>| Entry {
        name: flag.name,
        short: flag.short,
        about: flag.usage().1,
        value: flag.slot.kind().alone.is_none(),
    };
    let mut entries: Vec<_> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.name);
    entries
}

/// The script. `commands` are pairs of a subcommand and what it does.
pub(crate) fn script(shell: Shell, commands: &[(&str, &str)]) -> String {
    // `config` takes the agent's own flags.
    let tables = [
        ("pods", entries(PODS)),
        ("explain", entries(EXPLAIN)),
        ("logs", entries(LOGS)),
        ("exec", entries(EXEC)),
        ("port-forward", entries(PORT_FORWARD)),
        ("sources", entries(SOURCES)),
        ("", entries(AGENT)),
    ];
    let mut out = String::new();
    match shell {
        Shell::Bash => bash(&mut out, commands, &tables),
        Shell::Zsh => zsh(&mut out, commands, &tables),
        Shell::Fish => fish(&mut out, commands, &tables),
    }
    out
}

type Tables = [(&'static str, Vec<Entry>)];

fn names(commands: &[(&str, &str)]) -> String {
    commands.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

fn bash(out: &mut String, commands: &[(&str, &str)], tables: &Tables) {
    out.push_str(
        "_node_agent() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words\n  case ${COMP_WORDS[1]} in\n",
    );
    out.push_str("    completion) words='bash zsh fish' ;;\n");
    for (command, flags) in tables {
        let pattern = if command.is_empty() { "*" } else { command };
        let words: Vec<_> = flags
            .iter()
            .map(|flag| format!("--{}{}", flag.name, if flag.value { "=" } else { "" }))
            .collect();
        let _infallible = writeln!(out, "    {pattern}) words='{}' ;;", words.join(" "));
    }
    let _infallible = write!(
        out,
        "  esac\n  if [[ $COMP_CWORD == 1 && $cur != -* ]]; then words='{}'; fi\n  \
         COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n  \
         if [[ ${{COMPREPLY[0]}} == *= ]]; then compopt -o nospace; fi\n}}\n\
         complete -o default -F _node_agent node-agent\n",
        names(commands)
    );
}

fn zsh(out: &mut String, commands: &[(&str, &str)], tables: &Tables) {
    out.push_str("#compdef node-agent\n_node_agent() {\n  local -a commands flags\n  commands=(\n");
    for (name, about) in commands {
        let _infallible = writeln!(out, "    {}", single(&format!("{name}:{about}")));
    }
    out.push_str("  )\n  case $words[2] in\n    completion) _values shell bash zsh fish; return ;;\n");
    for (command, flags) in tables {
        let pattern = if command.is_empty() { "*" } else { command };
        let _infallible = writeln!(out, "    {pattern}) flags=(");
        for flag in flags {
            let about = flag.about.replace(['[', ']'], "").replace(':', "\\:");
            let value = if flag.value { ":value:_files" } else { "" };
            let equals = if flag.value { "=" } else { "" };
            let spec = single(&format!("--{}{equals}[{about}]{value}", flag.name));
            let _infallible = writeln!(out, "      {spec}");
        }
        out.push_str("    ) ;;\n");
    }
    out.push_str(
        "  esac\n  if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then _describe command commands\n  \
         else _arguments $flags; fi\n}\ncompdef _node_agent node-agent\n",
    );
}

fn fish(out: &mut String, commands: &[(&str, &str)], tables: &Tables) {
    for (name, about) in commands {
        let _infallible = writeln!(
            out,
            "complete -c node-agent -n __fish_use_subcommand -f -a {name} -d {}",
            single(about)
        );
    }
    out.push_str(
        "complete -c node-agent -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n",
    );
    for (command, flags) in tables {
        let when = if command.is_empty() {
            let others: Vec<_> = tables.iter().map(|(command, _)| *command).collect();
            format!("not __fish_seen_subcommand_from {}completion", others.join(" "))
        } else {
            format!("__fish_seen_subcommand_from {command}")
        };
        for flag in flags {
            let short = flag.short.map_or(String::new(), |letter| {
                // pflag's `-v` and `--v` are one flag; fish calls only long ones `-l`.
                format!(" -s {letter}")
            });
            let value = if flag.value { " -r" } else { "" };
            let _infallible = writeln!(
                out,
                "complete -c node-agent -n '{when}'{short} -l {}{value} -d {}",
                flag.name,
                single(&flag.about)
            );
        }
    }
}

/// In single quotes, for any of the shells.
fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_has_each_flag_and_command() {
        let commands = [("pods", "it's all"), ("completion", "this")];
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell, &commands);
            for flag in AGENT {
                let (dashed, long) = (format!("--{}", flag.name), format!("-l {} ", flag.name));
                assert!(script.contains(&dashed) || script.contains(&long), "{shell:?} --{}", flag.name);
            }
            assert!(script.contains("pods") && script.contains("bash"), "{shell:?}");
        }
        assert!(script(Shell::Fish, &commands).contains("-d 'it'\\''s all'"));
    }
}
