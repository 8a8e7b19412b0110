use super::*;
use crate::test_pods::{pod, spec};

/// The security context of the only container, `app`, with these two contexts.
fn context(pod_context: &str, own: &str) -> Result<LinuxContainerSecurityContext, FieldError> {
    context_in(&with_contexts(pod_context, own), &Settings::default())
}

fn with_contexts(pod_context: &str, own: &str) -> Pod {
    pod(&format!(
        r#"{{"securityContext":{pod_context},"containers":[{{"name":"app","securityContext":{own}}}]}}"#
    ))
}

fn context_in(pod: &Pod, settings: &Settings) -> Result<LinuxContainerSecurityContext, FieldError> {
    of_container(pod, spec(pod), &spec(pod).containers[0], &ImageUser::Uid(7), &[], settings)
}

#[test]
fn a_containers_user_comes_from_itself_then_the_pod_then_the_image() {
    for (pod_context, own, image, want) in [
        ("{}", "{}", ImageUser::new(None, ""), (Some(0), "")),
        ("{}", "{}", ImageUser::new(Some(5), "x"), (Some(5), "")),
        ("{}", "{}", ImageUser::new(None, "nobody"), (None, "nobody")),
        (r#"{"runAsUser":3}"#, "{}", ImageUser::new(None, "nobody"), (Some(3), "")),
        (r#"{"runAsUser":3}"#, r#"{"runAsUser":4}"#, ImageUser::Uid(5), (Some(4), "")),
    ] {
        let pod = with_contexts(pod_context, own);
        let got =
            of_container(&pod, spec(&pod), &spec(&pod).containers[0], &image, &[], &Settings::default())
                .unwrap();
        assert_eq!((got.run_as_user.map(|u| u.value), got.run_as_username.as_str()), want);
    }
}

#[test]
fn non_root_is_checked_against_the_user_that_it_would_be() {
    let image_root = "container has runAsNonRoot and image will run as root";
    for (pod_context, own, image, problem) in [
        ("{}", "{}", ImageUser::Uid(0), None),
        ("{}", r#"{"runAsNonRoot":false}"#, ImageUser::Uid(0), None),
        ("{}", r#"{"runAsNonRoot":true}"#, ImageUser::Uid(1), None),
        ("{}", r#"{"runAsNonRoot":true}"#, ImageUser::Uid(0), Some(image_root)),
        (r#"{"runAsNonRoot":true}"#, "{}", ImageUser::Uid(0), Some(image_root)),
        (r#"{"runAsNonRoot":true}"#, r#"{"runAsNonRoot":false}"#, ImageUser::Uid(0), None),
        (r#"{"runAsNonRoot":true,"runAsUser":9}"#, "{}", ImageUser::Uid(0), None),
        (
            r#"{"runAsNonRoot":true,"runAsUser":0}"#,
            "{}",
            ImageUser::Uid(9),
            Some("container's runAsUser breaks non-root policy"),
        ),
        (
            "{}",
            r#"{"runAsNonRoot":true}"#,
            ImageUser::Name("app".into()),
            Some(
                "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
            ),
        ),
    ] {
        let pod = with_contexts(pod_context, own);
        let got = check_run_as_non_root(&pod, &spec(&pod).containers[0], &image);
        let want = problem.map(|p| format!("{p} (pod: \"web_ns(uid-1)\", container: app)"));
        assert_eq!(got.err().map(|e| e.to_string()), want, "{pod_context} {own}");
    }
}

#[test]
fn groups_are_the_volumes_group_and_then_the_listed_ones() {
    let got = context(
        r#"{"fsGroup":1,"supplementalGroups":[2,3],"supplementalGroupsPolicy":"Strict","runAsGroup":4}"#,
        "{}",
    )
    .unwrap();
    assert_eq!(got.supplemental_groups, [1, 2, 3]);
    assert_eq!(got.supplemental_groups_policy(), SupplementalGroupsPolicy::Strict);
    assert_eq!(got.run_as_group, Some(Int64Value { value: 4 }));
}

#[test]
fn a_containers_own_privileges_are_its_own() {
    let got = context(
        r#"{"seLinuxOptions":{"level":"s0"}}"#,
        r#"{"capabilities":{"add":["NET_ADMIN"],"drop":["ALL"]},"privileged":true,"readOnlyRootFilesystem":true,
            "allowPrivilegeEscalation":false,"procMount":"Unmasked"}"#,
    )
    .unwrap();
    let capabilities = got.capabilities.unwrap();
    assert_eq!(
        (capabilities.add_capabilities, capabilities.drop_capabilities),
        (vec!["NET_ADMIN".into()], vec!["ALL".into()])
    );
    assert!(got.privileged && got.readonly_rootfs && got.no_new_privs);
    assert!(got.masked_paths.is_empty() && got.readonly_paths.is_empty());
    assert_eq!(got.selinux_options.unwrap().level, "s0");
}

#[test]
fn the_seccomp_profile_is_the_containers_the_pods_or_the_nodes_default() {
    let local = r#"{"seccompProfile":{"type":"Localhost","localhostProfile":"p/a.json"}}"#;
    let runtime = r#"{"seccompProfile":{"type":"RuntimeDefault"}}"#;
    let none = r#"{"seccompProfile":{"type":"Unconfined"}}"#;
    for (pod_context, own, default, kind, path) in [
        ("{}", "{}", false, ProfileType::Unconfined, ""),
        ("{}", "{}", true, ProfileType::RuntimeDefault, ""),
        (none, "{}", true, ProfileType::Unconfined, ""),
        (none, runtime, false, ProfileType::RuntimeDefault, ""),
        (runtime, local, false, ProfileType::Localhost, "/var/lib/kubelet/seccomp/p/a.json"),
    ] {
        let settings = Settings { seccomp_default: default, ..Settings::default() };
        let got = context_in(&with_contexts(pod_context, own), &settings).unwrap().seccomp;
        assert_eq!(got, Some(profile(kind, path.into())), "{pod_context} {own}");
    }
}

#[test]
fn the_apparmor_annotation_stands_between_container_and_pod() {
    let pod_field = r#"{"appArmorProfile":{"type":"RuntimeDefault"}}"#;
    let own = r#"{"appArmorProfile":{"type":"Localhost","localhostProfile":"mine"}}"#;
    for (pod_context, own, annotation, want) in [
        ("{}", "{}", None, None),
        (pod_field, "{}", None, Some(("", "runtime/default"))),
        (pod_field, "{}", Some("unconfined"), Some(("", "unconfined"))),
        (pod_field, "{}", Some("localhost/theirs"), Some(("theirs", "localhost/theirs"))),
        (pod_field, own, Some("unconfined"), Some(("mine", "localhost/mine"))),
        ("{}", "{}", Some("what?"), None),
    ] {
        let mut pod = with_contexts(pod_context, own);
        let name = format!("{}app", apparmor::ANNOTATION);
        pod.metadata.annotations = annotation.map(|a| [(name, a.to_owned())].into());
        let got = context_in(&pod, &Settings::default()).unwrap();
        #[expect(deprecated, reason = "older runtimes read only this field")]
        let legacy = got.apparmor_profile;
        let got = got.apparmor.map(|p| (p.localhost_ref, legacy));
        assert_eq!(got, want.map(|(r, l)| (r.to_owned(), l.to_owned())), "{annotation:?}");
    }
}

#[test]
fn a_profile_that_names_nothing_is_refused_with_its_field() {
    for (own, field) in [
        (r#"{"seccompProfile":{"type":"Localhost"}}"#, "securityContext.seccompProfile.localhostProfile"),
        (
            r#"{"seccompProfile":{"type":"Localhost","localhostProfile":"/etc/x"}}"#,
            "securityContext.seccompProfile.localhostProfile",
        ),
        (
            r#"{"seccompProfile":{"type":"Localhost","localhostProfile":"a/../../x"}}"#,
            "securityContext.seccompProfile.localhostProfile",
        ),
        (r#"{"seccompProfile":{"type":"Magic"}}"#, "securityContext.seccompProfile.type"),
        (r#"{"appArmorProfile":{"type":"Localhost"}}"#, "securityContext.appArmorProfile.localhostProfile"),
        (r#"{"appArmorProfile":{"type":""}}"#, "securityContext.appArmorProfile.type"),
    ] {
        let pod = with_contexts("{}", own);
        let error = context_in(&pod, &Settings::default()).unwrap_err().of_container(&pod, "app").to_string();
        assert!(error.starts_with(&format!("pod ns/web, container app: {field}: ")), "{error}");
    }
    let bad = context(r#"{"supplementalGroupsPolicy":"Both"}"#, "{}").unwrap_err();
    assert!(bad.of_pod(&pod("{}")).to_string().contains("spec.securityContext.supplementalGroupsPolicy"));
}
