use kube_model::Monotonic;
use kube_model::probe::ProbeKind::{Liveness, Readiness, Startup};
use kube_model::probe::ProbeOutcome::{Failure, Success};
use proptest::prelude::*;

use super::*;

fn settings(success_threshold: u32, failure_threshold: u32) -> Settings {
    Settings { success_threshold, failure_threshold, ..Settings::from(&Probe::default()) }
}

const S: Duration = Duration::from_secs(1);

#[test]
fn unset_and_senseless_numbers_get_the_api_defaults() {
    let defaults = Settings {
        initial_delay: Duration::ZERO,
        period: 10 * S,
        timeout: S,
        success_threshold: 1,
        failure_threshold: 3,
    };
    assert_eq!(Settings::from(&Probe::default()), defaults);
    let senseless = Probe {
        initial_delay_seconds: Some(-1),
        period_seconds: Some(0),
        timeout_seconds: Some(0),
        success_threshold: Some(-5),
        failure_threshold: Some(0),
        ..Default::default()
    };
    assert_eq!(Settings::from(&senseless), defaults);
    let given = Probe {
        initial_delay_seconds: Some(7),
        period_seconds: Some(5),
        timeout_seconds: Some(3),
        success_threshold: Some(2),
        failure_threshold: Some(4),
        ..Default::default()
    };
    let expected = Settings {
        initial_delay: 7 * S,
        period: 5 * S,
        timeout: 3 * S,
        success_threshold: 2,
        failure_threshold: 4,
    };
    assert_eq!(Settings::from(&given), expected);
}

#[test]
fn thresholds() {
    struct Case {
        name: &'static str,
        thresholds: (u32, u32),
        known: Option<ProbeOutcome>,
        verdicts: &'static [ProbeOutcome],
        settled: &'static [Option<ProbeOutcome>],
    }
    let cases = [
        Case {
            name: "one success is enough by default",
            thresholds: (1, 3),
            known: None,
            verdicts: &[Success, Success],
            settled: &[Some(Success), None],
        },
        Case {
            name: "failures below the threshold leave the outcome as it is",
            thresholds: (1, 3),
            known: None,
            verdicts: &[Success, Failure, Failure, Failure, Failure],
            settled: &[Some(Success), None, None, Some(Failure), None],
        },
        Case {
            name: "a success in between starts the count anew",
            thresholds: (1, 2),
            known: None,
            verdicts: &[Failure, Success, Failure, Failure],
            settled: &[None, Some(Success), None, Some(Failure)],
        },
        Case {
            name: "coming back takes successThreshold successes in a row",
            thresholds: (3, 1),
            known: None,
            verdicts: &[Failure, Success, Success, Failure, Success, Success, Success],
            settled: &[Some(Failure), None, None, None, None, None, Some(Success)],
        },
        Case {
            name: "a known outcome holds until the other threshold is reached",
            thresholds: (1, 2),
            known: Some(Success),
            verdicts: &[Failure, Success, Failure, Failure],
            settled: &[None, None, None, Some(Failure)],
        },
    ];
    for Case { name, thresholds: (success, failure), known, verdicts, settled } in cases {
        let mut tracker = Tracker::new(Readiness, &settings(success, failure), known);
        let got: Vec<_> = verdicts.iter().map(|v| tracker.record(*v)).collect();
        assert_eq!(got, settled, "{name}");
    }
}

#[test]
fn probing_an_instance_ends_when_its_fate_is_settled() {
    let cases = [
        (Liveness, None, false),
        (Liveness, Some(Success), false),
        (Liveness, Some(Failure), true),
        (Readiness, Some(Success), false),
        (Readiness, Some(Failure), false),
        (Startup, None, false),
        (Startup, Some(Success), true),
        (Startup, Some(Failure), true),
    ];
    for (kind, known, done) in cases {
        assert_eq!(Tracker::new(kind, &settings(1, 1), known).is_done(), done, "{kind:?} {known:?}");
        let mut tracker = Tracker::new(kind, &settings(1, 1), None);
        known.map(|outcome| tracker.record(outcome));
        assert_eq!(tracker.is_done(), done, "{kind:?} recorded {known:?}");
    }
}

#[test]
fn startup_holds_the_others_back_until_it_succeeds() {
    let cases = [
        (Liveness, true, None, true),
        (Readiness, true, None, true),
        (Readiness, true, Some(Failure), true),
        (Liveness, true, Some(Success), false),
        (Readiness, true, Some(Success), false),
        (Readiness, false, None, false),
        (Startup, true, None, false),
    ];
    for (kind, has_startup, startup, held) in cases {
        let known = ContainerProbes { startup, ..Default::default() };
        assert_eq!(held_back(kind, has_startup, known), held, "{kind:?} {has_startup} {startup:?}");
    }
}

#[test]
fn only_readiness_goes_on_while_terminating() {
    for (kind, expected) in [(Liveness, false), (Startup, false), (Readiness, true)] {
        assert_eq!(runs(kind, true), expected, "{kind:?}");
        assert!(runs(kind, false), "{kind:?}");
    }
}

#[test]
fn the_first_probe_comes_after_initial_delay_and_spread() {
    let at = |second| Monotonic::after_start(Duration::from_secs(second));
    let delayed = Settings { initial_delay: 4 * S, ..settings(1, 3) };
    let plain = settings(1, 3);
    // (name, settings, agent started, container started, now, expected), with half a period as spread
    let cases = [
        ("a new container is probed at once", plain, 0, 1000, 1000, Duration::ZERO),
        ("the initial delay counts from the start", delayed, 0, 1000, 1001, 3 * S),
        ("a delay that is over costs nothing", delayed, 0, 1000, 1009, Duration::ZERO),
        ("a start in the future waits no longer than the delay", delayed, 0, 1005, 1000, 4 * S),
        ("an old container waits its share after a restart", plain, 1000, 500, 1001, 5 * S),
        ("the longer of the two holds", delayed, 1000, 999, 1000, 5 * S),
        ("a new container of a new agent is probed at once", plain, 1000, 1001, 1002, Duration::ZERO),
        ("an agent older than a period spreads nothing", plain, 1000, 500, 1010, Duration::ZERO),
    ];
    for (name, settings, agent, container, now, expected) in cases {
        assert_eq!(first_delay(&settings, at(agent), at(container), at(now), 0.5), expected, "{name}");
    }
}

#[test]
fn spreads_are_stable_and_even() {
    let of = |n: usize| spread(&PodUid::new(format!("uid-{n}")), "app", Liveness);
    assert_eq!(of(1).to_bits(), of(1).to_bits());
    let mut tenths = [0; 10];
    for n in 0..1000 {
        tenths[(of(n) * 10.0) as usize] += 1;
    }
    assert!(tenths.iter().all(|n| (50..200).contains(n)), "{tenths:?}");
}

proptest! {
    /// The outcome only ever changes to a verdict that came `threshold` times in a row just before.
    #[test]
    fn an_outcome_is_backed_by_a_full_run(
        verdicts in prop::collection::vec(prop::bool::ANY, 0..60), success in 1u32..5, failure in 1u32..5,
    ) {
        let mut tracker = Tracker::new(Readiness, &settings(success, failure), None);
        let mut settled = None;
        for (i, up) in verdicts.iter().enumerate() {
            let verdict = if *up { Success } else { Failure };
            let needed = if *up { success } else { failure } as usize;
            let run = verdicts[..=i].iter().rev().take_while(|v| *v == up).count();
            let expected = (run >= needed && settled != Some(verdict)).then_some(verdict);
            let got = tracker.record(verdict);
            prop_assert_eq!(got, expected);
            settled = got.or(settled);
        }
    }
}
