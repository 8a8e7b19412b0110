//! The flags of the commands that look into one pod. Names, letters, types and defaults are kubectl's.

use kube_model::duration::GoDuration;

use super::{help, kubelet};
use crate::flag::{Field, Flag, field};

/// What was typed for `node-agent logs`, `exec` or `port-forward`.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each field is the flag of the same name")]
pub struct PodFlags {
    pub address: Vec<String>,
    pub container: String,
    pub follow: bool,
    pub help: bool,
    pub limit_bytes: i64,
    pub namespace: String,
    pub previous: bool,
    pub root_dir: String,
    pub since: GoDuration,
    pub since_time: String,
    pub stdin: bool,
    pub tail: i64,
    pub timestamps: bool,
    pub tty: bool,
}

const fn at<V>(get: fn(&mut PodFlags) -> &mut V) -> Field<PodFlags, V> {
    field(get)
}

const fn short(letter: char, flag: Flag<PodFlags>) -> Flag<PodFlags> {
    Flag { short: Some(letter), ..flag }
}

const ROOT_DIR: Flag<PodFlags> =
    kubelet("root-dir", "/var/lib/kubelet", &at(|f| &mut f.root_dir), "the --root-dir of the running agent");

const NAMESPACE: Flag<PodFlags> = short(
    'n',
    kubelet("namespace", "", &at(|f| &mut f.namespace), "`namespace` of the pod; empty looks in all of them"),
);

const CONTAINER: Flag<PodFlags> = short(
    'c',
    kubelet(
        "container",
        "",
        &at(|f| &mut f.container),
        "`name` of the container; empty for the one that the pod's annotation kubectl.kubernetes.io/default-container \
         names, else the first",
    ),
);

/// The flags of `node-agent logs`.
#[rustfmt::skip]
pub static LOGS: &[Flag<PodFlags>] = &[
    CONTAINER,
    short('f', kubelet("follow", "false", &at(|f| &mut f.follow), "go on until the container ends")),
    help(&at(|f| &mut f.help)),
    kubelet("limit-bytes", "0", &at(|f| &mut f.limit_bytes), "most `bytes` to show; 0 for no limit"),
    NAMESPACE,
    short('p', kubelet("previous", "false", &at(|f| &mut f.previous), "show the container's previous instance")),
    ROOT_DIR,
    kubelet("since", "0s", &at(|f| &mut f.since), "show what is younger than this: 5s, 2m, 3h"),
    kubelet("since-time", "", &at(|f| &mut f.since_time), "show what was written from this `time` on: 2026-11-23T12:00:00Z"),
    kubelet("tail", "-1", &at(|f| &mut f.tail), "show the last `lines`; -1 for all"),
    kubelet("timestamps", "false", &at(|f| &mut f.timestamps), "put its time before each line"),
];

/// The flags of `node-agent exec`.
#[rustfmt::skip]
pub static EXEC: &[Flag<PodFlags>] = &[
    CONTAINER,
    help(&at(|f| &mut f.help)),
    NAMESPACE,
    ROOT_DIR,
    short('i', kubelet("stdin", "false", &at(|f| &mut f.stdin), "pass stdin on to the command")),
    short('t', kubelet("tty", "false", &at(|f| &mut f.tty), "give the command this terminal; needs --stdin")),
];

/// The flags of `node-agent port-forward`.
#[rustfmt::skip]
pub static PORT_FORWARD: &[Flag<PodFlags>] = &[
    kubelet("address", "localhost", &at(|f| &mut f.address), "comma-separated `addresses` to listen on: IP addresses, or localhost"),
    help(&at(|f| &mut f.help)),
    NAMESPACE,
    ROOT_DIR,
];
