use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Monotonic {
    Monotonic::after_start(Duration::from_millis(millis))
}

fn begun(at_millis: u64) -> State {
    let mut state = State::default();
    state.begin(Operation::SetUp, at(at_millis));
    state
}

fn mounted() -> State {
    let mut state = begun(0);
    state.succeeded(None, at(1));
    state
}

#[test]
fn a_volume_is_made_at_once_and_then_left_alone() {
    let state = State::default();
    assert_eq!(state.next(at(0)), Next::Do(Operation::SetUp));
    assert_eq!(begun(0).next(at(1)), Next::At(at(123_000)), "while it is being made");
    assert!(!begun(0).is_late(at(122_999)) && begun(0).is_late(at(123_000)));
    assert_eq!(begun(0).next(at(123_000)), Next::Nothing, "it may never end");
    assert!(!begun(0).is_mounted());
    assert!(mounted().is_mounted());
    assert_eq!(mounted().next(at(1_000_000)), Next::Nothing);
}

#[test]
fn what_fails_is_tried_again_after_ever_longer_pauses() {
    let mut state = State::default();
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        state.begin(Operation::SetUp, now);
        state.failed("no".into(), false, LONGEST, now);
        let Next::At(until) = state.next(now) else { panic!("{state:?}") };
        pauses.push(until.since(now).as_millis());
        now = until;
        assert_eq!(state.next(now), Next::Do(Operation::SetUp));
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 122_000, 122_000]);
    let failure = state.failure().unwrap();
    assert_eq!((failure.since, failure.attempts), (at(0), 10));
}

#[test]
fn what_was_missing_and_has_come_is_looked_at_at_once() {
    let mut state = begun(0);
    state.failed("configmap \"a\" not found".into(), false, LONGEST, at(0));
    state.changed(at(10));
    assert_eq!(state.next(at(10)), Next::Do(Operation::SetUp));

    let mut meanwhile = begun(0);
    meanwhile.changed(at(1));
    meanwhile.failed("configmap \"a\" not found".into(), false, LONGEST, at(2));
    assert_eq!(meanwhile.next(at(2)), Next::Do(Operation::SetUp), "it changed while it was looked at");
}

#[test]
fn content_that_has_changed_is_written_again_also_if_that_was_while_it_was_written() {
    let mut state = mounted();
    state.changed(at(5));
    assert_eq!(state.next(at(5)), Next::Do(Operation::Refresh));
    state.begin(Operation::Refresh, at(5));
    state.changed(at(6));
    assert_eq!(state.next(at(6)), Next::At(at(123_005)), "it is late then");
    state.succeeded(None, at(7));
    assert_eq!(state.next(at(7)), Next::Do(Operation::Refresh));
    state.begin(Operation::Refresh, at(7));
    state.succeeded(Some(at(1000)), at(8));
    assert_eq!(state.next(at(8)), Next::At(at(1000)), "a token is to be renewed");
    assert_eq!(state.next(at(1000)), Next::Do(Operation::Refresh));
    assert!(matches!(state, State::Mounted { since, .. } if since == at(1)), "{state:?}");
}

#[test]
fn a_refresh_that_fails_takes_nothing_away() {
    let mut state = mounted();
    state.changed(at(5));
    state.begin(Operation::Refresh, at(5));
    state.failed("the server is away".into(), true, LONGEST, at(6));
    assert!(state.is_mounted());
    assert_eq!(state.next(at(6)), Next::At(at(506)));
    assert_eq!(state.failure().unwrap().message, "the server is away");
}

#[test]
fn a_volume_that_an_earlier_run_made_is_there_though_its_content_cannot_be_had() {
    let mut state = begun(0);
    state.failed("the server is away".into(), true, LONGEST, at(3));
    assert!(state.is_mounted());
    assert_eq!(state.next(at(3)), Next::At(at(503)));
}

#[test]
fn only_what_a_container_uses_is_made() {
    let spec: PodSpec = serde_json::from_str(
        r#"{"initContainers":[{"name":"i","volumeMounts":[{"name":"a","mountPath":"/a"}]}],
            "containers":[{"name":"c","volumeDevices":[{"name":"b","devicePath":"/b"}]}],
            "ephemeralContainers":[{"name":"e","volumeMounts":[{"name":"d","mountPath":"/d"}]}],
            "volumes":[{"name":"a"},{"name":"b"},{"name":"c"},{"name":"d"}]}"#,
    )
    .unwrap();
    assert_eq!(used(&spec).into_iter().collect::<Vec<_>>(), ["a", "b", "d"]);
}

/// What happens to a volume.
#[derive(Debug, Clone, Copy)]
enum Event {
    Look,
    Succeed,
    Fail,
    Change,
    Pass(u16),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        Just(Event::Look),
        Just(Event::Succeed),
        Just(Event::Fail),
        Just(Event::Change),
        any::<u16>().prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 0..60)
}

proptest! {
    /// Whatever happens, at most one operation is under way, what is mounted stays so, and in the end, when all goes
    /// well, the volume is current.
    #[test]
    fn operations_never_overlap_and_all_ends_well(events in events()) {
        let (mut state, mut now, mut running) = (State::default(), at(0), false);
        let mut was_mounted = false;
        for event in events {
            match event {
                Event::Look => if let Next::Do(operation) = state.next(now) {
                    prop_assert!(!running, "{state:?}");
                    prop_assert_eq!(operation == Operation::Refresh, state.is_mounted());
                    state.begin(operation, now);
                    running = true;
                },
                Event::Succeed if running => { state.succeeded(None, now); running = false; }
                Event::Fail if running => { state.failed("no".into(), was_mounted, LONGEST, now); running = false; }
                Event::Succeed | Event::Fail => {}
                Event::Change => state.changed(now),
                Event::Pass(millis) => now = now + SignedDuration::from_millis(i64::from(millis)),
            }
            prop_assert_eq!(state.operation().is_some(), running);
            prop_assert!(state.is_mounted() || !was_mounted, "{state:?}");
            was_mounted = state.is_mounted();
        }
        for _ in 0..3 {
            if running { state.succeeded(None, now); running = false; }
            match state.next(now) {
                Next::Do(operation) => { state.begin(operation, now); running = true; }
                Next::At(when) => now = when,
                Next::Nothing => {}
            }
        }
        if running { state.succeeded(None, now); }
        prop_assert_eq!(state.next(now), Next::Nothing, "{:?}", state);
    }
}
