//! Annotations that mean something: what came before a field, and how dear a pod is.
//! Rule: upstream `ValidatePodSpecificAnnotations`.

use std::collections::{BTreeMap, BTreeSet};

use kube_model::apparmor::ANNOTATION as APP_ARMOR;
use kube_model::core::{Container, Pod, PodSpec, Toleration};
use kube_model::labels;
use kube_model::pod::containers;

use super::super::invalid::{Field, Report};
use super::{pod, syntax};

const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

pub(super) fn check(report: &mut Report, field: &Field, pod: &Pod, spec: &PodSpec) {
    let Some(annotations) = &pod.metadata.annotations else { return };
    let containers: BTreeSet<_> = containers(spec).map(|(_, container)| container.name.as_str()).collect();
    for (key, value) in annotations {
        let at = &field.key(key);
        match key.as_str() {
            TOLERATIONS if !value.is_empty() => tolerations(report, at, value),
            DELETION_COST if !is_cost(value) => report.invalid(at, value, "must be a 32bit integer"),
            labels::CONFIG_MIRROR if spec.node_name.as_deref().is_none_or(str::is_empty) => {
                report.invalid(at, value, "must set spec.nodeName if mirror pod annotation is set");
            }
            SECCOMP_POD => seccomp(report, at, value),
            key if key.starts_with(SECCOMP_CONTAINER) => seccomp(report, at, value),
            key => {
                if let Some(container) = key.strip_prefix(APP_ARMOR) {
                    if !containers.contains(container) {
                        report.invalid(at, container, "container not found");
                    }
                    app_armor(report, at, value);
                }
            }
        }
    }
    agree_with_fields(report, annotations, spec);
}

fn tolerations(report: &mut Report, field: &Field, value: &str) {
    match serde_json::from_str::<Option<Vec<Toleration>>>(value) {
        Ok(list) => {
            for (index, toleration) in list.iter().flatten().enumerate() {
                pod::tolerate(report, &field.index(index), toleration);
            }
        }
        Err(error) => report.invalid(field, value, error),
    }
}

fn is_cost(text: &str) -> bool {
    let first = text.bytes().next();
    let begins = matches!(first, Some(b'-' | b'1'..=b'9')) || text == "0";
    begins && text.parse::<i32>().is_ok()
}

fn seccomp(report: &mut Report, field: &Field, value: &str) {
    match value.strip_prefix("localhost/") {
        Some(path) => report.check(field, value, syntax::inner_path(path)),
        None if ["runtime/default", "docker/default", "unconfined"].contains(&value) => {}
        None => report.invalid(field, value, "must be a valid seccomp profile"),
    }
}

fn app_armor(report: &mut Report, field: &Field, value: &str) {
    if !["", "runtime/default", "unconfined"].contains(&value) && !value.starts_with("localhost/") {
        report.invalid(field, value, format!("invalid AppArmor profile name: {value:?}"));
    }
}

/// Where a profile is given both ways, both must be the same.
fn agree_with_fields(report: &mut Report, annotations: &BTreeMap<String, String>, spec: &PodSpec) {
    let field = Field::new("spec");
    let context = spec.security_context.as_ref();
    if let (Some(value), Some(profile)) =
        (annotations.get(SECCOMP_POD), context.and_then(|c| c.seccomp_profile.as_ref()))
    {
        let field = field.child("securityContext").child("seccompProfile");
        agree(report, &field, "seccomp", value, &profile.type_, profile.localhost_profile.as_deref());
    }
    let on_windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    let mut container = |field: &Field, container: &Container| {
        let own = container.security_context.as_ref();
        if let (Some(value), Some(profile)) = (
            annotations.get(&format!("{SECCOMP_CONTAINER}{}", container.name)),
            own.and_then(|c| c.seccomp_profile.as_ref()),
        ) {
            let field = field.child("securityContext").child("seccompProfile");
            agree(report, &field, "seccomp", value, &profile.type_, profile.localhost_profile.as_deref());
        }
        let profile = own.and_then(|c| c.app_armor_profile.as_ref());
        if let (Some(value), Some(profile), false) = (
            annotations.get(&format!("{APP_ARMOR}{}", container.name)),
            profile.or(context.and_then(|c| c.app_armor_profile.as_ref())),
            on_windows,
        ) {
            let field = field.child("securityContext").child("appArmorProfile");
            agree(report, &field, "apparmor", value, &profile.type_, profile.localhost_profile.as_deref());
        }
    };
    super::each_container(&field, spec, |field, _, c| container(field, c));
}

fn agree(
    report: &mut Report,
    field: &Field,
    what: &str,
    annotation: &str,
    kind: &str,
    localhost: Option<&str>,
) {
    let named = annotation.strip_prefix("localhost/");
    let same_kind = match kind {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => {
            annotation == "runtime/default" || (what == "seccomp" && annotation == "docker/default")
        }
        "Localhost" => named.is_some(),
        _ => true,
    };
    if !same_kind {
        report.forbidden(&field.child("type"), format!("{what} type in annotation and field must match"));
    } else if kind == "Localhost" && named != localhost {
        let why = format!("{what} profile in annotation and field must match");
        report.forbidden(&field.child("localhostProfile"), why);
    }
}
