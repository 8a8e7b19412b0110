//! What a pod can ask for that the agent does not do yet. Nothing of such a pod is started, whoever created it: to run
//! it without would be worse than not to run it. This is the only list, but for ephemeral containers, which hold up
//! nothing but themselves (`pod-lifecycle` says so of them); it shrinks as the agent grows.

use std::fmt;

use kube_model::core::{Pod, Volume};
use kube_model::pod;

/// A field of a pod that the agent cannot honour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// As Kubernetes writes it: `spec.volumes[data].emptyDir`.
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
    const NO_KIND: &str = "volumes of this kind are not supported yet";
    const NO_DEVICES: &str = "block devices are not supported yet";
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

    for volume in spec.volumes.iter().flatten() {
        if let Some(field) = unsupported_kind(volume) {
            add(true, &format!("volumes[{}].{field}", volume.name), NO_KIND);
        }
    }
    for (kind, container) in pod::containers(spec) {
        let claims = container.resources.as_ref().and_then(|r| r.claims.as_ref());
        let fields = [
            ("volumeDevices", container.volume_devices.as_ref().map(Vec::len), NO_DEVICES),
            ("resources.claims", claims.map(Vec::len), NO_CLAIMS),
        ];
        // This is asked before each plan: no text is made of what is not there.
        for (field, _, why) in fields.into_iter().filter(|(_, list, _)| any(*list)) {
            let list = if kind == pod::ContainerKind::Regular { "containers" } else { "initContainers" };
            add(true, &format!("{list}[{}].{field}", container.name), why);
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

/// The field that says what a volume is, if volumes of that kind are not mounted yet. One without any is an `emptyDir`.
fn unsupported_kind(volume: &Volume) -> Option<String> {
    let Volume { empty_dir, host_path, image, config_map, secret, downward_api, projected, .. } = volume;
    let content = config_map.is_some() || secret.is_some() || downward_api.is_some() || projected.is_some();
    if content || empty_dir.is_some() || host_path.is_some() || image.is_some() {
        return None;
    }
    let json = serde_json::to_value(volume).unwrap_or_default();
    json.as_object()?.keys().find(|name| *name != "name").cloned()
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
                r#"{"volumes":[{"name":"a"},{"name":"b","emptyDir":{}},{"name":"c","image":{"reference":"i"}},
                    {"name":"d","hostPath":{"path":"/"}},{"name":"e","configMap":{"name":"c"}},
                    {"name":"f","secret":{}},{"name":"g","downwardAPI":{}},{"name":"h","projected":{}},
                    {"name":"i","nfs":{"server":"s","path":"/"}}]}"#,
                "spec.volumes[i].nfs",
            ),
            (
                r#"{"initContainers":[{"name":"i","volumeMounts":[{"name":"a","mountPath":"/a"},{"name":"a","mountPath":"/b","subPath":"s"}]}],
                    "containers":[{"name":"c","volumeDevices":[{"name":"a","devicePath":"/a"}],
                    "resources":{"claims":[{"name":"x"}]}}]}"#,
                "spec.containers[c].volumeDevices \
                 spec.containers[c].resources.claims",
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
