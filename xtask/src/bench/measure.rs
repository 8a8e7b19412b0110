//! The agent alone, beside bare CRI calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use testkit::env::{Agent, Containerd, Line, Run, succeed, target_dir};

use super::agent::{self, Launch};
use super::bare::Bare;
use super::report::Report;
use super::{Options, cluster, sources, trace, volumes};
use crate::{cargo, ui};

/// How many pods are started one after the other.
pub(super) const SINGLES: usize = 20;

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.sources {
        return sources::run();
    }
    if options.volumes && !options.cluster {
        return volumes::run();
    }
    let launch = match (&options.agent, &options.binary) {
        (Some(command), _) => Launch::foreign(command)?,
        (None, Some(path)) => Launch::ours(path.canonicalize()?),
        (None, None) => {
            ui::step("building the agent");
            Launch::ours(release_agent()?)
        }
    };
    let line: Line = options.containerd.into();
    let run = Run::new()?;
    let containerd = Containerd::start(&run, line)?;
    let mut report = Report::default();
    let measured = if options.cluster {
        cluster::measure(options, &launch, &run, &containerd, &mut report)
    } else {
        measure(options, &launch, &run, &containerd, &mut report)
    };
    // What was measured before a failure is worth seeing too.
    report.print();
    let file = save(&report, &launch, line, options, measured.is_ok())?;
    ui::say(format!("\nalso in {}", file.display()));
    measured
}

fn measure(
    options: &Options,
    launch: &Launch,
    run: &Arc<Run>,
    containerd: &Containerd,
    report: &mut Report,
) -> Result<()> {
    report.add("binary", "binary", launch.size()?, "MB").budget(25.0);
    let bare = Bare::new(containerd, run)?;

    ui::step(&format!("{SINGLES} pods one after the other, by bare CRI calls"));
    let log = trace::Mark::now(&containerd.log());
    bare.start(SINGLES, 1)?;
    let singles = log.traces()?;
    report.add("bareSingleP50", "bare calls, one pod alone, p50", singles.runtime(50), "ms");
    bare.remove_all()?;

    ui::step(&format!("{} pods at once, by bare CRI calls, 10 in parallel", options.pods));
    let log = trace::Mark::now(&containerd.log());
    let took = bare.start(options.pods, 10)?;
    report.add("bareStart", "bare calls, all pods started", took.as_secs_f64(), "s");
    report.add(
        "bareGapsP99",
        "bare calls, gaps between calls of a pod, p99",
        log.traces()?.own_share(99),
        "ms",
    );
    let took = bare.remove_all()?;
    report.add("bareDelete", "bare calls, all pods deleted", took.as_secs_f64(), "s");

    ui::step("the agent without pods");
    let (mut agent, ready) = launch.start(run, containerd)?;
    report.add("healthy", "from process start to healthy", ready.as_secs_f64() * 1e3, "ms");
    // Memory settles once what the start needed is given back.
    let idle = agent::watch(&agent, Duration::from_secs(5))?;
    report.add("rssNoPods", "resident, no pods", idle.resident_mib, "MiB").budget(15.0);

    ui::step(&format!("{SINGLES} pods one after the other, by the agent"));
    let log = trace::Mark::now(&containerd.log());
    for number in 0..SINGLES {
        agent::add_pods(&agent, &log, number..number + 1)?;
        bare.wait_running(number + 1)?;
    }
    let singles = log.traces()?;
    report.add("singleP50", "one pod alone, manifest to container started, p50", singles.total(50), "ms");
    report.add("singleNoticedP99", "from manifest to first call, p99", singles.noticed(99), "ms");
    report.add("singleGapsP99", "between calls, p99", singles.gaps(99), "ms");
    report.add("singleShareP50", "the agent's own share of it, p50", singles.own_share(50), "ms");
    report
        .add("singleShareP99", "the agent's own share of it, p99", singles.own_share(99), "ms")
        .budget(20.0);
    agent::remove_pods(&agent)?;
    bare.wait_gone()?;

    ui::step(&format!("{} pods at once, by the agent", options.pods));
    let before = agent::use_of(&agent)?;
    let log = trace::Mark::now(&containerd.log());
    let start = agent::add_pods(&agent, &log, 0..options.pods)?;
    bare.wait_running(options.pods)?;
    report.add("start", "all pods started", start.elapsed().as_secs_f64(), "s");
    let cpu = agent::use_of(&agent)?.cpu.saturating_sub(before.cpu);
    report.add("startCpu", "the agent's CPU for it", cpu.as_secs_f64(), "s").budget(0.8);
    let traces = log.traces()?;
    report.add("totalP50", "manifest to container started, p50", traces.total(50) / 1e3, "s");
    report.add("totalP99", "manifest to container started, p99", traces.total(99) / 1e3, "s");
    // No budget here: the runtime keeps all cores busy, so this is mostly waiting for one; compare it with the
    // same number of the bare calls.
    report.add("noticedP99", "from manifest to first call, p99", traces.noticed(99), "ms");
    report.add("gapsP99", "between calls of a pod, p99", traces.gaps(99), "ms");

    ui::step(&format!("{} s at rest", options.rest));
    agent::watch(&agent, Duration::from_secs(5))?;
    let rest = agent::watch(&agent, Duration::from_secs(options.rest))?;
    report.add("restCpu", "CPU at rest", rest.cpu_percent, "% of a core").budget(0.5);
    report.add("restSwitches", "context switches at rest", rest.switches_per_second, "/s");
    report.add("rss", "resident, with these pods", rest.resident_mib, "MiB").budget(30.0);
    report.add("rssPeak", "most ever resident", rest.resident_peak_mib, "MiB");

    ui::step("the agent killed and started again");
    let before = bare.containers()?;
    if let Some(synced) = launch.restart(&mut agent, options.pods)? {
        report
            .add(
                "synced",
                "from process start to every pod known and ready",
                synced.as_secs_f64() * 1e3,
                "ms",
            )
            .budget(300.0);
        report.add("restartCpu", "the agent's CPU for it", agent::use_of(&agent)?.cpu.as_secs_f64(), "s");
    }
    let same = bare.containers()?.iter().filter(|id| before.contains(*id)).count();
    report.add("adopted", "containers that went on", same as f64, &format!("of {}", before.len()));

    ui::step("all manifests removed");
    let start = agent::remove_pods(&agent)?;
    bare.wait_gone()?;
    report.add("delete", "all pods deleted", start.elapsed().as_secs_f64(), "s");
    Ok(())
}

/// Writes the numbers where the next run does not overwrite those of another agent, runtime or size.
fn save(report: &Report, launch: &Launch, line: Line, options: &Options, complete: bool) -> Result<PathBuf> {
    let dir = target_dir().join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let (pods, kind) = (
        options.pods,
        match (options.cluster, options.volumes) {
            (true, true) => "volumes-",
            (true, false) => "cluster-",
            (false, _) => "",
        },
    );
    let file = dir.join(format!("{}-{kind}containerd-{}-{pods}.json", launch.name(), line.name()));
    let value = json!({
        "agent": launch.name(),
        "containerd": line.name(),
        "pods": pods,
        "complete": complete,
        "numbers": report.json(),
    });
    fs::write(&file, format!("{value:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// A static pod that only sleeps.
pub(super) fn manifest(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 2\n  containers:\n    - name: pause\n      image: {}\n      imagePullPolicy: IfNotPresent\n",
        testkit::env::PAUSE
    )
}

pub(super) fn pod_name(number: usize) -> String {
    format!("bench-{number:04}")
}

/// The pid of an agent that has to run.
pub(super) fn pid(agent: &Agent) -> Result<u32> {
    agent.pid().context("the agent does not run")
}

/// The last part of a path, for names.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Builds the agent's release binary and returns its path.
fn release_agent() -> Result<PathBuf> {
    succeed(&mut cargo::cargo(["build", "--release", "--package", "node-agent"]))
        .context("cannot build the agent")?;
    target_dir().join("release/node-agent").canonicalize().context("the agent was built but is not in target")
}
