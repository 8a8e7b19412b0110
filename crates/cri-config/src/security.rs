//! Users, privileges, namespaces and profiles.
//! Rule: upstream `pkg/kubelet/kuberuntime/security_context.go` and `pkg/securitycontext`.

use std::path::{Component, Path};

use kube_model::core::{
    Container, Pod, PodSecurityContext, PodSpec, SELinuxOptions, SeccompProfile, SecurityContext,
};
use kube_model::{apparmor, pod};
use node_proto::cri::v1::security_profile::ProfileType;
use node_proto::cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, UserNamespace,
};

use crate::error::{ConfigError, FieldError};
use crate::paths;
use crate::settings::Settings;

/// What a container with the default `procMount` does not see.
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What it cannot write.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The user that an image runs as if the pod does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// By number.
    Uid(i64),
    /// By name: what number that is only the runtime finds out.
    Name(String),
}

impl ImageUser {
    /// From `uid` and `username` of a CRI image; an image that names nobody runs as root.
    pub fn new(uid: Option<i64>, username: &str) -> Self {
        match uid {
            None if !username.is_empty() => Self::Name(username.to_owned()),
            uid => Self::Uid(uid.unwrap_or(0)),
        }
    }
}

/// Refuses a container that is to run as anybody but root and would not, or for which nobody can tell.
///
/// # Errors
/// [`ConfigError::NonRoot`] in the kubelet's words.
pub(crate) fn check_run_as_non_root(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
) -> Result<(), ConfigError> {
    let (own, shared) = contexts(pod, container);
    let required = own.and_then(|c| c.run_as_non_root).or(shared.and_then(|c| c.run_as_non_root));
    if required != Some(true) {
        return Ok(());
    }
    let user = own.and_then(|c| c.run_as_user).or(shared.and_then(|c| c.run_as_user));
    let problem = match (user, image) {
        (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
        (None, ImageUser::Uid(0)) => "container has runAsNonRoot and image will run as root".to_owned(),
        (None, ImageUser::Name(name)) => format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ),
        _ => return Ok(()),
    };
    let (uid, key) = pod::identity(pod);
    Err(ConfigError::NonRoot { pod: key, uid: uid.to_string(), container: container.name.clone(), problem })
}

/// The security context of a sandbox. Its profile is the runtime's default whatever the pod says.
pub(crate) fn of_sandbox(spec: &PodSpec, more: &[i64]) -> Result<LinuxSandboxSecurityContext, FieldError> {
    let context = spec.security_context.as_ref();
    let privileged = |c: &Container| c.security_context.as_ref().and_then(|c| c.privileged) == Some(true);
    Ok(LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        selinux_options: context.and_then(|c| c.se_linux_options.as_ref()).map(selinux),
        run_as_user: context.and_then(|c| c.run_as_user).map(|value| Int64Value { value }),
        run_as_group: context.and_then(|c| c.run_as_group).map(|value| Int64Value { value }),
        supplemental_groups: groups(context, more),
        supplemental_groups_policy: groups_policy(context)?.into(),
        privileged: pod::containers(spec).any(|(_, c)| privileged(c)),
        seccomp: Some(profile(ProfileType::RuntimeDefault, String::new())),
        ..LinuxSandboxSecurityContext::default()
    })
}

/// The security context of a container: its own settings over the pod's.
pub(crate) fn of_container(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    image: &ImageUser,
    more_groups: &[i64],
    settings: &Settings,
) -> Result<LinuxContainerSecurityContext, FieldError> {
    let (own, shared) = contexts(pod, container);
    let user = own.and_then(|c| c.run_as_user).or(shared.and_then(|c| c.run_as_user));
    let (uid, name) = match (user, image) {
        (Some(uid), _) => (Some(uid), String::new()),
        (None, ImageUser::Uid(uid)) => (Some(*uid), String::new()),
        (None, ImageUser::Name(name)) => (None, name.clone()),
    };
    let group = own.and_then(|c| c.run_as_group).or(shared.and_then(|c| c.run_as_group));
    let selinux_options =
        own.and_then(|c| c.se_linux_options.as_ref()).or(shared.and_then(|c| c.se_linux_options.as_ref()));
    let unmasked = own.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked");
    let paths =
        |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(ToString::to_string).collect() };
    let apparmor = apparmor(pod, container)?;
    Ok(LinuxContainerSecurityContext {
        capabilities: own.and_then(|c| c.capabilities.as_ref()).map(|c| Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            ..Capability::default()
        }),
        privileged: own.and_then(|c| c.privileged).unwrap_or(false),
        namespace_options: Some(namespaces(spec)),
        selinux_options: selinux_options.map(selinux),
        run_as_user: uid.map(|value| Int64Value { value }),
        run_as_group: group.map(|value| Int64Value { value }),
        run_as_username: name,
        readonly_rootfs: own.and_then(|c| c.read_only_root_filesystem).unwrap_or(false),
        supplemental_groups: groups(shared, more_groups),
        supplemental_groups_policy: groups_policy(shared)?.into(),
        no_new_privs: own.and_then(|c| c.allow_privilege_escalation) == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(seccomp(own, shared, settings)?),
        #[expect(deprecated, reason = "older runtimes read only this field")]
        apparmor_profile: apparmor.as_ref().map(legacy_apparmor).unwrap_or_default(),
        apparmor,
        ..LinuxContainerSecurityContext::default()
    })
}

fn contexts<'a>(
    pod: &'a Pod,
    container: &'a Container,
) -> (Option<&'a SecurityContext>, Option<&'a PodSecurityContext>) {
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    (container.security_context.as_ref(), shared)
}

pub(crate) fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let node_or_pod = |node| if node == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => NamespaceMode::Node,
        (_, Some(true)) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    NamespaceOption {
        network: node_or_pod(spec.host_network).into(),
        pid: pid.into(),
        ipc: node_or_pod(spec.host_ipc).into(),
        userns_options: Some(UserNamespace { mode: NamespaceMode::Node.into(), ..UserNamespace::default() }),
        ..NamespaceOption::default()
    }
}

/// Those of the spec, and others.
fn groups(context: Option<&PodSecurityContext>, more: &[i64]) -> Vec<i64> {
    let own = context
        .into_iter()
        .flat_map(|context| context.fs_group.iter().chain(context.supplemental_groups.iter().flatten()));
    own.chain(more).copied().collect()
}

fn groups_policy(context: Option<&PodSecurityContext>) -> Result<SupplementalGroupsPolicy, FieldError> {
    let Some(policy) = context.and_then(|c| c.supplemental_groups_policy.as_deref()) else {
        return Ok(SupplementalGroupsPolicy::Merge);
    };
    SupplementalGroupsPolicy::from_str_name(policy).ok_or_else(|| {
        FieldError::new(
            "spec.securityContext.supplementalGroupsPolicy",
            format!("{policy:?} is neither \"Merge\" nor \"Strict\""),
        )
    })
}

fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}

fn profile(kind: ProfileType, localhost_ref: String) -> SecurityProfile {
    SecurityProfile { profile_type: kind.into(), localhost_ref }
}

fn seccomp(
    own: Option<&SecurityContext>,
    shared: Option<&PodSecurityContext>,
    settings: &Settings,
) -> Result<SecurityProfile, FieldError> {
    let chosen: Option<&SeccompProfile> =
        own.and_then(|c| c.seccomp_profile.as_ref()).or(shared.and_then(|c| c.seccomp_profile.as_ref()));
    Ok(match chosen.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => profile(ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = chosen.and_then(|p| p.localhost_profile.as_deref());
            let name = localhost("securityContext.seccompProfile", name)?;
            if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(FieldError::new(
                    "securityContext.seccompProfile.localhostProfile",
                    format!("{name:?} leaves the folder of profiles"),
                ));
            }
            let path = paths::seccomp_profiles(&settings.root_dir).join(name);
            profile(ProfileType::Localhost, path.to_string_lossy().into_owned())
        }
        None if settings.seccomp_default => profile(ProfileType::RuntimeDefault, String::new()),
        Some("Unconfined") | None => profile(ProfileType::Unconfined, String::new()),
        Some(other) => return Err(unknown_profile("securityContext.seccompProfile", other)),
    })
}

fn apparmor(pod: &Pod, container: &Container) -> Result<Option<SecurityProfile>, FieldError> {
    const FIELD: &str = "securityContext.appArmorProfile";
    let own = container.security_context.as_ref();
    let Some(chosen) = apparmor::profile(pod, &container.name, own) else { return Ok(None) };
    Ok(Some(match chosen.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        "Unconfined" => profile(ProfileType::Unconfined, String::new()),
        "Localhost" => {
            profile(ProfileType::Localhost, localhost(FIELD, chosen.localhost_profile.as_deref())?.to_owned())
        }
        other => return Err(unknown_profile(FIELD, other)),
    }))
}

fn legacy_apparmor(profile: &SecurityProfile) -> String {
    match profile.profile_type() {
        ProfileType::RuntimeDefault => "runtime/default".into(),
        ProfileType::Unconfined => "unconfined".into(),
        ProfileType::Localhost => format!("localhost/{}", profile.localhost_ref),
    }
}

fn localhost<'a>(field: &str, name: Option<&'a str>) -> Result<&'a str, FieldError> {
    name.filter(|n| !n.is_empty()).ok_or_else(|| {
        FieldError::new(format!("{field}.localhostProfile"), "must be set for the type Localhost")
    })
}

fn unknown_profile(field: &str, kind: &str) -> FieldError {
    FieldError::new(
        format!("{field}.type"),
        format!("{kind:?} is none of \"RuntimeDefault\", \"Localhost\", \"Unconfined\""),
    )
}

#[cfg(test)]
mod tests;
