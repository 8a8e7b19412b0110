//! The agent that is measured: ours, or another one with the same flags.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::env::{Agent, AgentOptions, Containerd, Run, Usage, until, until_every, usage};

use super::trace::Mark;
use super::{file_name, manifest, pid, pod_name};

/// What to run.
pub(super) struct Launch {
    binary: PathBuf,
    args: Vec<String>,
    ours: bool,
}

impl Launch {
    pub(super) fn ours(binary: PathBuf) -> Self {
        Self { binary, args: Vec::new(), ours: true }
    }

    /// Another agent: a program and its own flags, separated by spaces.
    pub(super) fn foreign(command: &str) -> Result<Self> {
        let mut words = command.split_whitespace().map(str::to_owned);
        let binary = words.next().context("--agent is empty")?;
        Ok(Self { binary: PathBuf::from(binary), args: words.collect(), ours: false })
    }

    pub(super) fn name(&self) -> String {
        file_name(&self.binary)
    }

    /// Size of the program in MB.
    pub(super) fn size(&self) -> Result<f64> {
        let metadata =
            fs::metadata(&self.binary).with_context(|| format!("no agent at {}", self.binary.display()))?;
        Ok(metadata.len() as f64 / 1e6)
    }

    /// Starts it without pods; returns how long it took until it was healthy.
    pub(super) fn start(&self, run: &Arc<Run>, containerd: &Containerd) -> Result<(Agent, Duration)> {
        self.start_with(run, containerd, "agent", &[])
    }

    /// The same with a folder of this name and with more flags.
    pub(super) fn start_with(
        &self,
        run: &Arc<Run>,
        containerd: &Containerd,
        name: &str,
        args: &[String],
    ) -> Result<(Agent, Duration)> {
        let args = self.args.iter().chain(args).cloned();
        let mut options = AgentOptions::new(&self.binary, &containerd.endpoint()).name(name).args(args);
        if !self.ours {
            options = options.kubelet_flags_only();
        }
        let begin = Instant::now();
        let agent = Agent::start(run, options)?;
        Ok((agent, begin.elapsed()))
    }

    /// Kills it and starts it again; returns how long it took until it knew every pod as ready. Another agent
    /// cannot be asked, so for it only health is waited for.
    pub(super) fn restart(&self, agent: &mut Agent, pods: usize) -> Result<Option<Duration>> {
        agent.kill9();
        let begin = Instant::now();
        agent.start_again()?;
        if !self.ours {
            agent.wait_healthy()?;
            return Ok(None);
        }
        until("every pod is ready again", Duration::from_secs(60), || {
            let view = agent.pods().map_err(|e| e.to_string())?;
            match ready(&view) {
                count if count == pods => Ok(()),
                count => Err(format!("{count} of {pods} are")),
            }
        })?;
        Ok(Some(begin.elapsed()))
    }
}

/// How many pods of the view are ready.
fn ready(view: &Value) -> usize {
    let pods = view["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    pods.iter().filter(is_ready).count()
}

/// Puts manifests in place and notes when; returns the time of the first.
pub(super) fn add_pods(agent: &Agent, log: &Mark, numbers: Range<usize>) -> Result<Instant> {
    let begin = Instant::now();
    for name in numbers.map(pod_name) {
        log.want(&name);
        agent.write_manifest(&format!("{name}.yaml"), &manifest(&name))?;
    }
    Ok(begin)
}

/// Removes every manifest; returns when it began.
pub(super) fn remove_pods(agent: &Agent) -> Result<Instant> {
    let begin = Instant::now();
    let folder = agent.manifests();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(begin)
}

/// What the agent has used up to now.
pub(super) fn use_of(agent: &Agent) -> Result<Usage> {
    Ok(usage(pid(agent)?)?)
}

/// What the agent used over some time.
pub(super) struct Rest {
    pub(super) cpu_percent: f64,
    pub(super) switches_per_second: f64,
    pub(super) resident_mib: f64,
    pub(super) resident_peak_mib: f64,
}

/// Lets the agent be for so long and looks what it used.
pub(super) fn watch(agent: &Agent, time: Duration) -> Result<Rest> {
    const MIB: f64 = 1024.0 * 1024.0;
    let (begin, first) = (Instant::now(), use_of(agent)?);
    let (mut last, mut switches) = (first.clone(), 0);
    // Often enough that hardly a thread ends unseen, and all of it is work of this process, not the agent's.
    until_every(Duration::from_millis(100), "the time is over", time * 2, || {
        let now = use_of(agent).map_err(|e| format!("{e:#}"))?;
        switches += more_switches(&last, &now);
        last = now;
        if begin.elapsed() >= time { Ok(()) } else { Err("it is not".to_owned()) }
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Rest {
        cpu_percent: last.cpu.saturating_sub(first.cpu).as_secs_f64() / seconds * 100.0,
        switches_per_second: switches as f64 / seconds,
        resident_mib: last.resident as f64 / MIB,
        resident_peak_mib: last.resident_peak as f64 / MIB,
    })
}

/// Context switches between two looks.
pub(super) fn more_switches(before: &Usage, after: &Usage) -> u64 {
    let more = |(id, count): (&i32, &u64)| {
        count.saturating_sub(before.context_switches.get(id).copied().unwrap_or(0))
    };
    after.context_switches.iter().map(more).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_thread_that_ends_takes_nothing_from_the_others() {
        let used = |threads: &[(i32, u64)]| Usage {
            cpu: Duration::ZERO,
            context_switches: BTreeMap::from_iter(threads.iter().copied()),
            resident: 0,
            resident_peak: 0,
            files: 0,
        };
        assert_eq!(more_switches(&used(&[(1, 10), (2, 500)]), &used(&[(1, 13), (3, 4)])), 7);
    }
}
