//! Names of kernel parameters and the namespace that each belongs to.
//! Rule: upstream `component-helpers/node/util/sysctl`.

use std::fmt;

/// A kernel namespace that has parameters of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Inter-process communication.
    Ipc,
    /// Network.
    Net,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        })
    }
}

/// The name with dots between its parts. Where it is written with slashes, dots belong to the parts.
pub fn normalize(name: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        c => c,
    };
    match name.find(['.', '/']).map(|i| name.as_bytes()[i]) {
        Some(b'/') => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}

/// What a pattern of names stands for: one [normalized](normalize) name, or with `*` in it (`true`) all that begin with
/// what is before that.
pub fn pattern(text: &str) -> (String, bool) {
    let name = normalize(text);
    match name.split_once('*') {
        Some((beginning, _)) => (beginning.to_owned(), true),
        None => (name, false),
    }
}

/// The namespace of a [normalized](normalize) name, or of what many begin with (`kernel.shm`); `None`: the parameter
/// is the node's, as far as is known.
pub fn namespace(name: &str) -> Option<Namespace> {
    match name {
        "kernel.sem"
        | "kernel.shm"
        | "kernel.shmall"
        | "kernel.shmmax"
        | "kernel.shmmni"
        | "kernel.msg"
        | "kernel.shm_rmid_forced"
        | "kernel.msgmax"
        | "kernel.msgmnb"
        | "kernel.msgmni" => Some(Namespace::Ipc),
        _ if name.starts_with("net.") => Some(Namespace::Net),
        _ if name.starts_with("fs.mqueue.") => Some(Namespace::Ipc),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_with_dots() {
        for (name, want) in [
            ("net.ipv4.tcp_syncookies", "net.ipv4.tcp_syncookies"),
            ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding"),
        ] {
            assert_eq!(normalize(name), want);
        }
    }

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        for (text, name, begins) in [
            ("net.core.somaxconn", "net.core.somaxconn", false),
            ("net/core/*", "net.core.", true),
            ("kernel.msg*", "kernel.msg", true),
            ("*", "", true),
        ] {
            assert_eq!(pattern(text), (name.to_owned(), begins));
        }
    }

    #[test]
    fn only_what_is_known_to_be_namespaced_has_a_namespace() {
        for (name, want) in [
            ("kernel.msgmax", "IPC"),
            ("kernel.shm", "IPC"),
            ("fs.mqueue.msg_max", "IPC"),
            ("net.core.somaxconn", "Net"),
            ("kernel.shmx", ""),
            ("kernel.panic", ""),
            ("net", ""),
        ] {
            assert_eq!(namespace(name).map(|n| n.to_string()).unwrap_or_default(), want, "{name}");
        }
    }
}
