//! Readers of `/proc`: who runs, whose child it is, what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;
use super::error::At;

/// A process that runs now.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// Start time in clock ticks since boot: with the pid it names one process for ever.
    pub(crate) started: u64,
    /// Empty for kernel threads and zombies.
    pub(crate) args: Vec<String>,
    pub(crate) zombie: bool,
}

/// All processes; those that end meanwhile are left out.
pub(crate) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(process).collect()
}

/// One process, when it still runs.
pub(crate) fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat_fields(&stat)?;
    let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let args = args.split(|b| *b == 0).filter(|a| !a.is_empty());
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        args: args.map(|a| String::from_utf8_lossy(a).into_owned()).collect(),
        zombie: *fields.first()? == "Z",
    })
}

/// The fields after the program's name, which may itself hold spaces and brackets: state, parent, ...
fn stat_fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(") ")?.1.split_whitespace().collect())
}

/// The given processes and all their descendants among `all`.
pub(crate) fn with_descendants(all: &[Process], roots: impl IntoIterator<Item = i32>) -> BTreeSet<i32> {
    let mut found: BTreeSet<i32> = roots.into_iter().collect();
    loop {
        let before = found.len();
        found.extend(all.iter().filter(|p| found.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>());
        if found.len() == before {
            return found;
        }
    }
}

/// Mount points below a folder, the innermost first.
pub(crate) fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut below: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .filter(|point| point.starts_with(folder))
        .collect();
    // Later mounts may cover earlier ones.
    below.reverse();
    below
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text + rest
}

/// What a process has used up to now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Voluntary and involuntary context switches by thread. A thread that ends takes its count with it, so
    /// compare thread by thread.
    pub context_switches: BTreeMap<i32, u64>,
    /// Resident memory in bytes.
    pub resident: u64,
    /// The most that was ever resident, in bytes.
    pub resident_peak: u64,
    /// Open files, sockets included.
    pub files: usize,
}

/// Reads a process' use of the machine.
///
/// # Errors
/// When the process is gone.
pub fn usage(pid: u32) -> Result<Usage, Error> {
    let root = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| fs::read_to_string(root.join(name)).at("read", root.join(name));
    let (stat, status) = (read("stat")?, read("status")?);
    let ticks =
        |at: usize| stat_fields(&stat).and_then(|f| f.get(at)?.parse::<u64>().ok()).unwrap_or_default();
    let mut context_switches = BTreeMap::new();
    for task in fs::read_dir(root.join("task")).at("read", root.join("task"))?.filter_map(Result::ok) {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let both =
            number(&status, "voluntary_ctxt_switches:") + number(&status, "nonvoluntary_ctxt_switches:");
        if let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) {
            context_switches.insert(id, both);
        }
    }
    let files = fs::read_dir(root.join("fd")).at("read", root.join("fd"))?.count();
    Ok(Usage {
        cpu: Duration::from_millis((ticks(11) + ticks(12)) * 1000 / rustix::param::clock_ticks_per_second()),
        context_switches,
        resident: number(&status, "VmRSS:") * 1024,
        resident_peak: number(&status, "VmHWM:") * 1024,
        files,
    })
}

/// The number on the line that starts with `key`, 0 without one.
fn number(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        assert_eq!(stat_fields("7 (a) b (c)) S 1 7").unwrap(), ["S", "1", "7"]);
    }

    #[test]
    fn mount_points_are_read_as_the_kernel_escapes_them() {
        assert_eq!(unescape(r"/tmp/a\040b\134c"), r"/tmp/a b\c");
        assert_eq!(unescape(r"/tmp/plain"), "/tmp/plain");
        assert_eq!(unescape(r"/odd\"), r"/odd\");
    }

    #[test]
    fn this_process_is_seen_with_its_parent_and_its_cost() {
        let me = process(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.parent > 0 && me.started > 0 && !me.zombie && !me.args.is_empty());
        let used = usage(std::process::id()).unwrap();
        assert!(used.resident > 0 && used.files > 0 && !used.context_switches.is_empty());
    }

    #[test]
    fn descendants_are_found_whatever_the_order_of_the_list() {
        let process = |pid, parent| Process { pid, parent, started: 1, args: Vec::new(), zombie: false };
        let all = [process(9, 8), process(8, 7), process(7, 1), process(5, 1)];
        assert_eq!(with_descendants(&all, [7]), BTreeSet::from([7, 8, 9]));
    }
}
