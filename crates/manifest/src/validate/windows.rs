//! `spec.os`, and what only one of the systems has. The node refuses pods for Windows; that their manifests are wrong
//! is told before.

use kube_model::core::{PodSpec, WindowsSecurityContextOptions};

use super::super::invalid::{Field, Report};
use super::syntax;

const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;
const MAX_CREDENTIAL_SPEC: usize = 64 << 10;

pub(super) fn check(report: &mut Report, field: &Field, spec: &PodSpec) {
    host_process(report, field, spec);
    let Some(os) = &spec.os else { return };
    let name = field.child("os").child("name");
    match os.name.as_str() {
        "" => report.required(&name, ""),
        "linux" => no_windows_options(report, field, spec),
        "windows" => no_linux_options(report, field, spec),
        other => report.one_of(&name, Some(other), &["linux", "windows"]),
    }
}

fn no_windows_options(report: &mut Report, field: &Field, spec: &PodSpec) {
    let why = "windows options cannot be set for a linux pod";
    if spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
        report.forbidden(&field.child("securityContext").child("windowsOptions"), why);
    }
    super::each_container(field, spec, |field, _, container| {
        if container.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
            report.forbidden(&field.child("securityContext").child("windowsOptions"), why);
        }
    });
}

fn no_linux_options(report: &mut Report, field: &Field, spec: &PodSpec) {
    let mut refuse = |field: &Field, options: &[(&str, bool)]| {
        for (name, _) in options.iter().filter(|(_, set)| *set) {
            report.forbidden(&field.child(name), "cannot be set for a windows pod");
        }
    };
    let options = [
        ("hostUsers", spec.host_users.is_some()),
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("shareProcessNamespace", spec.share_process_namespace.is_some()),
        ("resources", spec.resources.is_some()),
    ];
    refuse(field, &options);
    if let Some(context) = &spec.security_context {
        let options = [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("fsGroup", context.fs_group.is_some()),
            ("fsGroupChangePolicy", context.fs_group_change_policy.is_some()),
            ("sysctls", context.sysctls.as_ref().is_some_and(|list| !list.is_empty())),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
            ("supplementalGroups", context.supplemental_groups.is_some()),
            ("supplementalGroupsPolicy", context.supplemental_groups_policy.is_some()),
            ("seLinuxChangePolicy", context.se_linux_change_policy.is_some()),
        ];
        refuse(&field.child("securityContext"), &options);
    }
    super::each_container(field, spec, |field, _, container| {
        let Some(context) = &container.security_context else { return };
        let options = [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("capabilities", context.capabilities.is_some()),
            ("readOnlyRootFilesystem", context.read_only_root_filesystem.is_some()),
            ("privileged", context.privileged.is_some()),
            ("allowPrivilegeEscalation", context.allow_privilege_escalation.is_some()),
            ("procMount", context.proc_mount.is_some()),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
        ];
        refuse(&field.child("securityContext"), &options);
    });
}

/// Containers that run as processes of the host: all of them or none, and in its network.
fn host_process(report: &mut Report, field: &Field, spec: &PodSpec) {
    let of =
        |options: Option<&WindowsSecurityContextOptions>| options.and_then(|options| options.host_process);
    let pod = of(spec.security_context.as_ref().and_then(|c| c.windows_options.as_ref()));
    let (mut all, mut host) = (0, 0);
    super::each_container(field, spec, |field, _, container| {
        let own = of(container.security_context.as_ref().and_then(|c| c.windows_options.as_ref()));
        all += 1;
        host += usize::from(own.or(pod) == Some(true));
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let field = field.child("securityContext").child("windowsOptions").child("hostProcess");
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            report.invalid(&field, own, why);
        }
    });
    if host == 0 {
        return;
    }
    if host != all {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        report.invalid(field, "", why);
    }
    if spec.host_network != Some(true) {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        report.invalid(&field.child("hostNetwork"), false, why);
    }
}

/// `windowsOptions` of a pod or container.
pub(super) fn options(report: &mut Report, field: &Field, options: Option<&WindowsSecurityContextOptions>) {
    let Some(options) = options else { return };
    if let Some(name) = &options.gmsa_credential_spec_name {
        report.check(&field.child("gmsaCredentialSpecName"), name, syntax::dns_subdomain(name));
    }
    if let Some(text) = &options.gmsa_credential_spec {
        let field = field.child("gmsaCredentialSpec");
        if text.is_empty() {
            report.invalid(&field, text, "gmsaCredentialSpec cannot be an empty string");
        } else if text.len() > MAX_CREDENTIAL_SPEC {
            report.invalid(&field, text, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = &options.run_as_user_name {
        report.check(&field.child("runAsUserName"), name, user_name(name));
    }
}

/// `[DOMAIN\]USER`.
fn user_name(text: &str) -> Option<String> {
    let (domain, user) = match text.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None => (None, text),
    };
    let is_domain = |domain: &str| is_netbios(domain) || syntax::dns_subdomain(domain).is_none();
    let why = if text.is_empty() {
        "runAsUserName cannot be an empty string".to_owned()
    } else if text.bytes().any(|c| c.is_ascii_control()) {
        "runAsUserName cannot contain control characters".to_owned()
    } else if user.contains('\\') {
        "runAsUserName cannot contain more than one backslash".to_owned()
    } else if domain.is_some_and(|domain| domain.len() >= MAX_DOMAIN) {
        format!("runAsUserName's Domain length must be under {MAX_DOMAIN} characters")
    } else if domain.is_some_and(|domain| !is_domain(domain)) {
        "runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned()
    } else if user.is_empty() {
        "runAsUserName's User cannot be empty".to_owned()
    } else if user.len() > MAX_USER {
        format!("runAsUserName's User length must not be longer than {MAX_USER} characters")
    } else if user.bytes().all(|c| c == b'.' || c == b' ') {
        "runAsUserName's User cannot contain only periods or spaces".to_owned()
    } else if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']'])
    {
        r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#.to_owned()
    } else {
        return None;
    };
    Some(why)
}

fn is_netbios(text: &str) -> bool {
    let refused = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&text.chars().count()) && !text.starts_with('.') && !text.contains(refused)
}
