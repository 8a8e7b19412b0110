use super::*;

fn claim(status: Value) -> PersistentVolumeClaim {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}});
    let object = json!({"metadata": {"name": "c", "resourceVersion": "7"}, "spec": spec, "status": status});
    serde_json::from_value(object).unwrap()
}

fn volume(capacity: &str) -> PersistentVolume {
    serde_json::from_value(json!({"spec": {"capacity": {"storage": capacity}}})).unwrap()
}

fn gi(number: i64) -> i64 {
    number << 30
}

/// The claim of a controller that can recover, with this stage.
fn at(stage: &str) -> Value {
    let mut status = json!({"capacity": {"storage": "1Gi"}, "allocatedResources": {"storage": "2Gi"}});
    if !stage.is_empty() {
        status["allocatedResourceStatuses"] = json!({"storage": stage});
    }
    status
}

#[test]
fn a_volume_has_grown_that_is_larger_than_what_uses_it() {
    let expand = |told| {
        let size = Size { bytes: gi(2), text: "2Gi".to_owned() };
        Next::Expand(Expansion { size, told, recovery: Recovery::None })
    };
    for (status, capacity, known, want) in [
        (json!({"capacity": {"storage": "1Gi"}}), "1024Mi", None, Next::Done(Some(gi(1)))),
        (json!({"capacity": {"storage": "2Gi"}}), "1Gi", None, Next::Done(Some(gi(2)))),
        (json!({"capacity": {"storage": "1Gi"}}), "2Gi", None, expand(false)),
        (json!({}), "2Gi", None, expand(false)),
        // The claim says so already, and here it is not so yet.
        (json!({"capacity": {"storage": "2Gi"}}), "2Gi", Some(gi(1)), expand(true)),
        (json!({"capacity": {"storage": "1Gi"}}), "2Gi", Some(gi(2)), Next::Done(Some(gi(2)))),
    ] {
        let known = Known { size: known, failed: false };
        assert_eq!(next(&claim(status.clone()), &volume(capacity), known), want, "{status} {capacity}");
    }
    let nothing: PersistentVolume = serde_json::from_value(json!({})).unwrap();
    assert_eq!(next(&claim(json!({})), &nothing, Known::default()), Next::Done(None));
}

#[test]
fn a_controller_that_can_recover_says_when_it_is_the_nodes_turn() {
    for (stage, want) in [
        ("NodeResizePending", true),
        ("NodeResizeInProgress", true),
        ("ControllerResizeInProgress", false),
        ("ControllerResizeInfeasible", false),
        ("NodeResizeInfeasible", false),
        ("", false),
    ] {
        let found = next(&claim(at(stage)), &volume("2Gi"), Known::default());
        assert_eq!(matches!(found, Next::Expand(_)), want, "{stage}: {found:?}");
        assert!(want || found == Next::Wait, "{stage}: {found:?}");
    }
    // It may have settled for less than the volume has.
    let mut less = at("NodeResizePending");
    less["allocatedResources"]["storage"] = json!("1536Mi");
    let Next::Expand(expansion) = next(&claim(less), &volume("2Gi"), Known::default()) else { panic!() };
    assert_eq!((expansion.size.text.as_str(), expansion.told), ("1536Mi", false));
}

#[test]
fn a_volume_of_several_nodes_grows_on_each() {
    let known = Known { size: Some(gi(1)), failed: false };
    for (mode, annotation, want) in [
        ("ReadWriteMany", None, true),
        ("ReadWriteMany", Some(NOT_REQUIRED), false),
        ("ReadWriteOnce", None, false),
    ] {
        let mut status = at("");
        status["capacity"]["storage"] = json!("2Gi");
        let mut claim = claim(status);
        claim.spec.as_mut().unwrap().access_modes = Some(vec![mode.to_owned()]);
        claim.metadata.annotations = annotation.map(|name| [(name.to_owned(), String::new())].into());
        let found = next(&claim, &volume("2Gi"), known);
        match want {
            true => assert!(matches!(&found, Next::Expand(expansion) if expansion.told), "{found:?}"),
            false => assert_eq!(found, Next::Done(Some(gi(2))), "{mode}"),
        }
    }
}

#[test]
fn a_claim_that_asks_for_another_size_after_a_failure_gets_it_decided() {
    let mut other = claim(at("NodeResizeInProgress"));
    let spec = json!({"resources": {"requests": {"storage": "1536Mi"}}});
    other.spec = serde_json::from_value(spec).unwrap();
    for (claim, failed, want) in [
        (claim(at("NodeResizeInProgress")), true, Recovery::Possible),
        (other.clone(), false, Recovery::Possible),
        (other, true, Recovery::Wanted),
    ] {
        let Next::Expand(expansion) = next(&claim, &volume("2Gi"), Known { size: None, failed }) else {
            panic!()
        };
        assert_eq!(expansion.recovery, want);
        let patch = super::failed(&claim, &expansion, Cause::Final, "no", Timestamp::UNIX_EPOCH).unwrap();
        let infeasible = patch["status"]["allocatedResourceStatuses"]["storage"] == "NodeResizeInfeasible";
        assert_eq!(infeasible, want == Recovery::Wanted, "{patch}");
    }
}

#[test]
fn a_claim_is_told_what_it_does_not_say() {
    let pending = claim(at("NodeResizePending"));
    let begun = json!({"metadata": {"resourceVersion": "7"},
        "status": {"allocatedResourceStatuses": {"storage": "NodeResizeInProgress"}}});
    assert_eq!(in_progress(&pending), Some(begun));
    assert_eq!(in_progress(&claim(at("NodeResizeInProgress"))), None);

    let mut waiting = at("NodeResizeInProgress");
    waiting["conditions"] = json!([
        {"type": "FileSystemResizePending", "status": "True"}, {"type": "ModifyVolumeError", "status": "True"},
    ]);
    let done = finished(&claim(waiting), &Size { bytes: gi(2), text: "2Gi".to_owned() });
    let want = json!({"metadata": {"resourceVersion": "7"}, "status": {
        "capacity": {"storage": "2Gi"}, "allocatedResourceStatuses": {"storage": null},
        "conditions": [{"type": "FileSystemResizePending", "$patch": "delete"}],
    }});
    assert_eq!(done, want);

    let Next::Expand(expansion) = next(&pending, &volume("2Gi"), Known::default()) else { panic!() };
    let condition = json!([{"type": "NodeResizeError", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z",
        "message": "failed to expand pvc with no"}]);
    let told = |claim: &PersistentVolumeClaim, cause| {
        super::failed(claim, &expansion, cause, "no", Timestamp::UNIX_EPOCH)
    };
    let want = json!({"status": {"conditions": condition,
        "allocatedResourceStatuses": {"storage": "NodeResizeInfeasible"}}});
    assert_eq!(told(&pending, Cause::Infeasible), Some(want));
    assert_eq!(told(&pending, Cause::Final), Some(json!({"status": {"conditions": condition}})));
    let mut again = at("NodeResizeInProgress");
    again["conditions"] = condition.clone();
    assert_eq!(told(&claim(again), Cause::Final), None);
}
