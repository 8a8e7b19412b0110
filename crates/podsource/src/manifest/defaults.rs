//! The defaults that the API gives a Pod, so that all later code reads set values.
//! Rules: upstream `pkg/apis/core/v1/defaults.go`; the oracle is each recorded pod's spec.

use std::collections::BTreeMap;

use kube_model::core::{
    Container, EmptyDirVolumeSource, EnvVarSource, HTTPGetAction, ObjectFieldSelector, Pod, PodSpec, Probe,
    ResourceFieldSelector, Volume,
};
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_model::resources::{self, Totals};

type Amounts = BTreeMap<String, Quantity>;

/// Mode of the files of projected volumes, octal 0644.
const FILE_MODE: i32 = 0o644;
/// Seconds from asking the containers to stop to killing them.
const GRACE_SECONDS: i64 = 30;

pub(super) fn apply(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    spec.volumes.iter_mut().flatten().for_each(volume);
    let host_network = spec.host_network == Some(true);
    for c in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        container(c, host_network);
    }
    pod_resources(spec);
    amounts(&mut spec.overhead);
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(GRACE_SECONDS);
    spec.enable_service_links.get_or_insert(true);
}

/// Sets a text that is missing or empty: the API has no difference between the two.
fn set(value: &mut Option<String>, default: &str) {
    if value.as_deref().is_none_or(str::is_empty) {
        *value = Some(default.to_owned());
    }
}

fn set_number(value: &mut Option<i32>, default: i32) {
    if value.unwrap_or(0) == 0 {
        *value = Some(default);
    }
}

fn container(c: &mut Container, host_network: bool) {
    let latest = c.image.as_deref().is_some_and(is_latest);
    set(&mut c.image_pull_policy, if latest { "Always" } else { "IfNotPresent" });
    set(&mut c.termination_message_path, "/dev/termination-log");
    set(&mut c.termination_message_policy, "File");
    for port in c.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    c.env.iter_mut().flatten().filter_map(|env| env.value_from.as_mut()).for_each(env_source);
    [&mut c.liveness_probe, &mut c.readiness_probe, &mut c.startup_probe]
        .into_iter()
        .flatten()
        .for_each(probe);
    if let Some(lifecycle) = &mut c.lifecycle {
        let hooks = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
        hooks.into_iter().flatten().filter_map(|hook| hook.http_get.as_mut()).for_each(http_get);
    }
    let resources = c.resources.get_or_insert_default();
    amounts(&mut resources.limits);
    amounts(&mut resources.requests);
    if let Some(limits) = &resources.limits {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
}

/// The tag is `latest`, or there is neither tag nor digest. As upstream, a text that is no image name has no
/// tag; that it can not be pulled is told when it is tried.
fn is_latest(image: &str) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash belongs to the registry's port.
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    };
    is_repository(repository) && tag.map_or(digest.is_none(), |tag| tag == "latest")
}

/// `[registry/]path/of/image`, where only the registry may have upper case letters and a port.
fn is_repository(text: &str) -> bool {
    let path = match text.split_once('/') {
        Some((registry, path)) if registry.contains(['.', ':']) || registry == "localhost" => path,
        _ => text,
    };
    path.split('/').all(|part| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(inner)
    })
}

fn env_source(source: &mut EnvVarSource) {
    source.field_ref.iter_mut().for_each(field_ref);
    source.resource_field_ref.iter_mut().for_each(resource_ref);
}

fn field_ref(field: &mut ObjectFieldSelector) {
    set(&mut field.api_version, "v1");
}

/// Zero is how the API prints a divisor that is not set; it means one.
fn resource_ref(field: &mut ResourceFieldSelector) {
    field.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
}

fn probe(probe: &mut Probe) {
    set_number(&mut probe.timeout_seconds, 1);
    set_number(&mut probe.period_seconds, 10);
    set_number(&mut probe.success_threshold, 1);
    set_number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get(get: &mut HTTPGetAction) {
    set(&mut get.path, "/");
    set(&mut get.scheme, "HTTP");
}

fn volume(volume: &mut Volume) {
    let sourceless = Volume { name: volume.name.clone(), ..Volume::default() };
    if *volume == sourceless {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
    if let Some(image) = &mut volume.image {
        let latest = image.reference.as_deref().is_some_and(is_latest);
        set(&mut image.pull_policy, if latest { "Always" } else { "IfNotPresent" });
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        for item in downward.items.iter_mut().flatten() {
            item.field_ref.iter_mut().for_each(field_ref);
            item.resource_field_ref.iter_mut().for_each(resource_ref);
        }
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(FILE_MODE);
        for item in projected.sources.iter_mut().flatten().filter_map(|s| s.downward_api.as_mut()) {
            for file in item.items.iter_mut().flatten() {
                file.field_ref.iter_mut().for_each(field_ref);
                file.resource_field_ref.iter_mut().for_each(resource_ref);
            }
        }
    }
}

/// Fills the one half of the pod's own resources from the other and from its containers: a request that is
/// missing beside limits is the sum of the containers' requests, else the limit; a limit that is missing
/// beside requests is the sum of the containers' limits if all of them have one.
fn pod_resources(spec: &mut PodSpec) {
    let Some(mut own) = spec.resources.take() else { return };
    amounts(&mut own.limits);
    amounts(&mut own.requests);
    // The sums are those of the containers alone.
    let overhead = spec.overhead.take();
    let has = |list: &Option<Amounts>| list.as_ref().is_some_and(|list| !list.is_empty());
    if has(&own.limits) {
        let mut defaults = sums(&resources::requests(spec));
        for (name, limit) in own.limits.iter().flatten().filter(|(name, _)| is_shared(name)) {
            defaults.entry(name.clone()).or_insert_with(|| limit.clone());
        }
        let requests = own.requests.get_or_insert_default();
        for (name, amount) in defaults {
            requests.entry(name).or_insert(amount);
        }
    } else if has(&own.requests) {
        let mut defaults = sums(&resources::limits(spec));
        defaults.retain(|name, _| resources::all_limited(spec, name));
        if !defaults.is_empty() {
            own.limits = Some(defaults);
        }
    }
    spec.overhead = overhead;
    spec.resources = Some(own);
}

/// Whether a pod can have this resource as a whole.
fn is_shared(name: &str) -> bool {
    name == resources::CPU || name == resources::MEMORY || name.starts_with(resources::HUGEPAGES_PREFIX)
}

fn sums(totals: &Totals<'_>) -> Amounts {
    let cpu = totals.milli_cpu().map(|milli| (resources::CPU, format!("{milli}m")));
    let memory = totals.memory().map(|bytes| (resources::MEMORY, bytes.to_string()));
    let mut sums =
        Some(cpu.into_iter().chain(memory).map(|(name, text)| (name.to_owned(), Quantity(text))).collect());
    amounts(&mut sums);
    sums.unwrap_or_default()
}

/// Brings quantities into the form in which the API prints them; what is no quantity is left to validation.
fn amounts(list: &mut Option<Amounts>) {
    for amount in list.iter_mut().flat_map(|list| list.values_mut()) {
        if let Ok(quantity) = amount.0.parse::<kube_model::quantity::Quantity>() {
            amount.0 = quantity.to_string();
        }
    }
}
