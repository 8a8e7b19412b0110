//! The agent's manual page, made from the tables of commands and flags.

use std::fmt::Write as _;

use crate::command::COMMANDS;
use crate::help::about_flag;
use crate::table::AGENT;

/// The page `node-agent(8)`, for `man`.
pub fn man_page() -> String {
    let mut out = String::from(".TH NODE-AGENT 8\n.SH NAME\nnode-agent \\- the Kubernetes node agent\n");
    out.push_str(
        ".SH SYNOPSIS\n.B node-agent\n.RI [ flags ]\n.br\n.B node-agent\n.I command\n.RI [ flags ]\n",
    );
    out.push_str(".SH DESCRIPTION\n");
    paragraph(
        &mut out,
        "Takes pods from an API server, manifest files, a URL and a pod API of its own, and keeps their containers running \
         through a CRI runtime. Its flags and its configuration are those of the kubelet.",
    );
    out.push_str(".SH COMMANDS\n");
    for (name, what) in COMMANDS {
        entry(&mut out, name, "", what);
    }
    out.push_str(".SH FLAGS\n");
    let mut flags: Vec<_> = AGENT.iter().collect();
    flags.sort_by_key(|flag| flag.name);
    for flag in flags {
        let short = flag.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
        entry(&mut out, &format!("{short}--{}", flag.name), flag.usage().0, &about_flag(flag));
    }
    out.push_str(".SH FILES\n");
    entry(&mut out, "/var/lib/kubelet", "", "What the agent keeps, unless --root-dir says otherwise.");
    out.push_str(".SH SIGNALS\n");
    entry(&mut out, "SIGTERM", "", "Ends the agent; pods go on running.");
    entry(&mut out, "SIGHUP", "", "Reads the configuration again.");
    out
}

fn entry(out: &mut String, name: &str, value: &str, text: &str) {
    let _infallible = writeln!(out, ".TP\n.BI \"{} \" \"{}\"", escaped(name), escaped(value));
    paragraph(out, text);
}

fn paragraph(out: &mut String, text: &str) {
    // A line of the text must not look like a request.
    let guard = if text.starts_with(['.', '\'']) { "\\&" } else { "" };
    let _infallible = writeln!(out, "{guard}{}", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_each_flag_and_command_and_no_strange_request() {
        let page = man_page();
        for flag in AGENT {
            assert!(page.contains(&escaped(&format!("--{}", flag.name))), "{}", flag.name);
        }
        for (name, _) in COMMANDS {
            assert!(page.contains(&format!("\"{} \"", escaped(name))), "{name}");
        }
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            let request = line.split(' ').next().unwrap_or_default();
            assert!([".TH", ".SH", ".TP", ".B", ".BI", ".RI", ".I", ".br"].contains(&request), "{line}");
        }
    }
}
