//! The pod as a whole.

use std::net::IpAddr;

use kube_model::core::{HostAlias, PodDNSConfig, PodSpec, Toleration};

use super::super::invalid::{Field, Report};
use super::{affinity, container, metadata, resources, security, syntax, topology, volume, windows};

/// Largest `activeDeadlineSeconds`.
const MAX_SECONDS: i64 = i32::MAX as i64;
/// What a resolver takes.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
/// Longest `hostnameOverride`: what the kernel takes.
const MAX_HOSTNAME: usize = 64;

pub(super) fn check(report: &mut Report, field: &Field, spec: &PodSpec) {
    volume::check_all(report, &field.child("volumes"), spec);
    container::check_all(report, field, spec);
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        report.forbidden(&field.child("ephemeralContainers"), "cannot be set on create");
    }
    report.one_of(
        &field.child("restartPolicy"),
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    dns(report, field, spec);
    report.not_negative(&field.child("terminationGracePeriodSeconds"), spec.termination_grace_period_seconds);
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=MAX_SECONDS).contains(&seconds)
    {
        let why = format!("must be between 1 and {MAX_SECONDS}, inclusive");
        report.invalid(&field.child("activeDeadlineSeconds"), seconds, why);
    }
    metadata::labels(report, &field.child("nodeSelector"), spec.node_selector.as_ref());
    for (name, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        optional(report, &field.child(name), value, syntax::dns_label);
    }
    optional(report, &field.child("priorityClassName"), &spec.priority_class_name, syntax::dns_subdomain);
    if let Some(name) = &spec.runtime_class_name {
        report.check(&field.child("runtimeClassName"), name, syntax::dns_subdomain(name));
    }
    hostname_override(report, &field.child("hostnameOverride"), spec);
    match spec.preemption_policy.as_deref() {
        Some("") => report.required(&field.child("preemptionPolicy"), ""),
        policy => {
            report.one_of(&field.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
        }
    }
    windows::check(report, field, spec);
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        tolerate(report, &field.child("tolerations").index(index), toleration);
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        host_alias(report, &field.child("hostAliases").index(index), alias);
    }
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let field = field.child("readinessGates").index(index).child("conditionType");
        report.check(&field, &gate.condition_type, syntax::qualified_name(&gate.condition_type));
    }
    if let Some(wanted) = &spec.affinity {
        affinity::check(report, &field.child("affinity"), wanted);
    }
    if let Some(constraints) = &spec.topology_spread_constraints {
        topology::check(report, &field.child("topologySpreadConstraints"), constraints);
    }
    if let Some(group) = &spec.scheduling_group {
        let field = field.child("schedulingGroup").child("podGroupName");
        match &group.pod_group_name {
            Some(name) => report.check(&field, name, syntax::dns_subdomain(name)),
            None => report.required(&field, "must specify one of: `podGroupName`"),
        }
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        // Every pod of these sources is on its node from the beginning.
        report
            .forbidden(&field.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    security::pod(report, field, spec);
    resources::pod(report, field, spec);
}

/// Checks a text that may be missing or empty.
fn optional(report: &mut Report, field: &Field, value: &Option<String>, check: fn(&str) -> Option<String>) {
    if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
        report.check(field, value, check(value));
    }
}

fn hostname_override(report: &mut Report, field: &Field, spec: &PodSpec) {
    let Some(name) = &spec.hostname_override else { return };
    if spec.set_hostname_as_fqdn == Some(true) {
        report.forbidden(field, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.host_network == Some(true) {
        report.forbidden(field, "may not be specified when hostNetwork is true");
    }
    if name.len() > MAX_HOSTNAME {
        report.too_long(field, MAX_HOSTNAME);
    }
    report.check(field, name, syntax::dns_subdomain(name));
}

fn dns(report: &mut Report, field: &Field, spec: &PodSpec) {
    let policy = spec.dns_policy.as_deref();
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    report.one_of(&field.child("dnsPolicy"), policy, &policies);
    let field = field.child("dnsConfig");
    let nameservers = spec.dns_config.as_ref().and_then(|c| c.nameservers.as_ref()).map_or(0, Vec::len);
    if policy == Some("None") && nameservers == 0 {
        report.required(
            &field.child("nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    if let Some(config) = &spec.dns_config {
        dns_config(report, &field, config);
    }
}

fn dns_config(report: &mut Report, field: &Field, config: &PodDNSConfig) {
    let nameservers = config.nameservers.as_deref().unwrap_or_default();
    if nameservers.len() > MAX_NAMESERVERS {
        let why = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        report.invalid(&field.child("nameservers"), nameservers, why);
    }
    for (index, address) in nameservers.iter().enumerate() {
        ip(report, &field.child("nameservers").index(index), address);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let characters = searches.iter().map(|search| search.len() + 1).sum::<usize>().saturating_sub(1);
    if searches.len() > MAX_SEARCHES || characters > MAX_SEARCH_CHARACTERS {
        let why = format!(
            "must not have more than {MAX_SEARCHES} search paths or {MAX_SEARCH_CHARACTERS} characters"
        );
        report.invalid(&field.child("searches"), searches.len(), why);
    }
    for (index, search) in searches.iter().enumerate() {
        // A trailing dot is in use in search paths, and "." stands for the root.
        if search != "." {
            let name = search.strip_suffix('.').unwrap_or(search);
            report.check(&field.child("searches").index(index), search, syntax::dns_search(name));
        }
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().is_none_or(str::is_empty) {
            report.required(&field.child("options").index(index), "must not be empty");
        }
    }
}

fn ip(report: &mut Report, field: &Field, address: &str) {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            report.invalid(field, address, "must not be an IPv4-mapped IPv6 address");
        }
        Ok(_) => {}
        Err(_) => {
            report.invalid(field, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        }
    }
}

fn host_alias(report: &mut Report, field: &Field, alias: &HostAlias) {
    ip(report, &field.child("ip"), &alias.ip);
    for (index, name) in alias.hostnames.iter().flatten().enumerate() {
        report.check(&field.child("hostnames").index(index), name, syntax::dns_subdomain(name));
    }
}

pub(super) fn tolerate(report: &mut Report, field: &Field, toleration: &Toleration) {
    let text = |value: &'_ Option<String>| value.clone().unwrap_or_default();
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    if !key.is_empty() {
        report.check(&field.child("key"), &key, syntax::qualified_name(&key));
    } else if operator != "Exists" {
        let why =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        report.invalid(&field.child("operator"), &operator, why);
    }
    match operator.as_str() {
        "" | "Equal" => report.check(&field.child("value"), &value, syntax::label_value(&value)),
        "Exists" if value.is_empty() => {}
        "Exists" => {
            report.invalid(field, &value, "value must be empty when `operator` is 'Exists'");
        }
        _ => report.one_of(&field.child("operator"), Some(&operator), &["Equal", "Exists"]),
    }
    let effects = ["", "NoSchedule", "PreferNoSchedule", "NoExecute"];
    report.one_of(&field.child("effect"), Some(&effect), &effects);
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        report.invalid(&field.child("effect"), &effect, why);
    }
}
