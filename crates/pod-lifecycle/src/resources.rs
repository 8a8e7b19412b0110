//! Resources as a status shows them (reference 4.9).

use kube_model::core::{Container, PodSpec, ResourceRequirements};
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube_model::pod;
use kube_model::quantity::{Format, Quantity};
use kube_model::resources::{self, CPU, MEMORY, ResourceMap, Totals};

const EPHEMERAL_STORAGE: &str = "ephemeral-storage";

/// `allocatedResources` of a container: what it was admitted with.
pub(crate) fn allocated(container: &Container) -> Option<ResourceMap> {
    container.resources.as_ref()?.requests.clone().filter(|r| !r.is_empty())
}

/// `resources` of a container that exists: CPU, memory and ephemeral storage. The memory limit is shown as the
/// runtime has it, in bytes with binary suffixes.
pub(crate) fn actual(container: &Container) -> ResourceRequirements {
    let shown = |list: Option<&ResourceMap>| -> Option<ResourceMap> {
        let all = list?.iter().filter(|(name, _)| [CPU, MEMORY, EPHEMERAL_STORAGE].contains(&name.as_str()));
        Some(all.map(|(name, quantity)| (name.clone(), quantity.clone())).collect::<ResourceMap>())
            .filter(|list| !list.is_empty())
    };
    let Some(resources) = &container.resources else { return ResourceRequirements::default() };
    let mut limits = shown(resources.limits.as_ref());
    if let Some(memory) = limits.as_mut().and_then(|l| l.get_mut(MEMORY))
        && let Ok(bytes) = Quantity::try_from(&*memory)
    {
        *memory = ApiQuantity(binary(bytes.value()));
    }
    ResourceRequirements { limits, requests: shown(resources.requests.as_ref()), claims: None }
}

/// `resources` and `allocatedResources` of the pod.
pub(crate) fn of_pod(spec: &PodSpec) -> (ResourceRequirements, Option<ResourceMap>) {
    let requests = print(spec, &resources::requests(spec));
    let limits = print(spec, &resources::limits(spec));
    (ResourceRequirements { limits, requests: requests.clone(), claims: None }, requests)
}

/// Sums in the format that the resource is first given in.
fn print(spec: &PodSpec, totals: &Totals<'_>) -> Option<ResourceMap> {
    let lists = || {
        let own = spec.resources.iter();
        own.chain(pod::containers(spec).filter_map(|(_, c)| c.resources.as_ref()))
            .flat_map(|r| [&r.requests, &r.limits])
            .flatten()
    };
    let format =
        |name: &str| lists().find_map(|list| resources::amount(Some(list), name)).map(|q| q.format());
    let print = |name: &str, nanos: i128| match format(name) {
        Some(Format::BinarySI) => binary(i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX)),
        // Parsing and printing gives the canonical form.
        _ => format!("{nanos}n").parse::<Quantity>().map_or_else(|_| nanos.to_string(), |q| q.to_string()),
    };
    let all: ResourceMap =
        totals.iter().map(|(name, nanos)| (name.to_owned(), ApiQuantity(print(name, nanos)))).collect();
    (!all.is_empty()).then_some(all)
}

/// Whole bytes with the largest binary suffix that loses nothing.
fn binary(bytes: i64) -> String {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (mut value, mut step) = (bytes, 0);
    while value != 0 && value % 1024 == 0 {
        value /= 1024;
        step += 1;
    }
    format!("{value}{}", SUFFIXES[step])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_get_the_largest_exact_binary_suffix() {
        for (bytes, want) in [
            (0, "0"),
            (1, "1"),
            (1023, "1023"),
            (1024, "1Ki"),
            (100_000_000, "100000000"),
            (64 << 20, "64Mi"),
        ] {
            assert_eq!(binary(bytes), want, "{bytes}");
        }
    }
}
