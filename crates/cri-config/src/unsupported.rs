//! What a pod can ask for that the agent does not do yet. Nothing of such a pod is started, whoever created it: to run
//! it without would be worse than not to run it. This is the only list, but for ephemeral containers, which hold up
//! nothing but themselves (`pod-lifecycle` says so of them); it shrinks as the agent grows.

use std::fmt;

use kube_model::core::Pod;
use kube_model::pod;

/// A field of a pod that the agent cannot honour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// As Kubernetes writes it: `spec.containers[app].resources.claims`.
    pub field: String,
    /// Why it cannot be honoured.
    pub why: &'static str,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// Everything in `pod` that the agent cannot honour; empty for a pod that can be run.
pub fn unsupported(pod: &Pod) -> Vec<Unsupported> {
    const NO_CLAIMS: &str = "dynamic resource allocation is not supported yet";
    const NO_RUNTIME_CLASS: &str = "runtime classes are not supported: they come from an API server";

    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut found = Vec::new();
    let mut add = |here: bool, field: &str, why| {
        if here {
            found.push(Unsupported { field: format!("spec.{field}"), why });
        }
    };
    let any = |list: Option<usize>| list.is_some_and(|len| len > 0);

    for (kind, container) in pod::containers(spec) {
        let claims = container.resources.as_ref().and_then(|r| r.claims.as_ref());
        // This is asked before each plan: no text is made of what is not there.
        if any(claims.map(Vec::len)) {
            let list = if kind == pod::ContainerKind::Regular { "containers" } else { "initContainers" };
            add(true, &format!("{list}[{}].resources.claims", container.name), NO_CLAIMS);
        }
    }
    add(any(spec.resource_claims.as_ref().map(Vec::len)), "resourceClaims", NO_CLAIMS);
    add(
        spec.runtime_class_name.as_ref().is_some_and(|n| !n.is_empty()),
        "runtimeClassName",
        NO_RUNTIME_CLASS,
    );
    add(spec.overhead.as_ref().is_some_and(|o| !o.is_empty()), "overhead", NO_RUNTIME_CLASS);
    add(spec.host_users == Some(false), "hostUsers", "user namespaces are not supported yet");
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pods::pod;

    fn fields(spec: &str) -> String {
        unsupported(&pod(spec)).iter().map(|u| u.field.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_thing_that_is_not_built_is_named() {
        for (spec, want) in [
            ("{}", ""),
            (r#"{"volumes":[],"hostUsers":true,"os":{"name":"linux"},"runtimeClassName":""}"#, ""),
            (
                r#"{"initContainers":[{"name":"i","volumeMounts":[{"name":"a","mountPath":"/a"},{"name":"a","mountPath":"/b","subPath":"s"}]}],
                    "containers":[{"name":"c","volumeDevices":[{"name":"a","devicePath":"/a"}],
                    "resources":{"claims":[{"name":"x"}]}}]}"#,
                "spec.containers[c].resources.claims",
            ),
            (r#"{"resourceClaims":[{"name":"x"}]}"#, "spec.resourceClaims"),
            // They hold up nothing but themselves.
            (r#"{"ephemeralContainers":[{"name":"x"}]}"#, ""),
            (r#"{"runtimeClassName":"gvisor"}"#, "spec.runtimeClassName"),
            (r#"{"overhead":{"cpu":"1"}}"#, "spec.overhead"),
            (r#"{"hostUsers":false}"#, "spec.hostUsers"),
        ] {
            assert_eq!(fields(spec), want, "{spec}");
        }
    }

    #[test]
    fn it_is_said_in_one_line() {
        let found = unsupported(&pod(r#"{"hostUsers":false}"#));
        assert_eq!(found[0].to_string(), "spec.hostUsers: user namespaces are not supported yet");
    }
}
