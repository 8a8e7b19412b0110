//! What holds for every pod and every course of events.

use std::collections::BTreeSet;

use kube_model::observed::{ContainerState, SandboxState};
use kube_model::probe::ProbeOutcome;
use pod_lifecycle::{Action, FailureReason, Plan, Progress};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::sim::{Behaviour, Sim, exits, pod};

/// Something that happens to a pod from outside.
#[derive(Debug, Clone)]
enum Event {
    /// One round, of whose plan only so many actions are executed.
    Round(usize),
    /// So many seconds.
    Time(i64),
    /// The agent starts anew.
    Forget,
    /// A running container ends.
    Exit(prop::sample::Index, i32),
    /// The newest sandbox dies.
    SandboxDies,
    /// A probe of a running container fails.
    ProbeFails(prop::sample::Index),
    /// The runtime loses track of a container.
    Unknown(prop::sample::Index),
    /// Somebody removes an ended container.
    Vanish(prop::sample::Index),
    /// A new image for a container.
    Edit(prop::sample::Index),
    /// A container cannot be started for a while, or can again.
    StartFails(prop::sample::Index, bool),
    /// The pod network goes away, or comes back.
    Network(bool),
    /// The runtime cannot make sandboxes, or can again.
    SandboxFails(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0_usize..4).prop_map(Event::Round),
        4 => Just(Event::Round(usize::MAX)),
        3 => (1_i64..700).prop_map(Event::Time),
        1 => Just(Event::Forget),
        3 => (index(), 0..2).prop_map(|(i, code)| Event::Exit(i, code)),
        1 => Just(Event::SandboxDies),
        1 => index().prop_map(Event::ProbeFails),
        1 => index().prop_map(Event::Unknown),
        1 => index().prop_map(Event::Vanish),
        1 => index().prop_map(Event::Edit),
        1 => (index(), any::<bool>()).prop_map(|(i, on)| Event::StartFails(i, on)),
        1 => any::<bool>().prop_map(Event::Network),
        1 => any::<bool>().prop_map(Event::SandboxFails),
    ]
}

/// The spec of a pod.
fn any_spec() -> impl Strategy<Value = Value> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    let init = prop::collection::vec(any::<bool>(), 0..3);
    (policy, init, 1_usize..3, prop::option::of(1_i64..2000)).prop_map(|(policy, init, regular, deadline)| {
        let probe = json!({ "tcpSocket": { "port": 1 } });
        let init: Vec<Value> = init
            .iter()
            .enumerate()
            .map(|(i, sidecar)| match sidecar {
                true => json!({ "name": format!("s{i}"), "restartPolicy": "Always", "startupProbe": probe }),
                false => json!({ "name": format!("i{i}") }),
            })
            .collect();
        let regular: Vec<Value> =
            (0..regular).map(|i| json!({ "name": format!("c{i}"), "livenessProbe": probe })).collect();
        json!({
            "restartPolicy": policy, "activeDeadlineSeconds": deadline,
            "initContainers": init, "containers": regular,
        })
    })
}

fn begin(spec: &Value) -> Sim {
    let mut sim = Sim::new(pod(spec.clone()));
    for i in 0..3 {
        sim.behaviours.insert(format!("i{i}"), exits(0));
    }
    sim
}

/// One of the containers in this state.
fn pick(sim: &Sim, index: &prop::sample::Index, state: ContainerState) -> Option<String> {
    let ids: Vec<_> =
        sim.observed.containers.iter().filter(|c| c.state == state).map(|c| c.id.clone()).collect();
    (!ids.is_empty()).then(|| index.get(&ids).clone())
}

fn happen(sim: &mut Sim, event: &Event) -> Option<Plan> {
    match event {
        Event::Round(limit) => return Some(sim.round(*limit)),
        Event::Time(seconds) => sim.advance(sim.after(*seconds)),
        Event::Forget => sim.forget(),
        Event::Exit(index, code) => {
            if let Some(id) = pick(sim, index, ContainerState::Running) {
                sim.end(&id, *code, "", "");
            }
        }
        Event::SandboxDies => {
            if let Some(newest) = sim.observed.sandboxes.first_mut() {
                newest.state = SandboxState::NotReady;
            }
        }
        Event::ProbeFails(index) => {
            if let Some(id) = pick(sim, index, ContainerState::Running) {
                sim.probes.0.entry(id).or_default().liveness = Some(ProbeOutcome::Failure);
            }
        }
        Event::Unknown(index) => {
            if let Some(id) = pick(sim, index, ContainerState::Running) {
                sim.lose(&id);
            }
        }
        Event::Vanish(index) => {
            if let Some(id) = pick(sim, index, ContainerState::Exited) {
                sim.observed.containers.retain(|c| c.id != id);
            }
        }
        Event::Edit(index) => sim.edit(|pod| {
            let containers = &mut pod.spec.as_mut().unwrap().containers;
            let which = index.index(containers.len());
            containers[which].image.as_mut().unwrap().push('x');
        }),
        Event::StartFails(index, on) => {
            let names = ["c0", "c1", "s0", "i0"];
            let behaviour = sim.behaviours.entry((*index.get(&names)).to_owned()).or_default();
            let failure = (FailureReason::CreateContainerError, "no".to_owned());
            *behaviour = Behaviour { start_fails: on.then_some(failure), ..behaviour.clone() };
        }
        Event::Network(down) => sim.node.network_not_ready = down.then(|| "down".to_owned()),
        Event::SandboxFails(on) => sim.sandbox_fails = on.then(|| "no".to_owned()),
    }
    None
}

/// What must hold after every step.
fn check(sim: &Sim, plan: Option<&Plan>) {
    let ready = sim.observed.sandboxes.iter().filter(|s| s.state == SandboxState::Ready).count();
    assert!(ready <= 1, "two ready sandboxes: {:?}", sim.observed.sandboxes);
    let running = sim.observed.containers.iter().filter(|c| c.state == ContainerState::Running);
    let mut names = BTreeSet::new();
    for container in running {
        assert!(names.insert(&container.name), "{} runs twice", container.name);
    }
    let Some(plan) = plan else { return };
    let creates = plan.actions.iter().position(|a| matches!(a, Action::CreateSandbox { .. }));
    assert!(creates.is_none_or(|i| i + 1 == plan.actions.len()), "nothing follows a new sandbox: {plan:?}");
    if plan.actions.is_empty() && plan.progress == Progress::Going {
        assert!(!plan.waits.is_empty(), "whoever waits says why: {plan:?} {:?}", sim.observed);
    }
    let status = sim.status();
    let names: Vec<_> = status.container_statuses.iter().flatten().map(|s| s.name.as_str()).collect();
    let spec = sim.pod.spec.as_ref().unwrap();
    assert_eq!(names.len(), spec.containers.len(), "a status for each container");
}

/// All that hinders goes away, and time passes.
fn calm_down(sim: &mut Sim) -> Plan {
    sim.node.network_not_ready = None;
    sim.sandbox_fails = None;
    for behaviour in sim.behaviours.values_mut() {
        behaviour.start_fails = None;
    }
    sim.run(sim.after(10_000), |_, _| false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_pod_comes_to_rest_and_can_be_removed(
        spec in any_spec(),
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut sim = begin(&spec);
        for event in &events {
            let plan = happen(&mut sim, event);
            check(&sim, plan.as_ref());
        }
        let plan = calm_down(&mut sim);
        check(&sim, Some(&plan));
        // Under `Never` a pod may have lost the sandbox that its other containers were still to run in.
        let stuck = plan.waits.iter().any(|w| w.reason == "SandboxChanged");
        let at_rest = matches!(plan.progress, Progress::Settled | Progress::Ended);
        prop_assert!(at_rest || stuck, "{plan:?} {:?}", sim.observed);
        // At rest the same plan comes again, and nothing wakes it at once.
        let again = sim.round(usize::MAX);
        prop_assert_eq!(&again, &plan);
        prop_assert!(again.actions.is_empty() && again.wake_at.is_none_or(|at| at > sim.now));
        sim.remove();
        prop_assert!(sim.observed.is_gone());
    }

    #[test]
    fn a_terminal_phase_stays(spec in any_spec(), events in prop::collection::vec(event(), 0..40)) {
        let mut sim = begin(&spec);
        let mut terminal = None;
        for event in events.iter().filter(|e| !matches!(e, Event::Forget)) {
            if happen(&mut sim, event).is_none() {
                continue;
            }
            let phase = sim.phase();
            if let Some(terminal) = &terminal {
                prop_assert_eq!(&phase, terminal);
            } else if phase == "Succeeded" || phase == "Failed" {
                terminal = Some(phase);
            }
        }
    }

    #[test]
    fn an_interrupted_plan_ends_where_the_whole_one_does(
        spec in any_spec(),
        events in prop::collection::vec(event(), 0..20),
        limits in prop::collection::vec(0_usize..3, 0..10),
        forget in any::<bool>(),
    ) {
        let mut spec = spec;
        // A deadline may catch the pod earlier or later; that is not what this is about.
        spec["activeDeadlineSeconds"] = Value::Null;
        let end = |limits: &[usize]| {
            let mut sim = begin(&spec);
            // Only the agent's memory knows how an instance ended that somebody removed, and that a pod had
            // ended before it was changed.
            let lossy = |e: &Event| forget && matches!(e, Event::Vanish(_) | Event::Edit(_));
            for event in events.iter().filter(|e| !matches!(e, Event::Round(_)) && !lossy(e)) {
                sim.round(usize::MAX);
                happen(&mut sim, event);
            }
            for limit in limits {
                sim.round(*limit);
                if forget {
                    sim.forget();
                }
            }
            let plan = calm_down(&mut sim);
            let mut running = sim.running().into_iter().map(str::to_owned).collect::<Vec<_>>();
            running.sort();
            (plan.progress, running)
        };
        prop_assert_eq!(end(&limits), end(&[]));
    }
}
