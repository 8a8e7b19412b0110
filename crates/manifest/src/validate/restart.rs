//! When a container restarts, and what it is stopped with.

use std::collections::BTreeSet;

use kube_model::core::{Container, PodSpec};
use kube_model::pod::ContainerKind;

use super::super::invalid::{Field, Report};
use super::container::Context;

/// Most rules of a container, and most exit codes of a rule.
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;

/// `restartPolicy` and `restartPolicyRules`.
pub(super) fn policy(report: &mut Report, field: &Field, container: &Container) {
    let policies = ["Always", "OnFailure", "Never"];
    let policy = container.restart_policy.as_deref();
    report.one_of(&field.child("restartPolicy"), policy, &policies);
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    if policy.is_none() && !rules.is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        report.required(&field.child("restartPolicy"), why);
    }
    let field = field.child("restartPolicyRules");
    if rules.len() > MAX_RULES {
        report.too_many(&field, rules.len(), MAX_RULES);
    }
    for (index, rule) in rules.iter().enumerate() {
        let field = field.index(index);
        let actions = ["Restart", "RestartAllContainers"];
        report.one_of(&field.child("action"), Some(&rule.action), &actions);
        let field = field.child("exitCodes");
        let Some(codes) = &rule.exit_codes else {
            report.required(&field, "must be specified");
            continue;
        };
        report.one_of(&field.child("operator"), Some(&codes.operator), &["In", "NotIn"]);
        let count = codes.values.as_ref().map_or(0, Vec::len);
        if count > MAX_CODES {
            report.too_many(&field.child("values"), count, MAX_CODES);
        }
    }
}

/// `resizePolicy`: what a change of resources does to the container.
pub(super) fn resize(report: &mut Report, field: &Field, container: &Container, context: &Context<'_>) {
    let never = context.spec.restart_policy.as_deref() == Some("Never");
    let mut resources = BTreeSet::new();
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        let field = field.index(index);
        if !resources.insert(&policy.resource_name) {
            report.duplicate(&field, &policy.resource_name);
        }
        let restart = policy.restart_policy.as_str();
        for (name, value, supported) in [
            ("resourceName", policy.resource_name.as_str(), ["cpu", "memory"]),
            ("restartPolicy", restart, ["NotRequired", "RestartContainer"]),
        ] {
            let field = field.child(name);
            if value.is_empty() {
                report.required(&field, "");
            } else {
                report.one_of(&field, Some(value), &supported);
            }
        }
        let field = field.child("restartPolicy");
        if never && restart != "NotRequired" {
            report.invalid(&field, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
        if context.kind == ContainerKind::Init && restart == "RestartContainer" {
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            report.invalid(&field, restart, why);
        }
    }
}

/// `lifecycle.stopSignal`, whose names depend on the system.
pub(super) fn stop_signal(report: &mut Report, field: &Field, signal: &str, spec: &PodSpec) {
    match spec.os.as_ref().map(|os| os.name.as_str()) {
        None => report.forbidden(field, "may not be set for containers with empty `spec.os.name`"),
        Some("windows") => report.one_of(field, Some(signal), &["SIGKILL", "SIGTERM"]),
        Some("linux") if !is_linux_signal(signal) => {
            report.invalid(field, signal, "must be the name of a signal of Linux, such as SIGUSR1");
        }
        Some(_) => {}
    }
}

fn is_linux_signal(name: &str) -> bool {
    const NAMES: [&str; 37] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
        "RTMIN+15",
    ];
    let Some(name) = name.strip_prefix("SIG") else { return false };
    // Real-time signals are counted from both ends; no number has a leading zero.
    let counted = |prefix: &str| {
        let number = name.strip_prefix(prefix)?;
        number.parse::<u8>().ok().filter(|n| n.to_string() == number)
    };
    NAMES.contains(&name)
        || [counted("RTMIN+"), counted("RTMAX-")].into_iter().flatten().any(|n| (1..=14).contains(&n))
}
