//! AppArmor: a profile that nobody can enforce is no protection.
//! Rule: upstream `pkg/security/apparmor` `Validate`, `pkg/kubelet/lifecycle/handlers.go`.

use kube_model::apparmor::{ANNOTATION, profile};
use kube_model::core::{Container, Pod, PodSpec, SecurityContext};
use kube_model::pod;

use crate::Rejection;

/// Whether the profiles of the pod can be enforced on a node where AppArmor is `enabled`.
pub(crate) fn admits(pod: &Pod, spec: &PodSpec, enabled: bool) -> Result<(), Rejection> {
    if !is_required(pod, spec) {
        return Ok(());
    }
    let problem = match enabled {
        false => Some("AppArmor is not enabled on the host".to_owned()),
        true => every(spec).find_map(|(name, context)| nameless(pod, name, context)),
    };
    problem.map_or(Ok(()), |problem| {
        Err(Rejection {
            reason: "AppArmor".to_owned(),
            message: format!("Cannot enforce AppArmor: {problem}"),
        })
    })
}

/// Whether any profile is named that confines.
fn is_required(pod: &Pod, spec: &PodSpec) -> bool {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let of_containers = every(spec).filter_map(|(_, context)| context?.app_armor_profile.as_ref());
    let mut annotations =
        pod.metadata.annotations.iter().flatten().filter(|(key, _)| key.starts_with(ANNOTATION));
    of_pod.into_iter().chain(of_containers).any(|profile| profile.type_ != "Unconfined")
        || annotations.any(|(_, value)| value != "unconfined")
}

/// What is wrong with a profile of the node that has no name.
fn nameless(pod: &Pod, container: &str, context: Option<&SecurityContext>) -> Option<String> {
    let profile = profile(pod, container, context).filter(|profile| profile.type_ == "Localhost")?;
    let name = profile.localhost_profile.unwrap_or_default();
    name.trim().is_empty().then(|| format!("invalid empty AppArmor profile name: {name:?}"))
}

/// Every container with its security context, ephemeral ones too.
fn every(spec: &PodSpec) -> impl Iterator<Item = (&str, Option<&SecurityContext>)> {
    let all =
        pod::containers(spec).map(|(_, Container { name, security_context, .. })| (name, security_context));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.name, &c.security_context));
    all.chain(ephemeral).map(|(name, context)| (name.as_str(), context.as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn verdict(annotation: &str, spec: Value, enabled: bool) -> String {
        let annotations = match annotation {
            "" => json!({}),
            value => json!({ (format!("{ANNOTATION}app")): value }),
        };
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": spec})).unwrap();
        let verdict = admits(&pod, pod.spec.as_ref().unwrap(), enabled);
        verdict.map_or_else(
            |rejection| format!("{}: {}", rejection.reason, rejection.message),
            |()| String::new(),
        )
    }

    #[test]
    fn a_profile_needs_a_node_that_enforces_it() {
        const OFF: &str = "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host";
        const EMPTY: &str = "AppArmor: Cannot enforce AppArmor: invalid empty AppArmor profile name: \"\"";
        let profile = |kind: &str| json!({"securityContext": {"appArmorProfile": {"type": kind}}});
        let of_pod = |kind: &str| {
            let mut spec = profile(kind);
            spec["containers"] = json!([{"name": "app"}]);
            spec
        };
        let of = |list: &str, kind: &str| {
            let mut container = profile(kind);
            container["name"] = json!("c");
            json!({"containers": [], (list): [container]})
        };
        let plain = || json!({"containers": [{"name": "app"}]});
        for (annotation, spec, off, on) in [
            ("", plain(), "", ""),
            ("", of_pod("RuntimeDefault"), OFF, ""),
            ("", of_pod("Unconfined"), "", ""),
            ("", of("containers", "RuntimeDefault"), OFF, ""),
            ("", of("initContainers", "RuntimeDefault"), OFF, ""),
            ("", of("ephemeralContainers", "RuntimeDefault"), OFF, ""),
            ("", of("containers", "Unconfined"), "", ""),
            ("runtime/default", plain(), OFF, ""),
            ("localhost/mine", plain(), OFF, ""),
            ("localhost/", plain(), OFF, EMPTY),
            ("runtime/default", of_pod("Localhost"), OFF, ""),
            ("unconfined", plain(), "", ""),
            ("", of("containers", "Localhost"), OFF, EMPTY),
        ] {
            assert_eq!(verdict(annotation, spec.clone(), false), off, "{annotation} {spec}");
            assert_eq!(verdict(annotation, spec.clone(), true), on, "{annotation} {spec}");
        }
    }
}
