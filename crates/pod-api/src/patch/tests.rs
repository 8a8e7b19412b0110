//! What upstream documents of its patches, as tables. The cases are our own; their outcomes were worked out from
//! upstream's rules.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn patched(kind: &PatchType, current: &Value, patch: &Value) -> Result<Value, String> {
    apply(kind, current, patch).map_err(|error| error.to_string())
}

fn strategic(current: &Value, patch: &Value) -> Result<Value, String> {
    patched(&PatchType::Strategic, current, patch)
}

#[test]
fn a_strategic_patch_merges_by_its_rules() {
    let containers = json!({"spec": {"containers": [
        {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}], "args": ["1", "2"]},
        {"name": "b", "image": "b:1"},
    ]}});
    for (what, current, patch, expected) in [
        (
            "items are merged by their key, objects by field",
            containers.clone(),
            json!({"spec": {"containers": [{"name": "b", "image": "b:2"}]}}),
            json!({"spec": {"containers": [
                {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}], "args": ["1", "2"]},
                {"name": "b", "image": "b:2"},
            ]}}),
        ),
        (
            "keys within items; lists without a key are replaced",
            containers.clone(),
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "3"}, {"name": "Z", "value": "4"}], "args": ["9"]}]}}),
            json!({"spec": {"containers": [
                {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}, {"name": "Z", "value": "4"}], "args": ["9"]},
                {"name": "b", "image": "b:1"},
            ]}}),
        ),
        (
            "$patch: delete takes an item away",
            containers.clone(),
            json!({"spec": {"containers": [{"$patch": "delete", "name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "b:1"}]}}),
        ),
        (
            "$patch: replace in a list replaces it",
            containers.clone(),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c", "image": "c:1"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "c:1"}]}}),
        ),
        (
            "$patch: replace in an object replaces it",
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
            json!({"metadata": {"labels": {"c": "3"}}}),
        ),
        (
            "$patch: delete in an object empties it",
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (
            "null takes a field away, and is not kept where there was none",
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": null, "x": null}, "annotations": {"y": null, "z": "1"}}}),
            json!({"metadata": {"labels": {"b": "2"}, "annotations": {"z": "1"}}}),
        ),
        (
            "another type replaces",
            json!({"spec": {"nodeName": "a"}}),
            json!({"spec": {"nodeName": {"b": 1}}}),
            json!({"spec": {"nodeName": {"b": 1}}}),
        ),
        (
            "what one volume is, is the one in the patch when kubectl says what to retain",
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["hostPath", "name"], "hostPath": {"path": "/x"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        ),
        (
            "texts of a set are added once, and taken away by their own list",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
        ),
        (
            "the order is that of $setElementOrder, and what it does not name stays near its neighbours",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}, {"name": "c"}]}}),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
                "containers": [{"name": "b", "image": "i"}],
            }}),
            json!({"spec": {"containers": [{"name": "s"}, {"name": "c"}, {"name": "b", "image": "i"}, {"name": "a"}]}}),
        ),
        (
            "an order alone sorts",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}}),
        ),
        (
            "directives do not get into what is new",
            json!({"spec": {}}),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "a"}],
                "containers": [{"name": "a", "image": null, "$retainKeys": ["name"]}, {"$patch": "delete", "name": "b"}],
            }}),
            json!({"spec": {"containers": [{"name": "a"}]}}),
        ),
    ] {
        assert_eq!(strategic(&current, &patch), Ok(expected), "{what}");
    }
}

#[test]
fn each_list_of_a_pod_has_its_own_key() {
    for (at, key) in [
        ("/spec/containers", "name"),
        ("/spec/initContainers", "name"),
        ("/spec/ephemeralContainers", "name"),
        ("/spec/volumes", "name"),
        ("/spec/imagePullSecrets", "name"),
        ("/spec/hostAliases", "ip"),
        ("/spec/topologySpreadConstraints", "topologyKey"),
        ("/spec/resourceClaims", "name"),
        ("/spec/schedulingGates", "name"),
        ("/spec/containers/0/env", "name"),
        ("/spec/containers/0/ports", "containerPort"),
        ("/spec/containers/0/volumeMounts", "mountPath"),
        ("/spec/containers/0/volumeDevices", "devicePath"),
        ("/metadata/ownerReferences", "uid"),
        ("/status/conditions", "type"),
        ("/status/podIPs", "ip"),
        ("/status/hostIPs", "ip"),
    ] {
        // The list of `items` where it belongs; a container around it is there by its name.
        let tree = |items: Value| {
            at.rsplit('/').filter(|part| !part.is_empty()).fold(items, |below, part| match part {
                "0" => {
                    let mut container = below;
                    container["name"] = json!("c");
                    json!([container])
                }
                name => json!({name: below}),
            })
        };
        let current = tree(json!([{key: "1", "a": 1}, {key: "2", "a": 1}]));
        let merged = strategic(&current, &tree(json!([{key: "2", "b": 2}])));
        assert_eq!(merged, Ok(tree(json!([{key: "1", "a": 1}, {key: "2", "a": 1, "b": 2}]))), "{at}");
        let error = strategic(&current, &tree(json!([{"b": 2}]))).unwrap_err();
        assert!(error.ends_with(&format!("does not contain declared merge key: {key}")), "{at}: {error}");
    }
    for atomic in ["tolerations", "readinessGates"] {
        let merged =
            strategic(&json!({"spec": {atomic: [{"key": "1"}]}}), &json!({"spec": {atomic: [{"key": "2"}]}}));
        assert_eq!(merged, Ok(json!({"spec": {atomic: [{"key": "2"}]}})), "{atomic}");
    }
}

#[test]
fn a_bad_patch_says_what_is_wrong() {
    let pod = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "a"}]}});
    for (kind, patch, expected) in [
        (PatchType::Strategic, json!(["x"]), "a strategic merge patch is an object"),
        (
            PatchType::Strategic,
            json!({"metadata": {"$patch": "merge"}}),
            "$patch: \"merge\" is not known: expected \"replace\" or \"delete\"",
        ),
        (
            PatchType::Strategic,
            json!({"metadata": {"$retainKeys": ["a"], "b": "1"}}),
            "$retainKeys must name all fields of the patch, and \"b\" is missing",
        ),
        (
            PatchType::Strategic,
            json!({"spec": {"$setElementOrder/containers": [{"name": "x"}], "containers": [{"name": "a"}]}}),
            "$setElementOrder/containers must have all items of the patch, and {\"name\":\"a\"} is missing",
        ),
        (
            PatchType::Strategic,
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}),
            "$deleteFromPrimitiveList/finalizers must be a list",
        ),
        (PatchType::Merge, json!("x"), "the patch makes something of the pod that is no object"),
        (
            PatchType::Json,
            json!([{"op": "test", "path": "/metadata/labels/a", "value": "2"}]),
            "the server rejected our request due to an error in our request: operation '/0' failed at path \
             '/metadata/labels/a': value did not match",
        ),
        (
            PatchType::Json,
            json!([{"op": "remove", "path": "/spec/x"}]),
            "the server rejected our request due to an error in our request: operation '/0' failed at path '/spec/x': \
             path is invalid",
        ),
        (
            PatchType::Json,
            json!([{"op": "replace", "path": "", "value": 1}]),
            "the patch makes something of the pod that is no object",
        ),
        (applied_by("", false), json!({}), "fieldManager: must have 1 to 128 bytes for an apply patch"),
        (
            applied_by("m", false),
            json!({"metadata": {"managedFields": []}}),
            "metadata.managedFields must be nil",
        ),
        (
            applied_by("m", false),
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "TCP"}]}]}}),
            ".spec.containers[0].ports[1]: an item before has the same key",
        ),
    ] {
        assert_eq!(patched(&kind, &pod, &patch), Err(expected.to_owned()), "{patch}");
    }
    for not_a_patch in [
        json!({}),
        json!([{"op": "jump", "path": "/"}]),
        json!([{"op": "add", "path": "no-slash", "value": 1}]),
    ] {
        let error = patched(&PatchType::Json, &pod, &not_a_patch).unwrap_err();
        assert!(error.starts_with("not a JSON patch: "), "{error}");
    }
}

fn applied_by(manager: &str, force: bool) -> PatchType {
    PatchType::Apply { manager: manager.to_owned(), force, now: Timestamp::UNIX_EPOCH }
}

fn labels(labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": labels}})
}

fn managers(pod: &Value) -> Value {
    let entries =
        pod.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| (entry["manager"].as_str().unwrap().to_owned(), entry["fieldsV1"].clone()))
        .collect()
}

#[test]
fn what_a_manager_no_longer_applies_goes_unless_another_has_it() {
    let first =
        apply(&applied_by("one", false), &Value::Null, &labels(json!({"a": "1", "b": "1", "c": "1"})))
            .unwrap();
    let shared = apply(&applied_by("two", false), &first, &labels(json!({"b": "1"}))).unwrap();
    let last = apply(&applied_by("one", false), &shared, &labels(json!({"c": "1"}))).unwrap();
    assert_eq!(last["metadata"]["labels"], json!({"b": "1", "c": "1"}));
    assert_eq!(
        managers(&last),
        json!({
            "one": {"f:metadata": {"f:labels": {"f:c": {}}}},
            "two": {"f:metadata": {"f:labels": {"f:b": {}}}},
        })
    );
    let none = json!({"metadata": {"name": "web"}});
    let nothing = apply(&applied_by("two", false), &last, &none).unwrap();
    let nothing = apply(&applied_by("one", false), &nothing, &none).unwrap();
    assert_eq!(nothing["metadata"], json!({"name": "web"}));
}

#[test]
fn another_managers_value_is_a_conflict_and_force_takes_it_over() {
    let first = apply(&applied_by("one", false), &Value::Null, &labels(json!({"a": "1", "b": "1"}))).unwrap();
    let other = labels(json!({"a": "2", "b": "1"}));
    let conflict = apply(&applied_by("two", false), &first, &other).unwrap_err().into_api("web");
    assert_eq!((conflict.code, conflict.reason), (409, "Conflict"));
    assert_eq!(conflict.message, "Apply failed with 1 conflict: conflict with \"one\": .metadata.labels.a");
    assert_eq!(conflict.causes[0].reason, "FieldManagerConflict");
    assert_eq!(conflict.causes[0].field, ".metadata.labels.a");

    let both = labels(json!({"a": "2", "b": "2"}));
    let conflicts = apply(&applied_by("two", false), &first, &both).unwrap_err().into_api("web");
    assert_eq!(
        conflicts.message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .metadata.labels.a\n- .metadata.labels.b"
    );

    let forced = apply(&applied_by("two", true), &first, &other).unwrap();
    assert_eq!(forced["metadata"]["labels"], json!({"a": "2", "b": "1"}));
    assert_eq!(
        managers(&forced),
        json!({
            "one": {"f:metadata": {"f:labels": {"f:b": {}}}},
            "two": {"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}},
        })
    );
}

#[test]
fn items_belong_to_those_who_apply_them() {
    let of = |containers: Value| json!({"metadata": {"name": "web"}, "spec": {"containers": containers}});
    let ports = json!([{"containerPort": 80, "name": "http"}]);
    let first = of(json!([{"name": "a", "image": "a:1", "ports": ports}, {"name": "b", "image": "b:1"}]));
    let first = apply(&applied_by("one", false), &Value::Null, &first).unwrap();
    assert_eq!(
        managers(&first)["one"]["f:spec"]["f:containers"],
        json!({
            "k:{\"name\":\"a\"}": {
                ".": {}, "f:name": {}, "f:image": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}}},
            },
            "k:{\"name\":\"b\"}": {".": {}, "f:name": {}, "f:image": {}},
        })
    );
    // What defaulting adds is nobody's and stays with its item.
    let mut live = first;
    live["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let second = of(json!([{"name": "b", "args": ["x"]}]));
    let live = apply(&applied_by("two", false), &live, &second).unwrap();
    let last = apply(&applied_by("one", false), &live, &of(json!([{"name": "a", "image": "a:2"}]))).unwrap();
    assert_eq!(
        last["spec"]["containers"],
        json!([
            {"name": "a", "image": "a:2", "imagePullPolicy": "Always"},
            {"name": "b", "args": ["x"]},
        ])
    );
    let gone = apply(&applied_by("one", false), &last, &of(json!([]))).unwrap();
    assert_eq!(gone["spec"]["containers"], json!([{"name": "b", "args": ["x"]}]));
}

#[test]
fn what_others_change_by_other_means_is_theirs() {
    let live = apply(&applied_by("one", false), &Value::Null, &labels(json!({"a": "1", "b": "1"}))).unwrap();
    let mut edited = live.clone();
    edited["metadata"]["labels"] = json!({"a": "2", "c": "1"});
    track(&live, &mut edited, "edit", Timestamp::UNIX_EPOCH);
    assert_eq!(managers(&edited), json!({"edit": {"f:metadata": {"f:labels": {"f:a": {}, "f:c": {}}}}}));
    let error =
        apply(&applied_by("one", false), &edited, &labels(json!({"a": "1"}))).unwrap_err().into_api("web");
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"edit\" using v1 at 1970-01-01T00:00:00Z: .metadata.labels.a"
    );
    let mut reset = edited.clone();
    reset["metadata"]["managedFields"] = json!([]);
    track(&edited, &mut reset, "edit", Timestamp::UNIX_EPOCH);
    assert_eq!(reset["metadata"].get("managedFields"), None);
}

#[test]
fn what_was_there_before_the_first_apply_is_somebodys() {
    let live = labels(json!({"a": "1"}));
    let error =
        apply(&applied_by("one", false), &live, &labels(json!({"a": "2"}))).unwrap_err().into_api("web");
    assert!(error.message.contains("conflict with \"before-first-apply\""), "{}", error.message);
    let same = apply(&applied_by("one", false), &live, &labels(json!({"a": "1", "b": "2"}))).unwrap();
    assert_eq!(same["metadata"]["labels"], json!({"a": "1", "b": "2"}));
}

#[test]
fn to_apply_the_same_again_changes_nothing() {
    let config = labels(json!({"a": "1"}));
    let once = apply(&applied_by("one", false), &Value::Null, &config).unwrap();
    let later = PatchType::Apply { manager: "one".to_owned(), force: false, now: Timestamp::MAX };
    assert_eq!(apply(&later, &once, &config), Ok(once.clone()));
    let both = apply(&applied_by("two", false), &once, &config).unwrap();
    assert_eq!(apply(&later, &both, &config), Ok(both), "nor does it change the order of the managers");
}

#[test]
fn long_lists_take_no_longer_than_they_are() {
    let began = std::time::Instant::now();
    let texts = |prefix: &str| (0..10_000).map(|i| format!("{prefix}/{i}")).collect::<Value>();
    let named = |prefix: &str| {
        (0..10_000).map(|i| json!({"name": format!("{prefix}{i}"), "value": "x"})).collect::<Value>()
    };
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let env = |list: Value| json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a", "env": list}]}});
    let deleted =
        (0..10_000).map(|i| json!({"$patch": "delete", "name": format!("a{i}")})).collect::<Value>();
    for (current, patch, at, items) in [
        (finalizers(texts("a")), finalizers(texts("b")), "/metadata/finalizers", 20_000),
        (env(named("a")), env(named("b")), "/spec/containers/0/env", 20_000),
        (env(named("a")), env(deleted), "/spec/containers/0/env", 0),
    ] {
        let merged = strategic(&current, &patch).unwrap();
        assert_eq!(merged.pointer(at).and_then(Value::as_array).map(Vec::len), Some(items));
    }
    for (first, second, at) in [
        (finalizers(texts("a")), finalizers(texts("b")), "/metadata/finalizers"),
        (env(named("a")), env(named("b")), "/spec/containers/0/env"),
    ] {
        let applied = apply(&applied_by("one", false), &first, &first).unwrap();
        let applied = apply(&applied_by("two", false), &applied, &second).unwrap();
        let list = |pod: &Value| pod.pointer(at).and_then(Value::as_array).map(Vec::len);
        assert_eq!(list(&applied), Some(20_000));
        let mut fewer = applied.clone();
        track(&applied, &mut fewer, "edit", Timestamp::UNIX_EPOCH);
        let fewer = apply(&applied_by("two", false), &fewer, &json!({"metadata": {"name": "web"}})).unwrap();
        assert_eq!(list(&fewer), Some(10_000));
    }
    // Minutes, if each item were looked for in the others.
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
    let more = finalizers(vec!["a/b"; 10_001].into());
    for kind in [PatchType::Strategic, applied_by("one", false)] {
        let error = apply(&kind, &finalizers(json!(["a/b"])), &more).unwrap_err().into_api("web");
        assert_eq!((error.code, error.reason), (413, "RequestEntityTooLarge"));
        assert!(
            error.message.contains("the list finalizers of the patch has 10001 items"),
            "{}",
            error.message
        );
    }
}

#[test]
fn keys_that_a_client_wrote_in_another_way_are_the_same() {
    let ports = json!([{"containerPort": 80, "protocol": "UDP"}]);
    let pod = |ports: &Value| json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a", "ports": ports}]}});
    let mut live = apply(&applied_by("one", false), &Value::Null, &pod(&ports)).unwrap();
    let at = "/metadata/managedFields/0/fieldsV1/f:spec/f:containers/k:{\"name\":\"a\"}/f:ports";
    let fields = live.pointer_mut(at).unwrap();
    let inner = fields["k:{\"containerPort\":80,\"protocol\":\"UDP\"}"].take();
    *fields = json!({"k:{ \"protocol\": \"UDP\", \"containerPort\": 80 }": inner});
    let without = apply(&applied_by("one", false), &live, &pod(&json!([]))).unwrap();
    assert_eq!(without["spec"]["containers"][0]["ports"], json!([]));
}

/// JSON without nulls, as a pod has it.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<u8>().prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-d]", inner, 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    btree_map("[a-d]", value(), 0..4).prop_map(|fields| fields.into_iter().collect())
}

/// A list of containers with different names, and things in them that merge in different ways.
fn containers() -> impl Strategy<Value = Value> {
    let env = btree_map("[xyz]", "[ab]", 0..3).prop_map(|env| {
        env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Value>()
    });
    let container = (env, vec("[ab]", 0..3)).prop_map(|(env, args)| json!({"env": env, "args": args}));
    btree_map("[a-e]", container, 0..5).prop_map(|containers| {
        let named = containers.into_iter().map(|(name, mut container)| {
            container["name"] = name.into();
            container
        });
        json!({"spec": {"containers": named.collect::<Value>()}})
    })
}

/// The merge patch that makes `to` of `from`.
fn diff(from: &Value, to: &Value) -> Value {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            let gone =
                from.keys().filter(|name| !to.contains_key(*name)).map(|name| (name.clone(), Value::Null));
            let new = to.iter().filter(|(name, value)| from.get(*name) != Some(value));
            let new =
                new.map(|(name, value)| (name.clone(), diff(from.get(name).unwrap_or(&Value::Null), value)));
            gone.chain(new).collect()
        }
        (_, to) => to.clone(),
    }
}

proptest! {
    #[test]
    fn the_merge_patch_of_a_difference_makes_the_target(from in object(), to in object()) {
        let patch = diff(&from, &to);
        prop_assert_eq!(apply(&PatchType::Merge, &from, &patch), Ok(to.clone()));
        // Without lists that have keys a strategic merge patch is the same.
        prop_assert_eq!(apply(&PatchType::Strategic, &from, &patch), Ok(to));
    }

    #[test]
    fn a_strategic_patch_of_the_whole_is_idempotent(from in containers(), patch in containers()) {
        let once = apply(&PatchType::Strategic, &from, &patch).unwrap();
        prop_assert_eq!(apply(&PatchType::Strategic, &once, &patch), Ok(once.clone()));
        let names = |pod: &Value| pod["spec"]["containers"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect::<Vec<_>>();
        for name in names(&from).iter().chain(&names(&patch)) {
            prop_assert_eq!(names(&once).iter().filter(|other| *other == name).count(), 1);
        }
    }

    #[test]
    fn the_last_to_apply_by_force_gets_what_it_asked_for(configs in vec((0..3_u8, containers()), 1..6)) {
        let mut live = Value::Null;
        let mut last = std::collections::BTreeMap::new();
        for (manager, config) in configs {
            let config = diff(&Value::Null, &config);
            live = apply(&applied_by(&manager.to_string(), true), &live, &json!({"metadata": {"name": "x"}, "spec": config["spec"]})).unwrap();
            // Nothing of it is missing: to merge it once more changes nothing.
            prop_assert_eq!(apply(&PatchType::Strategic, &live, &config), Ok(live.clone()));
            last.insert(manager, config);
        }
        // And nothing is left when all of them want nothing any more.
        for manager in last.keys() {
            live = apply(&applied_by(&manager.to_string(), true), &live, &json!({"metadata": {"name": "x"}})).unwrap();
        }
        prop_assert_eq!(live, json!({"metadata": {"name": "x"}}));
    }

    #[test]
    fn no_patch_panics(current in value(), patch in value()) {
        for kind in [PatchType::Json, PatchType::Merge, PatchType::Strategic, applied_by("m", true)] {
            let _ = apply(&kind, &current, &patch);
        }
    }
}
