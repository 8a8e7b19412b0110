use std::fmt::Write as _;

use kube_model::k8s_openapi::jiff::SignedDuration;

use super::*;

fn at(seconds: i64) -> Monotonic {
    Monotonic::default() + SignedDuration::from_secs(seconds)
}

/// A pod that can be told from others by its name.
fn a_pod(name: &str) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    Arc::new(pod)
}

fn ends(of: Terminating, then: Then) -> Termination {
    Termination { since: at(1), grace_seconds: 30, of, then }
}

/// Each state, with each end that differs in what comes afterwards.
fn states() -> Vec<WorkerState> {
    use WorkerState as S;
    let ends = |then| ends(Terminating::NotAdmitted, then);
    vec![
        S::Gone,
        S::WaitingForName,
        S::WaitingForRuntime(ends(Then::Keep)),
        S::Admitting,
        S::Syncing,
        S::Ended,
        S::Terminating(ends(Then::Forget)),
        S::Terminating(ends(Then::Keep)),
        S::Terminating(ends(Then::Restart(a_pod("old")))),
        S::Terminated(ends(Then::Forget)),
        S::Terminated(ends(Then::Keep)),
        S::Terminated(ends(Then::Restart(a_pod("old")))),
        S::Finished,
    ]
}

fn inputs() -> Vec<(&'static str, Input)> {
    let (now, pod) = (at(9), || a_pod("new"));
    let remove = |forced, may_run| Input::Remove { grace_seconds: 20, forced, may_run, now };
    vec![
        ("set", Input::Set(pod())),
        ("delete, 7 s", Input::Delete { pod: pod(), grace_seconds: 7, now }),
        ("reconcile", Input::Reconcile(pod())),
        ("remove", remove(None, true)),
        ("remove, nothing runs", remove(None, false)),
        ("remove by force", remove(Some(1), true)),
        ("orphaned", Input::Orphaned { pod: pod(), grace_seconds: 1, now }),
        ("start", Input::Start),
        ("admitted", Input::Admitted),
        ("ended", Input::Ended),
        ("stopped", Input::Stopped),
        ("cleaned up", Input::CleanedUp { garbage: false }),
        ("cleaned up, garbage", Input::CleanedUp { garbage: true }),
    ]
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// `of`, what remains of the grace period counted from `since`, and `then` where they are not those of [`states`].
fn show(state: &WorkerState) -> String {
    let end = |t: &Termination| {
        let of = match t.of {
            Terminating::NotAdmitted => "",
            Terminating::Admitted => " admitted",
            Terminating::RuntimeOnly => " orphan",
        };
        let then = match &t.then {
            Then::Forget => "forget".to_owned(),
            Then::Keep => "keep".to_owned(),
            Then::Restart(pod) => format!("restart {}", name(pod)),
        };
        format!("({}+{}{of}, {then})", t.since.since(Monotonic::default()).as_secs(), t.grace_seconds)
    };
    match state {
        WorkerState::WaitingForRuntime(t) => format!("WaitingForRuntime{}", end(t)),
        WorkerState::Terminating(t) => format!("Terminating{}", end(t)),
        WorkerState::Terminated(t) => format!("Terminated{}", end(t)),
        other => format!("{other:?}"),
    }
}

fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Begin(pod) => format!("Begin {}", name(pod)),
        Effect::Restart(pod) => format!("Restart {}", name(pod)),
        Effect::Update(pod) => format!("Update {}", name(pod)),
        other => format!("{other:?}"),
    }
}

/// Every pair of state and input; what changes nothing is `-`.
#[test]
fn each_input_in_each_state() {
    let mut table = String::new();
    for (title, input) in inputs() {
        writeln!(table, "{title}").unwrap();
        for state in states() {
            let (next, effects) = transition(state.clone(), input.clone());
            let next = if next == state { "-".to_owned() } else { show(&next) };
            let effects: Vec<_> = effects.iter().map(show_effect).collect();
            let line = format!("  {:<40} {next:<40} {}", show(&state), effects.join(", "));
            writeln!(table, "{}", line.trim_end()).unwrap();
        }
    }
    let want = include_str!("transitions.txt");
    for (line, (got, want)) in table.lines().zip(want.lines()).enumerate() {
        assert_eq!(got, want, "line {} of transitions.txt", line + 1);
    }
    assert_eq!(table.lines().count(), want.lines().count(), "{table}");
}
