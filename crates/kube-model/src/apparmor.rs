//! Which AppArmor profile a container has. Rule: upstream `pkg/security/apparmor` `GetProfile`.

use crate::core::{AppArmorProfile, Pod, SecurityContext};
use crate::pod;

/// Pod annotation, with the container's name behind it: the profile as it was given before Kubernetes 1.30.
pub const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The profile of the container with this name and security context: its own, that of its annotation, which may be all
/// that a static pod has, or the pod's.
pub fn profile(pod: &Pod, container: &str, own: Option<&SecurityContext>) -> Option<AppArmorProfile> {
    let shared = || pod.spec.as_ref()?.security_context.as_ref()?.app_armor_profile.clone();
    own.and_then(|own| own.app_armor_profile.clone()).or_else(|| annotated(pod, container)).or_else(shared)
}

fn annotated(pod: &Pod, container: &str) -> Option<AppArmorProfile> {
    let value = pod::annotation(pod, &format!("{ANNOTATION}{container}"))?;
    let (type_, name) = match value.strip_prefix("localhost/") {
        Some(name) => ("Localhost", Some(name.to_owned())),
        None if value == "runtime/default" => ("RuntimeDefault", None),
        None if value == "unconfined" => ("Unconfined", None),
        None => return None,
    };
    Some(AppArmorProfile { type_: type_.to_owned(), localhost_profile: name })
}
