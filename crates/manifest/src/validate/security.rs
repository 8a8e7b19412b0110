//! Security contexts, sysctls and the namespaces shared with the host.

use std::collections::BTreeSet;

use kube_model::core::{AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile, Sysctl};
use kube_model::pod::host_network;

use super::super::invalid::{Field, Report};
use super::container::Context;
use super::{syntax, windows};

const MAX_ID: i64 = i32::MAX as i64;
/// Longest name of an AppArmor profile.
const MAX_PROFILE: usize = 4095;

pub(super) fn pod(report: &mut Report, field: &Field, spec: &PodSpec) {
    let context_field = field.child("securityContext");
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        report.invalid(&field.child("shareProcessNamespace"), true, why);
    }
    if spec.host_users == Some(false) {
        let shared =
            [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
        for (name, _) in shared.into_iter().filter(|(_, on)| *on == Some(true)) {
            report.forbidden(&field.child(name), "when `hostUsers` is false");
        }
    }
    let Some(context) = &spec.security_context else { return };
    pod_context(report, &context_field, context);
    let mut names = BTreeSet::new();
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        check_sysctl(report, &context_field.child("sysctls").index(index), sysctl, &names, spec);
        names.insert(sysctl.name.as_str());
    }
}

fn pod_context(report: &mut Report, field: &Field, context: &PodSecurityContext) {
    let ids = [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ];
    for (name, value) in ids {
        id(report, &field.child(name), value);
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(report, &field.child("supplementalGroups").index(index), Some(*group));
    }
    let policy = context.fs_group_change_policy.as_deref();
    report.one_of(&field.child("fsGroupChangePolicy"), policy, &["OnRootMismatch", "Always"]);
    let policy = context.supplemental_groups_policy.as_deref();
    report.one_of(&field.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"]);
    // Another policy needs what this node does not have: mounting with the label of a volume's first user.
    let policy = context.se_linux_change_policy.as_deref();
    report.one_of(&field.child("seLinuxChangePolicy"), policy, &["Recursive"]);
    profiles(report, field, context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref());
    windows::options(report, &field.child("windowsOptions"), context.windows_options.as_ref());
}

fn check_sysctl(
    report: &mut Report,
    field: &Field,
    sysctl: &Sysctl,
    earlier: &BTreeSet<&str>,
    spec: &PodSpec,
) {
    let name = sysctl.name.as_str();
    let field = field.child("name");
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        part.chars().all(inner)
            && !part.is_empty()
            && !part.starts_with(['-', '_'])
            && !part.ends_with(['-', '_'])
    };
    if name.is_empty() {
        report.required(&field, "");
    } else if name.len() > 253 || !name.split(['.', '/']).all(part) {
        report.invalid(&field, name, "must be lower case words with '.' or '/' between them");
    } else if earlier.contains(name) {
        report.duplicate(&field, name);
    }
    let dotted = name.replace('/', ".");
    if dotted.starts_with("net.") && host_network(spec) {
        report.invalid(&field, name, "may not be specified when 'hostNetwork' is true");
    }
    let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    if ipc.iter().any(|prefix| dotted.starts_with(prefix)) && spec.host_ipc == Some(true) {
        report.invalid(&field, name, "may not be specified when 'hostIPC' is true");
    }
}

pub(super) fn container(report: &mut Report, field: &Field, container: &Container, context: &Context<'_>) {
    let Some(security) = &container.security_context else { return };
    id(report, &field.child("runAsUser"), security.run_as_user);
    id(report, &field.child("runAsGroup"), security.run_as_group);
    let proc_mount = security.proc_mount.as_deref();
    report.one_of(&field.child("procMount"), proc_mount, &["Default", "Unmasked"]);
    if proc_mount == Some("Unmasked") && context.spec.host_users != Some(false) {
        report.invalid(&field.child("procMount"), "Unmasked", "`hostUsers` must be false to use `Unmasked`");
    }
    if security.allow_privilege_escalation == Some(false) {
        let added = security.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_ref());
        if security.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            report.invalid(field, false, why);
        }
        if added.into_iter().flatten().any(|name| name == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            report.invalid(field, false, why);
        }
    }
    profiles(report, field, security.seccomp_profile.as_ref(), security.app_armor_profile.as_ref());
    windows::options(report, &field.child("windowsOptions"), security.windows_options.as_ref());
}

fn id(report: &mut Report, field: &Field, value: Option<i64>) {
    if let Some(value) = value.filter(|value| !(0..=MAX_ID).contains(value)) {
        report.invalid(field, value, format!("must be between 0 and {MAX_ID}, inclusive"));
    }
}

fn profiles(
    report: &mut Report,
    field: &Field,
    seccomp: Option<&SeccompProfile>,
    app_armor: Option<&AppArmorProfile>,
) {
    let profiles = [
        ("seccompProfile", seccomp.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref()))),
        ("appArmorProfile", app_armor.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref()))),
    ];
    for (name, profile) in profiles {
        let Some((kind, localhost)) = profile else { continue };
        let field = field.child(name);
        report.one_of(&field.child("type"), Some(kind), &["Localhost", "RuntimeDefault", "Unconfined"]);
        let field = field.child("localhostProfile");
        match (kind, localhost) {
            ("Localhost", None) => report.required(&field, "must be set when type is Localhost"),
            // A file below the kubelet's folder, and the name of a profile that the kernel knows.
            ("Localhost", Some(path)) if name == "seccompProfile" => {
                report.check(&field, path, syntax::inner_path(path));
            }
            ("Localhost", Some("")) => report.required(&field, "must be set when type is Localhost"),
            ("Localhost", Some(profile)) if profile.trim() != profile => {
                report.invalid(&field, profile, "must not be padded with whitespace");
            }
            ("Localhost", Some(profile)) if profile.len() > MAX_PROFILE => {
                report.too_long(&field, MAX_PROFILE);
            }
            ("Localhost", Some(_)) => {}
            (_, Some(path)) => report.invalid(&field, path, "may only be specified when type is Localhost"),
            (_, None) => {}
        }
    }
}
