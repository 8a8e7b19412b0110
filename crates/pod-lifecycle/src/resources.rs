//! Resources as a status shows them (upstream `pkg/kubelet/kubelet_pods.go`).

use kube_model::core::{Container, ContainerStatus, PodSpec, ResourceRequirements};
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube_model::quantity::{Format, Quantity};
use kube_model::resources::{self, CPU, MEMORY, ResourceMap, Totals};
use kube_model::{observed, pod};

/// A CPU request that the kernel cannot tell from none, in thousandths.
const LEAST_REQUEST: i64 = 2;
/// A CPU limit below which the kernel grants no less, in thousandths.
const LEAST_LIMIT: i64 = 10;

/// `allocatedResources` of a container: what it was admitted with.
pub(crate) fn allocated(container: &Container) -> Option<ResourceMap> {
    container.resources.as_ref()?.requests.clone().filter(|r| !r.is_empty())
}

/// `resources` of a container that exists. Of one that runs CPU and memory are what the runtime grants it, where it
/// says so; else they are what was told of this container before, then what it was admitted with. There is no runtime's
/// word for anything else, nor for what was neither requested nor limited. `before` is the status of this same
/// container, if it ran then. Rule: upstream `pkg/kubelet/kubelet_pods.go` `convertToAPIContainerStatuses`.
pub(crate) fn actual(
    container: &Container,
    instance: &observed::Container,
    before: Option<&ContainerStatus>,
) -> ResourceRequirements {
    let mut shown = container.resources.clone().unwrap_or_default();
    if instance.state != observed::ContainerState::Running {
        return shown;
    }
    let granted = instance.resources.unwrap_or_default();
    let shown_before = before.and_then(|status| status.resources.as_ref());
    if let Some(limits) = shown.limits.as_mut().filter(|limits| !limits.is_empty()) {
        let shown_before = shown_before.and_then(|shown_before| shown_before.limits.as_ref());
        set_cpu(limits, granted.milli_cpu_limit, LEAST_LIMIT, shown_before);
        set(limits, MEMORY, granted.memory_limit.map(binary), shown_before);
    }
    if let Some(requests) = shown.requests.as_mut().filter(|requests| !requests.is_empty()) {
        let shown_before = shown_before.and_then(|shown_before| shown_before.requests.as_ref());
        set_cpu(requests, granted.milli_cpu_request, LEAST_REQUEST, shown_before);
        // No runtime knows of memory requests.
        set(requests, MEMORY, None, shown_before);
    }
    shown
}

/// Amounts up to `least` are one to the kernel: then what was asked for says more.
fn set_cpu(list: &mut ResourceMap, granted: Option<i64>, least: i64, shown_before: Option<&ResourceMap>) {
    let asked = resources::amount(Some(list), CPU).map_or(0, |q| q.milli_value());
    match granted {
        Some(granted) if granted <= least && asked <= least => {}
        granted => set(list, CPU, granted.map(milli), shown_before),
    }
}

fn set(list: &mut ResourceMap, name: &str, granted: Option<String>, shown_before: Option<&ResourceMap>) {
    let amount = granted.map(ApiQuantity).or_else(|| shown_before?.get(name).cloned());
    list.extend(amount.map(|amount| (name.to_owned(), amount)));
}

/// Thousandths as the API writes them: whole cores where it comes out even.
fn milli(amount: i64) -> String {
    if amount % 1000 == 0 { (amount / 1000).to_string() } else { format!("{amount}m") }
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
    use serde_json::{Value, json};

    use super::*;

    fn shown(
        resources: Value,
        state: observed::ContainerState,
        granted: Option<[i64; 3]>,
        before: Option<Value>,
    ) -> Value {
        let container: Container =
            serde_json::from_value(json!({"name": "app", "resources": resources})).unwrap();
        let some = |amount: i64| Some(amount).filter(|amount| *amount > 0);
        let granted = granted.map(|[request, limit, memory]| observed::ContainerResources {
            milli_cpu_request: some(request),
            milli_cpu_limit: some(limit),
            memory_limit: some(memory),
        });
        let instance = observed::Container { state, resources: granted, ..instance() };
        let before = before.map(|resources| {
            serde_json::from_value::<ContainerStatus>(json!({
                "name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0, "resources": resources,
            }))
            .unwrap()
        });
        serde_json::to_value(actual(&container, &instance, before.as_ref())).unwrap()
    }

    fn instance() -> observed::Container {
        observed::Container {
            id: "c".to_owned(),
            sandbox_id: "s".to_owned(),
            name: "app".to_owned(),
            restart_count: 0,
            hash: None,
            state: observed::ContainerState::Running,
            created_at: kube_model::Timestamp::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_id: String::new(),
            image_ref: String::new(),
            log_path: String::new(),
            user: None,
            resources: None,
        }
    }

    #[test]
    fn a_running_container_has_what_the_runtime_grants_it() {
        use observed::ContainerState::{Exited, Running};
        let both = || json!({"requests": {"cpu": "100m", "memory": "1M"}, "limits": {"cpu": "500m", "memory": "100M"}});
        let granted =
            || json!({"requests": {"cpu": "200m", "memory": "1M"}, "limits": {"cpu": "1", "memory": "64Mi"}});
        let full = Some([200, 1000, 64 << 20]);
        for (what, spec, state, runtime, before, want) in [
            ("the runtime's word", both(), Running, full, None, granted()),
            ("also against what was shown_before", both(), Running, full, Some(both()), granted()),
            ("a silent runtime", both(), Running, None, None, both()),
            ("a runtime that was not silent before", both(), Running, None, Some(granted()), granted()),
            ("one that has ended", both(), Exited, full, Some(granted()), both()),
            ("nothing asked for", json!({}), Running, full, None, json!({})),
            (
                "only a request",
                json!({"requests": {"cpu": "100m"}}),
                Running,
                full,
                None,
                json!({"requests": {"cpu": "200m"}}),
            ),
            (
                "a limit that nobody asked for",
                json!({"limits": {"memory": "1Gi"}}),
                Running,
                Some([2, 400, 0]),
                None,
                json!({"limits": {"cpu": "400m", "memory": "1Gi"}}),
            ),
            (
                "less than the kernel can tell apart",
                json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "3m"}}),
                Running,
                Some([2, 10, 0]),
                None,
                json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "3m"}}),
            ),
            (
                "what no runtime tells of",
                json!({"limits": {"example.com/fpga": "1", "ephemeral-storage": "1G"}}),
                Running,
                None,
                None,
                json!({"limits": {"example.com/fpga": "1", "ephemeral-storage": "1G"}}),
            ),
        ] {
            assert_eq!(shown(spec, state, runtime, before), want, "{what}");
        }
    }

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
