//! When each CRI call for a pod came and was answered, read from containerd's log. This costs the measured
//! processes nothing and works for any agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

/// A place in the log: what comes after it belongs to one measurement.
pub(super) struct Mark {
    log: PathBuf,
    from: usize,
    /// When each pod was asked for.
    wanted: std::cell::RefCell<BTreeMap<String, Timestamp>>,
}

impl Mark {
    pub(super) fn now(log: &Path) -> Self {
        let from = std::fs::metadata(log).map_or(0, |m| m.len() as usize);
        Self { log: log.to_owned(), from, wanted: std::cell::RefCell::default() }
    }

    /// Notes that this pod is wanted from now on.
    pub(super) fn want(&self, pod: &str) {
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        self.wanted.borrow_mut().insert(pod.to_owned(), now);
    }

    /// What the log says since the mark.
    pub(super) fn traces(&self) -> Result<Traces> {
        let log = std::fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        let text = String::from_utf8_lossy(log.get(self.from..).unwrap_or_default()).into_owned();
        let traces = parse(&text, &self.wanted.borrow());
        ensure!(
            !traces.0.is_empty(),
            "containerd's log tells of no complete pod start: {}",
            self.log.display()
        );
        Ok(traces)
    }
}

/// One pod's way from wanted to started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Trace {
    wanted: Option<Timestamp>,
    run: Option<Call>,
    create: Option<Call>,
    start: Option<Call>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    asked: Timestamp,
    answered: Timestamp,
}

impl Trace {
    /// From the manifest (or the first call, where there is none) to the answer to the last call.
    fn total(&self) -> Option<Duration> {
        between(self.wanted.unwrap_or(self.run?.asked), self.start?.answered)
    }

    /// From the manifest to the first call; nothing where there is no manifest.
    fn noticed(&self) -> Option<Duration> {
        let first = self.run?.asked;
        between(self.wanted.unwrap_or(first), first)
    }

    /// Between the answer to one of the three calls and the next of them.
    fn gaps(&self) -> Option<Duration> {
        let (run, create, start) = (self.run?, self.create?, self.start?);
        Some(between(run.answered, create.asked)? + between(create.answered, start.asked)?)
    }

    /// The part of the whole in which none of the three calls was under way.
    fn own_share(&self) -> Option<Duration> {
        Some(self.noticed()? + self.gaps()?)
    }
}

pub(super) fn between(from: Timestamp, to: Timestamp) -> Option<Duration> {
    Duration::try_from(to.duration_since(from)).ok()
}

/// Complete starts by the pod's name.
pub(super) struct Traces(BTreeMap<String, Trace>);

impl Traces {
    /// When the runtime told of each pod's container that it runs.
    pub(super) fn started(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.0.iter().filter_map(|(pod, trace)| Some((pod.as_str(), trace.start?.answered)))
    }

    /// Percentile of the whole time, in ms.
    pub(super) fn total(&self, percent: usize) -> f64 {
        percentile(self.0.values().filter_map(Trace::total), percent)
    }

    /// Percentile of the time from a manifest to the first call, in ms.
    pub(super) fn noticed(&self, percent: usize) -> f64 {
        percentile(self.0.values().filter_map(Trace::noticed), percent)
    }

    /// Percentile of the time between calls, in ms.
    pub(super) fn gaps(&self, percent: usize) -> f64 {
        percentile(self.0.values().filter_map(Trace::gaps), percent)
    }

    /// Percentile of the time that is not the runtime's, in ms.
    pub(super) fn own_share(&self, percent: usize) -> f64 {
        percentile(self.0.values().filter_map(Trace::own_share), percent)
    }

    /// Percentile of the runtime's time, in ms.
    pub(super) fn runtime(&self, percent: usize) -> f64 {
        percentile(self.0.values().filter_map(|t| t.total()?.checked_sub(t.own_share()?)), percent)
    }
}

/// The nearest rank, in ms: a value that was measured.
pub(super) fn percentile(values: impl Iterator<Item = Duration>, percent: usize) -> f64 {
    let mut sorted: Vec<Duration> = values.collect();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(f64::NAN, |value| value.as_secs_f64() * 1e3)
}

/// Lines look like `time="..." level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:web,Uid:..."`, with
/// quotes inside the message escaped, and the same with ` returns ...` once it is answered.
fn parse(log: &str, wanted: &BTreeMap<String, Timestamp>) -> Traces {
    let mut asked: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut traces: BTreeMap<String, Trace> = BTreeMap::new();
    let mut pod_of_sandbox: BTreeMap<String, String> = BTreeMap::new();
    let mut pod_of_container: BTreeMap<String, String> = BTreeMap::new();
    for line in log.lines() {
        let Some((time, message)) = split(line) else { continue };
        let (call, pod, answered) = if message.starts_with("RunPodSandbox for ") {
            let Some(pod) = after(&message, "{Name:", ",") else { continue };
            let sandbox = after(&message, "returns sandbox id \"", "\"");
            if let Some(sandbox) = &sandbox {
                pod_of_sandbox.insert(sandbox.clone(), pod.clone());
            }
            ("run", pod, sandbox.is_some())
        } else if message.starts_with("CreateContainer within sandbox ") {
            let sandbox = after(&message, "within sandbox \"", "\"");
            let Some(pod) = sandbox.and_then(|s| pod_of_sandbox.get(&s).cloned()) else { continue };
            let container = after(&message, "returns container id \"", "\"");
            if let Some(container) = &container {
                pod_of_container.insert(container.clone(), pod.clone());
            }
            ("create", pod, container.is_some())
        } else if message.starts_with("StartContainer for ") {
            let container = after(&message, "for \"", "\"");
            let Some(pod) = container.and_then(|c| pod_of_container.get(&c).cloned()) else { continue };
            ("start", pod, message.ends_with("returns successfully"))
        } else {
            continue;
        };
        let key = format!("{call} {pod}");
        if !answered {
            asked.insert(key, time);
        } else if let Some(asked) = asked.remove(&key) {
            let trace = traces.entry(pod.clone()).or_default();
            let done = Some(Call { asked, answered: time });
            match call {
                "run" => trace.run = done,
                "create" => trace.create = done,
                _ => trace.start = done,
            }
        }
    }
    for (pod, trace) in &mut traces {
        // A static pod's name ends in the node's.
        trace.wanted = wanted.get(pod.strip_suffix("-node1").unwrap_or(pod)).copied();
    }
    traces.retain(|_, trace| trace.own_share().is_some());
    Traces(traces)
}

fn split(line: &str) -> Option<(Timestamp, String)> {
    let time = after(line, "time=\"", "\"")?.parse().ok()?;
    let message = line.split_once("msg=\"")?.1.strip_suffix('"')?;
    Some((time, message.replace("\\\"", "\"")))
}

/// What stands between two marks.
fn after(text: &str, mark: &str, end: &str) -> Option<String> {
    Some(text.split_once(mark)?.1.split_once(end)?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"
time="2026-11-23T14:25:00.100000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:web-node1,Uid:u,Namespace:default,Attempt:0,}"
time="2026-11-23T14:25:00.150000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:slow-node1,Uid:v,Namespace:default,Attempt:0,}"
time="2026-11-23T14:25:00.300000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:web-node1,Uid:u,Namespace:default,Attempt:0,} returns sandbox id \"s1\""
time="2026-11-23T14:25:00.305000000Z" level=info msg="CreateContainer within sandbox \"s1\" for container &ContainerMetadata{Name:app,Attempt:0,}"
time="2026-11-23T14:25:00.350000000Z" level=info msg="something else"
time="2026-11-23T14:25:00.400000000Z" level=info msg="CreateContainer within sandbox \"s1\" for &ContainerMetadata{Name:app,Attempt:0,} returns container id \"c1\""
time="2026-11-23T14:25:00.402000000Z" level=info msg="StartContainer for \"c1\""
time="2026-11-23T14:25:00.500000000Z" level=info msg="StartContainer for \"c1\" returns successfully"
"#;

    #[test]
    fn the_own_share_is_what_no_call_was_under_way_for() {
        let wanted = BTreeMap::from([("web".to_owned(), "2026-11-23T14:25:00.090Z".parse().unwrap())]);
        let traces = parse(LOG, &wanted);
        assert_eq!(traces.0.len(), 1, "a pod that has not started is no start");
        assert_eq!(traces.0["web-node1"].noticed().unwrap(), Duration::from_millis(10));
        assert_eq!(traces.0["web-node1"].gaps().unwrap(), Duration::from_millis(5 + 2));
        assert_eq!(traces.0["web-node1"].own_share().unwrap(), Duration::from_millis(10 + 5 + 2));
        assert_eq!(traces.0["web-node1"].total().unwrap(), Duration::from_millis(410));
        let started: Vec<_> = traces.started().map(|(pod, at)| (pod, at.to_string())).collect();
        assert_eq!(started, [("web-node1", "2026-11-23T14:25:00.5Z".to_owned())]);
        assert!((traces.runtime(50) - 393.0).abs() < 1e-6);
    }

    #[test]
    fn without_a_manifest_the_first_call_counts() {
        let traces = parse(LOG, &BTreeMap::new());
        assert_eq!(traces.0["web-node1"].own_share().unwrap(), Duration::from_millis(7));
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values = || (1..=10).map(Duration::from_millis);
        assert_eq!(percentile(values(), 50), 5.0);
        assert_eq!(percentile(values(), 99), 10.0);
        assert_eq!(percentile(values().take(1), 50), 1.0);
        assert!(percentile(std::iter::empty(), 50).is_nan());
    }
}
