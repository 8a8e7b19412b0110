use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const CONTENT: Attributes = Attributes { read_only: true, selinux_relabel: true };
const OWN: Attributes = Attributes { read_only: false, selinux_relabel: true };
const HOST: Attributes = Attributes { read_only: false, selinux_relabel: false };

/// The mounts of a container, one `volume/index container-path [sub-path] flags` each.
fn mounts(volume_mounts: Value, recursive: bool) -> Result<String, String> {
    let container: Container =
        serde_json::from_value(json!({"name": "app", "volumeMounts": volume_mounts})).unwrap();
    let attributes = |volume: &str| match volume {
        "cm" => Some(CONTENT),
        "empty" => Some(OWN),
        "host" => Some(HOST),
        _ => None,
    };
    let variable = |name: &str| match name {
        "POD" => Some("web".into()),
        "UP" => Some("../up".into()),
        "ABS" => Some("/abs".into()),
        "NONE" => Some("".into()),
        _ => None,
    };
    let line = |mount: ContainerMount<'_>| {
        let sub_path =
            mount.sub_path.map(|p| format!(" [{}{}]", p.path, if p.create { "" } else { " if there" }));
        let flags = [
            (mount.read_only, " ro"),
            (mount.recursive_read_only, " rro"),
            (mount.selinux_relabel, " Z"),
            (mount.propagation == Propagation::HostToContainer, " slave"),
            (mount.propagation == Propagation::Bidirectional, " shared"),
        ];
        let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
        let (volume, index) = (mount.volume, mount.index);
        format!("{volume}/{index} {}{}{flags}", mount.container_path, sub_path.unwrap_or_default())
    };
    let mounts = container_mounts(&container, attributes, variable, recursive);
    mounts.map(|all| all.into_iter().map(line).collect::<Vec<_>>().join("; ")).map_err(|e| e.to_string())
}

#[test]
fn mounts_are_in_the_order_of_the_spec_as_the_volume_allows() {
    for (case, list, want) in [
        ("none", json!([]), ""),
        (
            "order, content is read-only by itself, each mount is relabelled",
            json!([{"name": "empty", "mountPath": "/z"}, {"name": "cm", "mountPath": "/c"},
                   {"name": "empty", "mountPath": "/y", "readOnly": true}, {"name": "host", "mountPath": "/h"}]),
            "empty/0 /z Z; cm/1 /c ro Z; empty/2 /y ro Z; host/3 /h",
        ),
        ("a path that is not absolute", json!([{"name": "host", "mountPath": "a/b"}]), "host/0 /a/b"),
        (
            "sub-paths; what is the agent's content is not made",
            json!([{"name": "empty", "mountPath": "/a", "subPath": "x/./y/"}, {"name": "cm", "mountPath": "/b", "subPath": "k"},
                   {"name": "empty", "mountPath": "/c", "subPath": ""}, {"name": "empty", "mountPath": "/d", "subPath": "..x"}]),
            "empty/0 /a [x/./y/] Z; cm/1 /b [k if there] ro Z; empty/2 /c Z; empty/3 /d [..x] Z",
        ),
        (
            "variables",
            json!([{"name": "host", "mountPath": "/a", "subPathExpr": "$(POD)/$$(POD)"}]),
            "host/0 /a [web/$(POD)]",
        ),
        (
            "propagation",
            json!([{"name": "host", "mountPath": "/a", "mountPropagation": "None"},
                   {"name": "host", "mountPath": "/b", "mountPropagation": "HostToContainer"},
                   {"name": "host", "mountPath": "/c", "mountPropagation": "Bidirectional"}]),
            "host/0 /a; host/1 /b slave; host/2 /c shared",
        ),
        (
            "recursively read-only",
            json!([{"name": "host", "mountPath": "/a", "readOnly": true, "recursiveReadOnly": "Enabled"},
                   {"name": "host", "mountPath": "/b", "readOnly": true, "recursiveReadOnly": "IfPossible"},
                   {"name": "host", "mountPath": "/c", "readOnly": true, "recursiveReadOnly": "Disabled"}]),
            "host/0 /a ro rro; host/1 /b ro rro; host/2 /c ro",
        ),
    ] {
        assert_eq!(mounts(list, true).as_deref(), Ok(want), "{case}");
    }
    let possible =
        json!([{"name": "host", "mountPath": "/b", "readOnly": true, "recursiveReadOnly": "IfPossible"}]);
    assert_eq!(mounts(possible, false).as_deref(), Ok("host/0 /b ro"));
}

#[test]
fn what_cannot_be_mounted_is_said_in_the_kubelets_words() {
    let expression = |text: &str| json!([{"name": "empty", "mountPath": "/a", "subPathExpr": text}]);
    let path = |text: &str| json!([{"name": "empty", "mountPath": "/a", "subPath": text}]);
    let recursive = |more: Value| {
        let mut mount = json!({"name": "host", "mountPath": "/a", "recursiveReadOnly": "Enabled"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([mount])
    };
    let asked = "failed to resolve recursive read-only mode: volume \"host\" requested recursive read-only mode, but it is ";
    for (list, want) in [
        (
            json!([{"name": "gone", "mountPath": "/a"}]),
            "cannot find volume \"gone\" to mount into container \"app\"".to_owned(),
        ),
        (expression("$(NOPE)"), "missing value for NOPE".to_owned()),
        (expression("$(NONE)"), "missing value for NONE".to_owned()),
        (expression("x-$(NOPE)-$(ALSO)-$(NOPE)-$(POD)"), "missing value for ALSO, NOPE".to_owned()),
        (expression("a/$(UP)"), "unable to provision SubPath `a/../up`: must not contain '..'".to_owned()),
        (expression("$(ABS)"), "error SubPath `/abs` must not be an absolute path".to_owned()),
        (path("a/../b"), "unable to provision SubPath `a/../b`: must not contain '..'".to_owned()),
        (path("/a"), "error SubPath `/a` must not be an absolute path".to_owned()),
        (
            json!([{"name": "host", "mountPath": "/a", "mountPropagation": "Sideways"}]),
            "invalid MountPropagation mode: \"Sideways\"".to_owned(),
        ),
        (recursive(json!({})), format!("{asked}not read-only")),
        (
            recursive(json!({"readOnly": true, "mountPropagation": "HostToContainer"})),
            format!("{asked}not compatible with propagation \"HostToContainer\""),
        ),
        (recursive(json!({"readOnly": true})), format!("{asked}not supported by the runtime")),
        (
            recursive(json!({"readOnly": true, "recursiveReadOnly": "Half"})),
            "failed to resolve recursive read-only mode: unknown recursive read-only mode \"Half\""
                .to_owned(),
        ),
    ] {
        assert_eq!(mounts(list.clone(), false), Err(want), "{list}");
    }
}

#[test]
fn folders_are_made_for_what_is_mounted_within_a_volume() {
    let pod = |containers: Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": containers})).unwrap()
    };
    let at = |name: &str, path: &str| json!({"name": name, "mountPath": path});
    let two = pod(json!({
        "initContainers": [{"name": "i", "volumeMounts": [at("v", "/dir/"), at("w", "/dir/init")]}],
        "containers": [{"name": "c", "volumeMounts": [
            at("v", "/dir"), at("w", "/dir/nested"), at("x", "/dir/nested-vol"), at("y", "/dir/nested.vol"),
            at("z", "/dir/nested/double"), at("z", "/dir/nested2//deep/./er"), at("z", "/directory/x"), at("z", "/dir/../up"),
            at("z", "/other")]}],
        "ephemeralContainers": [{"name": "e", "volumeMounts": [at("v", "/d"), at("w", "/d/debug")]}]
    }));
    let points = |volume| nested_mount_points(&two, volume).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(points("v"), "debug init nested nested-vol nested.vol nested2/deep/er");
    assert_eq!(points("w"), "double");
    assert_eq!(points("z"), "");
}

proptest! {
    #[test]
    fn no_part_of_a_volume_starts_elsewhere_or_goes_up(
        expression in "[$()/.A-C]{0,12}", a in "[/.a]{0,4}", b in "(\\.\\./|/)?x?"
    ) {
        let mount = json!({"name": "v", "mountPath": "x", "subPathExpr": expression});
        let container: Container = serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).unwrap();
        let variable = |name: &str| match name {
            "A" => Some(Cow::Borrowed(a.as_str())),
            "B" => Some(Cow::Borrowed(b.as_str())),
            _ => None,
        };
        if let Ok(mounts) = container_mounts(&container, |_| Some(OWN), variable, true) {
            prop_assert_eq!(&mounts[0].container_path, "/x");
            for part in mounts.iter().filter_map(|mount| mount.sub_path.as_ref()) {
                prop_assert!(!part.path.is_empty() && !part.path.starts_with('/'), "{}", part.path);
                prop_assert!(part.path.split('/').all(|name| name != ".."), "{}", part.path);
            }
        }
    }
}
