//! The steps of the demo: what is done, and what must be seen then.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testkit::env::{container_status, is_ready, pod};

use super::play::Step;
use super::stage::{Stage, container_id, example};

/// In this order.
pub(super) const STEPS: [Step<Stage>; 9] = [
    Step {
        title: "the web server gets ready",
        tells: "web.yaml has a readiness and a liveness probe over HTTP",
        act: web_gets_ready,
    },
    Step { title: "the job ends", tells: "job.yaml has restartPolicy Never and exits with 0", act: job_ends },
    Step {
        title: "the init container comes first",
        tells: "with-init.yaml starts its app only after its init container has ended",
        act: init_comes_first,
    },
    Step {
        title: "the crash loop is slowed down",
        tells: "crash-loop.yaml always exits with 3",
        act: crash_loop_backs_off,
    },
    Step {
        title: "a failed liveness probe restarts the container",
        tells: "removing /www/healthz in the web server's container",
        act: probe_file_removed,
    },
    Step {
        title: "an edited manifest replaces the pod",
        tells: "web.yaml now says version 2",
        act: manifest_edited,
    },
    Step {
        title: "a broken manifest is an error, and the pod goes on",
        tells: "web.yaml now has a line that is not YAML; afterwards it is put right",
        act: manifest_broken,
    },
    Step {
        title: "a removed manifest takes its pod away",
        tells: "removing with-init.yaml",
        act: manifest_removed,
    },
    Step {
        title: "the agent is killed and comes back without touching a container",
        tells: "kill -9, then the same command line again",
        act: agent_killed,
    },
];

fn web_gets_ready(stage: &mut Stage) -> Result<String> {
    stage.wait("web is ready", |view| {
        is_ready(view, "web").then_some(()).ok_or_else(|| not_ready(view, "web"))
    })?;
    let page = stage.page()?;
    ensure!(page == "hello, version 1", "it serves {page:?}");
    Ok(format!("it answers {page:?}"))
}

fn job_ends(stage: &mut Stage) -> Result<String> {
    stage.wait_pod("job", "has succeeded", |pod| {
        let phase = &pod["status"]["phase"];
        if phase != "Succeeded" {
            return Err(format!("its phase is {phase}"));
        }
        let end = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        Ok(format!("Succeeded, exit code {}, message {}", end["exitCode"], end["message"]))
    })
}

fn init_comes_first(stage: &mut Stage) -> Result<String> {
    stage.wait_pod("with-init", "runs", |pod| {
        let status = &pod["status"];
        let init = &status["initContainerStatuses"][0]["state"]["terminated"];
        let app = &status["containerStatuses"][0]["state"]["running"];
        match (init["finishedAt"].as_str(), app["startedAt"].as_str()) {
            // RFC 3339 in UTC and with whole seconds sorts as text.
            (Some(ended), Some(started)) if ended <= started => {
                Ok(format!("init ended {}, app started {}", clock(ended), clock(started)))
            }
            (Some(ended), Some(started)) => {
                Err(format!("the app started {started}, before init ended {ended}"))
            }
            _ => Err("not both have got that far".to_owned()),
        }
    })
}

fn crash_loop_backs_off(stage: &mut Stage) -> Result<String> {
    let restarts = stage.wait_pod("crash-loop", "is in CrashLoopBackOff", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        let (reason, restarts) = (&status["state"]["waiting"]["reason"], restart_count(status));
        if reason == "CrashLoopBackOff" && restarts > 0 {
            Ok(restarts)
        } else {
            Err(format!("it waits for {reason}"))
        }
    })?;
    let explained = stage.agent.ask(&["explain", "crash-loop"])?;
    ensure!(explained.contains("CrashLoopBackOff"), "`explain` does not say why it waits:\n{explained}");
    for line in explained.lines() {
        crate::ui::say(format!("    | {line}"));
    }
    Ok(format!("CrashLoopBackOff after {restarts} restart(s); `node-agent explain` says why and when next"))
}

fn probe_file_removed(stage: &mut Stage) -> Result<String> {
    let before = web(&stage.agent.pods()?)?;
    stage.exec_in_web(&["rm", "/www/healthz"])?;
    let after = stage.wait("web was restarted and is ready", |view| {
        let now = web(view).map_err(|e| e.to_string())?;
        if now.restarts == before.restarts + 1 && is_ready(view, "web") {
            Ok(now)
        } else {
            Err(not_ready(view, "web"))
        }
    })?;
    ensure!(after.uid == before.uid, "the pod was replaced, not its container restarted");
    ensure!(after.container != before.container, "the restart count went up without a new container");
    Ok(format!("restarts {} → {}, the same pod, ready again", before.restarts, after.restarts))
}

fn manifest_edited(stage: &mut Stage) -> Result<String> {
    let before = web(&stage.agent.pods()?)?;
    stage.agent.write_manifest("web.yaml", &version_2()?)?;
    let after = stage.wait("a new web pod is ready", |view| {
        let now = web(view).map_err(|e| e.to_string())?;
        if now.uid != before.uid && is_ready(view, "web") { Ok(now) } else { Err(not_ready(view, "web")) }
    })?;
    let page = stage.page()?;
    ensure!(page == "hello, version 2", "it serves {page:?}");
    Ok(format!("a new pod ({} → {}) answers {page:?}", short(&before.uid), short(&after.uid)))
}

fn manifest_broken(stage: &mut Stage) -> Result<String> {
    let before = web(&stage.agent.pods()?)?;
    stage.agent.write_manifest("web.yaml", &version_2()?.replace("\nspec:", "\nspec: [oops"))?;
    let shown = stage.poll("the error is shown", |stage| {
        problem(stage, "web.yaml")?.context("`node-agent pods` shows no error on web.yaml")
    })?;
    stage.screen.settle(&stage.agent);
    let after = web(&stage.agent.pods()?)?;
    ensure!(after == before, "the pod was touched: {before:?} became {after:?}");
    let page = stage.page()?;
    stage.agent.write_manifest("web.yaml", &version_2()?)?;
    stage.poll("the error is gone", |stage| match problem(stage, "web.yaml")? {
        None => Ok(()),
        Some(text) => bail!("`node-agent pods` still shows {text}"),
    })?;
    let repaired = web(&stage.agent.pods()?)?;
    ensure!(repaired == before, "putting the file right touched the pod: {before:?} became {repaired:?}");
    Ok(format!("still the same pod, it answers {page:?}; the error was {shown}"))
}

fn manifest_removed(stage: &mut Stage) -> Result<String> {
    let file = stage.agent.manifests().join("with-init.yaml");
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    stage.wait("with-init is gone", |view| {
        if pod(view, "with-init").is_none() { Ok(()) } else { Err("it is still there".to_owned()) }
    })?;
    let left = stage.containerd.ctr(&[
        "containers",
        "list",
        "labels.\"io.kubernetes.pod.name\"==with-init-node1",
    ])?;
    ensure!(left.lines().count() <= 1, "the runtime still has\n{left}");
    Ok("no container of it is left in the runtime".to_owned())
}

fn agent_killed(stage: &mut Stage) -> Result<String> {
    // The crash loop restarts by itself.
    let steady = |view: &Value| -> BTreeMap<String, (String, u64)> {
        let pods = view["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        pods.iter()
            .filter_map(|p| Some((p["metadata"]["name"].as_str()?, &p["status"]["containerStatuses"][0])))
            .filter(|(name, _)| !name.starts_with("crash-loop"))
            .map(|(name, status)| (name.to_owned(), (container_id(status), restart_count(status))))
            .collect()
    };
    let before = steady(&stage.agent.pods()?);
    stage.agent.kill9();
    ensure!(stage.agent.pods().is_err(), "it answers although it was killed");
    stage.agent.start_again()?;
    stage.agent.wait_healthy()?;
    stage.wait("every pod is as before", |view| {
        let now = steady(view);
        if now == before && is_ready(view, "web") {
            Ok(())
        } else {
            Err(format!("before {before:?}, now {now:?}"))
        }
    })?;
    // And so it stays: a restart would follow the first look, not precede it.
    stage.hold("every pod stays as before", Duration::from_secs(2), |view| {
        let now = steady(view);
        if now == before { Ok(()) } else { Err(format!("before {before:?}, now {now:?}")) }
    })?;
    ensure!(before.len() == 2, "the web server and the job should be there, not {before:?}");
    Ok(format!("{} pods, the same container ids and restart counts", before.len()))
}

/// The example with another page.
fn version_2() -> Result<String> {
    Ok(example("web")?.replace("version 1", "version 2"))
}

/// What tells one incarnation of the web server from another.
#[derive(Debug, PartialEq, Eq)]
struct Web {
    uid: String,
    container: String,
    restarts: u64,
}

fn web(view: &Value) -> Result<Web> {
    let pod = pod(view, "web").context("the agent does not know the pod web")?;
    let status = container_status(view, "web", "httpd").context("web has no container status")?;
    Ok(Web {
        uid: pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        container: container_id(status),
        restarts: restart_count(status),
    })
}

fn restart_count(status: &Value) -> u64 {
    status["restartCount"].as_u64().unwrap_or_default()
}

/// The error on a manifest, as `node-agent pods` shows it below the table.
fn problem(stage: &Stage, file: &str) -> Result<Option<String>> {
    let table = stage.agent.table()?;
    let folder = format!("{}/", stage.agent.manifests().display());
    let found = table.lines().find_map(|line| line.strip_prefix(&folder)?.starts_with(file).then_some(line));
    Ok(found.map(|line| line.replace(&folder, "")))
}

fn not_ready(view: &Value, name: &str) -> String {
    match pod(view, name) {
        Some(pod) => format!("not so yet, its status is {}", pod["status"]),
        None => "the agent does not know it".to_owned(),
    }
}

/// Hours, minutes and seconds of a time stamp.
fn clock(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}

fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}
