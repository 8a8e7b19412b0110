//! Requests and limits.

use kube_model::core::{PodSpec, ResourceFieldSelector, ResourceRequirements};
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube_model::quantity::Quantity;
use kube_model::resources::{
    CPU, HUGEPAGES_PREFIX, MEMORY, amount, container_limits, container_requests, shared,
};

use super::super::invalid::{Field, Report};
use super::syntax;

const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// The units in which a container can be told its amounts.
const CPU_DIVISORS: [&str; 2] = ["1m", "1"];
const DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub(super) fn container(report: &mut Report, field: &Field, resources: Option<&ResourceRequirements>) {
    let Some(resources) = resources else { return };
    requests_and_limits(report, field, resources, of_container);
    for (index, claim) in resources.claims.iter().flatten().enumerate() {
        // The pod's claims are refused for static pods.
        report.not_found(&field.child("claims").index(index), &claim.name);
    }
}

/// Whether a container can have this resource.
fn of_container(name: &str) -> Option<String> {
    if !name.contains('/') {
        let standard = [CPU, MEMORY, EPHEMERAL_STORAGE].contains(&name) || name.starts_with(HUGEPAGES_PREFIX);
        return (!standard).then(|| "must be a standard resource for containers".to_owned());
    }
    (!is_native(name) && !is_extended(name))
        .then(|| "doesn't follow extended resource name standard".to_owned())
}

/// Kubernetes' own resources.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Resources that others have added to nodes: counted in whole pieces, and none is given away twice.
fn is_extended(name: &str) -> bool {
    // A quota names them with this prefix, which must leave a name.
    !is_native(name)
        && !name.starts_with("requests.")
        && syntax::qualified_name(&format!("requests.{name}")).is_none()
}

pub(super) fn pod(report: &mut Report, field: &Field, spec: &PodSpec) {
    let overhead = ResourceRequirements { limits: spec.overhead.clone(), ..ResourceRequirements::default() };
    limits_alone(report, &field.child("overhead"), &overhead);
    let Some(resources) = &spec.resources else { return };
    let field = field.child("resources");
    requests_and_limits(report, &field, resources, |name| {
        (!shared(name)).then(|| "must be cpu, memory or hugepages-<size> for a pod as a whole".to_owned())
    });
    if resources.claims.is_some() {
        report.forbidden(&field.child("claims"), "claims cannot be set for resources at pod-level");
    }
    within_pod(report, &field, spec, resources);
}

/// The overhead, which is checked as the limits of a container are.
fn limits_alone(report: &mut Report, field: &Field, resources: &ResourceRequirements) {
    let list = amounts(report, field, resources.limits.iter().flatten());
    for (name, _) in &list {
        report.check(&field.key(name), name, of_container(name));
    }
    huge_pages_need_others(report, field, &list, &[]);
}

/// The containers must fit into what the pod has as a whole.
fn within_pod(report: &mut Report, field: &Field, spec: &PodSpec, own: &ResourceRequirements) {
    for (name, sum) in container_requests(spec).amounts() {
        if let Some(request) = amount(own.requests.as_ref(), name).filter(|request| request < sum) {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            report.invalid(&field.child("requests").key(name), request.to_string(), why);
        }
    }
    for (name, sum) in container_limits(spec).amounts().filter(|(name, _)| name.starts_with(HUGEPAGES_PREFIX))
    {
        if let Some(limit) = amount(own.limits.as_ref(), name).filter(|limit| limit < sum) {
            let why = format!("must be greater than or equal to aggregate container limits of {sum}");
            report.invalid(&field.child("limits").key(name), limit.to_string(), why);
        }
    }
    for container in &spec.containers {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        for name in limits.into_iter().flatten().map(|(name, _)| name) {
            if let (Some(limit), Some(most)) = (amount(limits, name), amount(own.limits.as_ref(), name))
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
    huge_pages_need_others(report, field, &limits, &requests);
}

fn huge_pages_need_others(
    report: &mut Report,
    field: &Field,
    limits: &[(&str, Quantity)],
    requests: &[(&str, Quantity)],
) {
    let named = |wanted: &dyn Fn(&str) -> bool| limits.iter().chain(requests).any(|(name, _)| wanted(name));
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
            if is_extended(name) && quantity.milli_value() % 1000 != 0 {
                report.invalid(&field, &amount.0, "must be an integer");
            }
            if let Some(size) = name.strip_prefix(HUGEPAGES_PREFIX)
                && !is_multiple(&quantity, size)
            {
                let why = format!("{quantity} is not positive integer multiple of {name}");
                report.invalid(&field, &amount.0, why);
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

/// Whether the amount consists of whole pages.
fn is_multiple(quantity: &Quantity, page_size: &str) -> bool {
    let size = page_size.parse::<Quantity>().ok().filter(|size| size.milli_value() % 1000 == 0);
    size.map(|size| size.value()).filter(|size| *size > 0).is_some_and(|size| quantity.value() % size == 0)
}

/// Processor time, memory and disk can be promised more often than they are there.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGEPAGES_PREFIX)
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
    let at = field.child("divisor");
    let divisor = reference.divisor.as_ref().and_then(|divisor| quantity(report, &at, &divisor.0));
    if let Some(divisor) = divisor.filter(|divisor| divisor.nanos() != 0) {
        let resource = reference.resource.split_once('.').map_or("", |(_, resource)| resource);
        let (kind, supported) = match resource {
            CPU => ("cpu", &CPU_DIVISORS[..]),
            MEMORY => ("memory", &DIVISORS[..]),
            EPHEMERAL_STORAGE => ("local ephemeral storage", &DIVISORS[..]),
            _ => ("hugepages", &DIVISORS[..]),
        };
        if !supported.contains(&divisor.to_string().as_str()) {
            let list = supported.join(", ");
            let why = format!("only divisor's values {list} are supported with the {kind} resource");
            report.invalid(&at, divisor.to_string(), why);
        }
    }
}
