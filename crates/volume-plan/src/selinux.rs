//! The label that a volume is mounted with where SELinux is on, instead of one for each of its files (KEP-1710, upstream
//! `pkg/volume/util/selinux.go`): for volumes that one pod alone may use, of drivers that can (`CSIDriver` `seLinuxMount`).

use std::collections::BTreeSet;

use kube_model::core::{Container, PersistentVolume, PodSpec, SELinuxOptions};
use kube_model::pod;

use crate::csi::access_modes;

/// The label of containers' files in the text of a policy's `contexts/lxc_contexts`, like
/// `system_u:object_r:container_file_t:s0`.
pub fn file_label(lxc_contexts: &str) -> Option<&str> {
    let mut entries = lxc_contexts.lines().filter_map(|line| line.split_once('='));
    let (_, label) = entries.find(|(name, _)| name.trim() == "file")?;
    Some(label.trim().trim_matches('"')).filter(|label| label.splitn(4, ':').count() == 4)
}

/// The label for a volume of a pod, by what its containers are to run as; `default` is that of the policy. None, if the
/// volume is also for others, nobody asks for a label, or no level is named: the runtime chooses one then.
///
/// # Errors
/// In upstream's words: a mount has one label, and the containers ask for several.
pub fn mount_label(
    spec: &PodSpec,
    name: &str,
    volume: &PersistentVolume,
    default: &str,
) -> Result<Option<String>, String> {
    let of_pod = spec.security_context.as_ref();
    let policy = of_pod.and_then(|context| context.se_linux_change_policy.as_deref());
    if access_modes(volume) != ["ReadWriteOncePod"] || policy == Some("Recursive") {
        return Ok(None);
    }
    let of_pod = of_pod.and_then(|context| context.se_linux_options.as_ref());
    let uses = |c: &&Container| c.volume_mounts.iter().flatten().any(|mount| mount.name == name);
    let of = |c: &Container| {
        let own = c.security_context.as_ref().and_then(|context| context.se_linux_options.clone());
        own.or_else(|| of_pod.cloned())
    };
    let options = pod::containers(spec).map(|(_, container)| container).filter(uses).filter_map(of);
    let labels: BTreeSet<Option<String>> = options.map(|options| label(&options, default)).collect();
    if labels.len() > 1 {
        let labels: Vec<_> = labels.into_iter().map(Option::unwrap_or_default).collect();
        return Err(format!("multiple SELinux labels found: {}", labels.join(",")));
    }
    Ok(labels.into_iter().next().flatten())
}

/// Of what a process has, files have user and level.
fn label(options: &SELinuxOptions, default: &str) -> Option<String> {
    let level = options.level.as_deref().filter(|level| !level.is_empty())?;
    let mut parts = default.splitn(4, ':');
    let (user, role, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let user = options.user.as_deref().filter(|user| !user.is_empty()).unwrap_or(user);
    Some(format!("{user}:{role}:{kind}:{level}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DEFAULT: &str = "system_u:object_r:container_file_t:s0";

    fn of(pod: &Value, containers: &[Value], modes: &[&str]) -> Result<Option<String>, String> {
        let mounts = json!([{"name": "v", "mountPath": "/v"}]);
        let containers = containers.iter().enumerate().map(|(i, context)| {
            let mounts = if context.is_null() { json!([]) } else { mounts.clone() };
            json!({"name": i.to_string(), "securityContext": context, "volumeMounts": mounts})
        });
        let spec = json!({"securityContext": pod, "containers": containers.collect::<Vec<_>>()});
        let volume = json!({"spec": {"accessModes": modes}});
        let (spec, volume) = (serde_json::from_value(spec), serde_json::from_value(volume));
        mount_label(&spec.unwrap(), "v", &volume.unwrap(), DEFAULT)
    }

    #[test]
    fn the_label_of_all_containers_that_use_it() {
        let level = |level: &str| json!({"seLinuxOptions": {"level": level}});
        let (pod, own) = (level("s0:c1,c2"), ["ReadWriteOncePod"]);
        let label = "system_u:object_r:container_file_t:s0:c1,c2".to_owned();
        assert_eq!(of(&pod, &[json!({})], &own), Ok(Some(label.clone())));
        assert_eq!(of(&json!({}), &[level("s0:c1,c2"), json!({})], &own), Ok(Some(label.clone())));
        let process =
            json!({"seLinuxOptions": {"user": "u", "role": "r", "type": "spc_t", "level": "s0:c1,c2"}});
        let with_user = Ok(Some("u:object_r:container_file_t:s0:c1,c2".to_owned()));
        assert_eq!(of(&pod, &[process], &own), with_user, "role and type are a process's");
        // One that does not use it may have another.
        assert_eq!(of(&pod, &[json!({}), Value::Null], &own), Ok(Some(label)));
        let two = of(&pod, &[level("s0:c3"), json!({})], &own).unwrap_err();
        assert!(two.starts_with("multiple SELinux labels found: "), "{two}");
    }

    #[test]
    fn no_label_where_others_use_it_or_nobody_asks() {
        let pod = json!({"seLinuxOptions": {"level": "s0:c1,c2"}});
        for modes in [&["ReadWriteOnce"][..], &["ReadWriteOncePod", "ReadOnlyMany"], &[]] {
            assert_eq!(of(&pod, &[json!({})], modes), Ok(None), "{modes:?}");
        }
        assert_eq!(of(&json!({}), &[json!({})], &["ReadWriteOncePod"]), Ok(None));
        let mut recursive = pod.clone();
        recursive["seLinuxChangePolicy"] = json!("Recursive");
        assert_eq!(of(&recursive, &[json!({})], &["ReadWriteOncePod"]), Ok(None));
        let kind = json!({"seLinuxOptions": {"type": "spc_t"}});
        assert_eq!(of(&kind, &[json!({})], &["ReadWriteOncePod"]), Ok(None), "the runtime chooses the level");
    }

    #[test]
    fn the_default_is_the_policys() {
        let text = "process = \"system_u:system_r:container_t:s0\"\ncontent = \"x\"\nfile = \"system_u:object_r:container_file_t:s0\"\n";
        assert_eq!(file_label(text), Some(DEFAULT));
        assert_eq!(file_label("file = \"half\""), None);
        assert_eq!(file_label(""), None);
    }
}
