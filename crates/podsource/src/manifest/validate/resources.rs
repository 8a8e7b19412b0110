//! Requests and limits.

use kube_model::core::{PodSpec, ResourceFieldSelector, ResourceRequirements};
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube_model::pod::containers;
use kube_model::quantity::Quantity;
use kube_model::resources::{CPU, HUGEPAGES_PREFIX, MEMORY, amount, requests};

use super::super::invalid::{Field, Report};
use super::syntax;

const EPHEMERAL_STORAGE: &str = "ephemeral-storage";

pub(super) fn container(report: &mut Report, field: &Field, resources: Option<&ResourceRequirements>) {
    let Some(resources) = resources else { return };
    requests_and_limits(report, field, resources, |name| {
        let standard = [CPU, MEMORY, EPHEMERAL_STORAGE].contains(&name) || name.starts_with(HUGEPAGES_PREFIX);
        (!standard && !name.contains('/')).then(|| "must be a standard resource for containers".to_owned())
    });
    for (index, claim) in resources.claims.iter().flatten().enumerate() {
        // The pod's claims are refused for static pods.
        report.not_found(&field.child("claims").index(index), &claim.name);
    }
}

pub(super) fn pod(report: &mut Report, field: &Field, spec: &PodSpec) {
    amounts(report, &field.child("overhead"), spec.overhead.iter().flatten());
    let Some(resources) = &spec.resources else { return };
    let field = field.child("resources");
    requests_and_limits(report, &field, resources, |name| {
        let shared = [CPU, MEMORY].contains(&name) || name.starts_with(HUGEPAGES_PREFIX);
        (!shared).then(|| "must be cpu, memory or hugepages-<size> for a pod as a whole".to_owned())
    });
    if resources.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        report.forbidden(&field.child("claims"), "claims cannot be set for resources at pod-level");
    }
    within_pod(report, &field, spec, resources);
}

/// The containers must fit into what the pod has as a whole.
fn within_pod(report: &mut Report, field: &Field, spec: &PodSpec, own: &ResourceRequirements) {
    let alone = PodSpec { resources: None, overhead: None, ..spec.clone() };
    let sums = requests(&alone);
    for (name, sum) in [
        (CPU, sums.milli_cpu().map(|milli| format!("{milli}m"))),
        (MEMORY, sums.memory().map(|bytes| bytes.to_string())),
    ] {
        let sum = sum.and_then(|text| text.parse::<Quantity>().ok());
        let request = amount(own.requests.as_ref(), name);
        if let (Some(sum), Some(request)) = (sum, request)
            && request < sum
        {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            report.invalid(&field.child("requests").key(name), request.to_string(), why);
        }
        let Some(most) = amount(own.limits.as_ref(), name) else { continue };
        for (_, container) in containers(spec) {
            let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
            if let Some(limit) = amount(limits, name)
                && limit > most
            {
                let why = format!(
                    "must be greater than or equal to the limit {limit} of container {:?}",
                    container.name
                );
                report.invalid(&field.child("limits").key(name), most.to_string(), why);
            }
        }
    }
}

fn requests_and_limits(
    report: &mut Report,
    field: &Field,
    resources: &ResourceRequirements,
    complaint: impl Fn(&str) -> Option<String>,
) {
    let (requests_field, limits_field) = (field.child("requests"), field.child("limits"));
    let limits = amounts(report, &limits_field, resources.limits.iter().flatten());
    // A request that is its limit, which is also the default, is as good as that and told only once.
    let limit = |name| resources.limits.as_ref().and_then(|limits| limits.get(name));
    let requests = resources.requests.iter().flatten().filter(|(name, amount)| limit(*name) != Some(*amount));
    let requests = amounts(report, &requests_field, requests);
    for (field, list) in [(&limits_field, &limits), (&requests_field, &requests)] {
        for (name, _) in list {
            report.check(&field.key(name), name, complaint(name));
        }
    }
    for (name, request) in &requests {
        let limit = limits.iter().find(|(limited, _)| limited == name).map(|(_, limit)| limit);
        match limit {
            Some(limit) if request > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                report.invalid(&requests_field.key(name), request.to_string(), why);
            }
            Some(limit) if !may_overcommit(name) && request != limit => {
                let why = format!("must be equal to {name} limit of {limit}");
                report.invalid(&requests_field.key(name), request.to_string(), why);
            }
            None if !may_overcommit(name) => {
                report.required(&limits_field, "Limit must be set for non overcommitable resources");
            }
            Some(_) | None => {}
        }
    }
    let named = |wanted: &dyn Fn(&str) -> bool| limits.iter().chain(&requests).any(|(name, _)| wanted(name));
    if named(&|name| name.starts_with(HUGEPAGES_PREFIX)) && !named(&|name| name == CPU || name == MEMORY) {
        report.forbidden(field, "HugePages require cpu or memory");
    }
}

/// Names and amounts of those entries that are well-formed.
fn amounts<'a>(
    report: &mut Report,
    field: &Field,
    list: impl Iterator<Item = (&'a String, &'a ApiQuantity)>,
) -> Vec<(&'a str, Quantity)> {
    let mut good = Vec::new();
    for (name, amount) in list {
        let field = field.key(name);
        report.check(&field, name, syntax::qualified_name(name));
        if let Some(quantity) = quantity(report, &field, &amount.0) {
            if name.contains('/') && quantity.nanos() % 1_000_000_000 != 0 {
                report.invalid(&field, &amount.0, "must be an integer");
            }
            good.push((name.as_str(), quantity));
        }
    }
    good
}

/// Parses an amount, which must not be negative.
pub(super) fn quantity(report: &mut Report, field: &Field, text: &str) -> Option<Quantity> {
    match text.parse::<Quantity>() {
        Ok(quantity) if quantity.nanos() < 0 => {
            report.invalid(field, text, "must be greater than or equal to 0");
            None
        }
        Ok(quantity) => Some(quantity),
        Err(error) => {
            report.invalid(field, text, format!("{error}, for example 500m, 2, 64Mi"));
            None
        }
    }
}

/// Processor time, memory and disk can be promised more often than they are there.
fn may_overcommit(name: &str) -> bool {
    !name.contains('/') && !name.starts_with(HUGEPAGES_PREFIX)
}

/// A reference to a container's own amounts.
pub(super) fn field_ref(report: &mut Report, field: &Field, reference: &ResourceFieldSelector) {
    let name = field.child("resource");
    if reference.resource.is_empty() {
        return report.required(&name, "");
    }
    let known = reference.resource.split_once('.').is_some_and(|(list, resource)| {
        ["limits", "requests"].contains(&list)
            && ([CPU, MEMORY, EPHEMERAL_STORAGE].contains(&resource)
                || resource.starts_with(HUGEPAGES_PREFIX))
    });
    if !known {
        let supported = [
            "limits.cpu",
            "limits.ephemeral-storage",
            "limits.memory",
            "requests.cpu",
            "requests.ephemeral-storage",
            "requests.memory",
        ];
        return report.one_of(&name, Some(&reference.resource), &supported);
    }
    if let Some(divisor) = &reference.divisor {
        quantity(report, &field.child("divisor"), &divisor.0);
    }
}
