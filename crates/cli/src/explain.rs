//! One pod in words: what state it is in, what it waits for and why, what was tried, what comes next.

use std::fmt::Write as _;

use kube_model::age::{human, since, until};
use kube_model::core::{ContainerState, ContainerStatus};
use kube_model::view::{Event, EventType, PodView, Problem, ViewSnapshot, VolumeState, VolumeView, Wait};
use kube_model::{Timestamp, summary};

use crate::{select, text};

/// Everything worth knowing about `pod` at `now`, as text with a newline at its end.
pub fn explain(snapshot: &ViewSnapshot, pod: &PodView, now: Timestamp) -> String {
    let mut out = head(snapshot, pod, now);
    section(&mut out, "Waiting for", pod.waits.iter().map(|wait| wait_text(wait, now)));
    section(&mut out, "Containers", containers(pod, now));
    section(&mut out, "Volumes", volumes(snapshot, pod).map(|volume| volume_text(volume, now)));
    section(&mut out, "Events", pod.events.iter().map(|event| event_text(event, now)));
    section(
        &mut out,
        "Manifest problems",
        problems(snapshot, pod).map(|problem| text::lines(&problem.to_string(), "    ")),
    );
    out
}

/// The pod's volumes, as far as the agent has to do with them.
fn volumes<'a>(snapshot: &'a ViewSnapshot, pod: &'a PodView) -> impl Iterator<Item = &'a VolumeView> {
    pod.pod.metadata.uid.as_ref().and_then(|uid| snapshot.volumes.get(uid)).into_iter().flatten()
}

fn volume_text(volume: &VolumeView, now: Timestamp) -> String {
    let state = match volume.state {
        VolumeState::Missing => "not mounted",
        VolumeState::SettingUp => "being set up",
        VolumeState::Mounted => "mounted",
    };
    let mut out = format!("{} ({}): {state}", volume.name, volume.kind);
    if let Some(time) = volume.since {
        out.push_str(&format!(", for {}", since(time, now)));
    }
    if let Some(time) = volume.until {
        out.push_str(&format!(", next attempt in {}", until(time, now)));
    }
    with_message(out, &volume.message, "    ")
}

/// What is wrong with the manifest that `pod` came from: with a file named like the pod.
fn problems<'a>(snapshot: &'a ViewSnapshot, pod: &'a PodView) -> impl Iterator<Item = &'a Problem> {
    let (name, short) = (select::name(pod), select::short_name(snapshot, pod));
    snapshot.problems.iter().filter(move |problem| is_file(problem, name) || is_file(problem, short))
}

/// The problems with the manifest file `name`, with or without its extension or folder: for a manifest that
/// never became a pod.
pub fn problems_of_file<'a>(snapshot: &'a ViewSnapshot, name: &'a str) -> Vec<&'a Problem> {
    snapshot.problems.iter().filter(|problem| is_file(problem, name)).collect()
}

fn is_file(problem: &Problem, name: &str) -> bool {
    let path = &problem.path;
    [path.file_stem(), path.file_name(), Some(path.as_os_str())].contains(&Some(name.as_ref()))
}

fn head(snapshot: &ViewSnapshot, pod: &PodView, now: Timestamp) -> String {
    let digest = summary::digest(&pod.pod, &pod.status, pod.removing);
    let phase = summary::phase(&pod.pod, &pod.status);
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "{key:<10} {value}");
    };
    line("Pod", format!("{}/{}", select::namespace(pod), select::name(pod)));
    line("UID", pod.pod.metadata.uid.clone().unwrap_or_default());
    let mut state = text::one_line(&digest.status);
    if state != phase {
        state.push_str(&format!(", phase {phase}"));
    }
    state.push_str(&format!(", {}/{} containers ready", digest.ready, digest.total));
    if let Some(condition) = pod.status.conditions.iter().flatten().find(|c| c.type_ == "Ready") {
        let which = if condition.status == "True" { "ready" } else { "not ready" };
        if let Some(time) = &condition.last_transition_time {
            state.push_str(&format!(", {which} for {}", since(time.0, now)));
        }
    }
    line("Status", state);
    if let Some(message) = pod.status.message.as_deref().filter(|message| !message.is_empty()) {
        line("Message", text::lines(message, "           "));
    }
    line("Node", snapshot.node.clone());
    line("IP", pod.status.pod_ip.clone().unwrap_or_else(|| "<none>".to_owned()));
    line("Age", summary::born(&pod.pod, &pod.status).map_or("<unknown>".to_owned(), |born| since(born, now)));
    let runtime = &snapshot.runtime;
    if !runtime.ready {
        let message = text::one_line(&runtime.message);
        line(
            "Runtime",
            format!("{} not ready for {}: {message}", runtime.endpoint, since(runtime.since, now)),
        );
    }
    line(
        "Now",
        match (&pod.doing, pod.removing) {
            (Some(doing), _) => format!("{}, for {}", text::one_line(&doing.what), since(doing.since, now)),
            (None, true) => "being removed".to_owned(),
            (None, false) => "nothing to do".to_owned(),
        },
    );
    out
}

/// A titled list; nothing at all when it is empty.
fn section(out: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_some() {
        let _infallible = writeln!(out, "\n{title}");
    }
    for item in items {
        let _infallible = writeln!(out, "  {item}");
    }
}

fn wait_text(wait: &Wait, now: Timestamp) -> String {
    let mut out = match &wait.container {
        Some(container) => format!("{container}: {}", wait.reason),
        None => wait.reason.clone(),
    };
    if let Some(time) = wait.since {
        out.push_str(&format!(", for {}", since(time, now)));
    }
    if let Some(time) = wait.until {
        out.push_str(&format!(", next attempt in {}", until(time, now)));
    }
    with_message(out, &wait.message, "    ")
}

fn with_message(mut out: String, message: &str, indent: &str) -> String {
    if !message.trim().is_empty() {
        out.push('\n');
        out.push_str(indent);
        out.push_str(&text::lines(message, indent));
    }
    out
}

fn containers(pod: &PodView, now: Timestamp) -> impl Iterator<Item = String> {
    let status = &pod.status;
    let init = status.init_container_statuses.iter().flatten().map(|c| ("init ", c));
    init.chain(status.container_statuses.iter().flatten().map(|c| ("", c)))
        .map(move |(kind, container)| container_text(kind, container, now))
}

fn container_text(kind: &str, container: &ContainerStatus, now: Timestamp) -> String {
    const INDENT: &str = "              ";
    let mut out = format!("{kind}{}, image {}", container.name, text::one_line(&container.image));
    let state = container.state.as_ref().map_or("unknown".to_owned(), |state| state_text(state, now, INDENT));
    let _infallible = write!(out, "\n    state     {state}");
    if let Some(last) = container.last_state.as_ref().filter(|last| last.terminated.is_some()) {
        let _infallible = write!(out, "\n    before    {}", state_text(last, now, INDENT));
    }
    let ready = if container.ready { "yes" } else { "no" };
    let _infallible = write!(out, "\n    ready     {ready}\n    restarts  {}", container.restart_count);
    out
}

fn state_text(state: &ContainerState, now: Timestamp, indent: &str) -> String {
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("no reason known");
        return with_message(
            format!("waiting: {reason}"),
            waiting.message.as_deref().unwrap_or_default(),
            indent,
        );
    }
    if let Some(running) = &state.running {
        return match &running.started_at {
            Some(time) => format!("running for {}", since(time.0, now)),
            None => "running".to_owned(),
        };
    }
    let Some(ended) = &state.terminated else { return "unknown".to_owned() };
    let mut out = "ended".to_owned();
    if let Some(time) = &ended.finished_at {
        out.push_str(&format!(" {} ago", since(time.0, now)));
    }
    let reason = ended.reason.as_deref().unwrap_or("no reason known");
    out.push_str(&format!(": {}, exit code {}", text::one_line(reason), ended.exit_code));
    if let (Some(from), Some(to)) = (&ended.started_at, &ended.finished_at) {
        let seconds = to.0.duration_since(from.0).as_secs();
        // A container that never started has the zero time of Unix.
        if from.0.as_second() > 0 && seconds >= 0 {
            out.push_str(&format!(", after {}", human(seconds)));
        }
    }
    with_message(out, ended.message.as_deref().unwrap_or_default(), indent)
}

fn event_text(event: &Event, now: Timestamp) -> String {
    let mut out = format!("{} ago", since(event.last, now));
    if event.count > 1 {
        out.push_str(&format!(", {} times in {}", event.count, since(event.first, now)));
    }
    let kind = match event.kind {
        EventType::Normal => "",
        EventType::Warning => "warning ",
    };
    let about = event.container.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let message = text::lines(&event.message, "    ");
    format!("{out}: {kind}{}{about}: {message}", event.reason)
}

#[cfg(test)]
mod tests;
