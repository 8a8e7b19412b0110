//! The defaults that the API gives a Pod, so that all later code reads set values.
//! Rules: upstream `pkg/apis/core/v1/defaults.go`; the oracle is each recorded pod's spec.

use std::collections::BTreeMap;

use kube_model::core::{
    Container, EmptyDirVolumeSource, EnvVarSource, HTTPGetAction, ObjectFieldSelector, Pod, PodSpec, Probe,
    ResourceFieldSelector, Volume,
};
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_model::resources;

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
    let grace = spec.termination_grace_period_seconds.get_or_insert(GRACE_SECONDS);
    if *grace < 0 {
        *grace = 1;
    }
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
    // This would be the identifier of an image.
    let is_identifier =
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    !is_identifier
        && path.split('/').all(|part| {
            let inner =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
            let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            part.starts_with(edge) && part.ends_with(edge) && part.chars().all(inner)
        })
}

fn env_source(source: &mut EnvVarSource) {
    source.field_ref.iter_mut().for_each(field_ref);
    source.resource_field_ref.iter_mut().for_each(resource_ref);
    if let Some(file) = &mut source.file_key_ref {
        file.optional.get_or_insert(false);
    }
}

fn field_ref(field: &mut ObjectFieldSelector) {
    set(&mut field.api_version, "v1");
}

/// Zero is how the API prints a divisor that is not set; it means one.
fn resource_ref(field: &mut ResourceFieldSelector) {
    let divisor = field.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
    if let Ok(quantity) = divisor.0.parse::<kube_model::quantity::Quantity>() {
        divisor.0 = quantity.to_string();
    }
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
    if let Some(limit) = volume.empty_dir.as_mut().and_then(|empty_dir| empty_dir.size_limit.as_mut())
        && let Ok(quantity) = limit.0.parse::<kube_model::quantity::Quantity>()
    {
        limit.0 = quantity.to_string();
    }
    remote(volume);
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

/// Volume types that are mounted from elsewhere.
fn remote(volume: &mut Volume) {
    if let Some(iscsi) = &mut volume.iscsi {
        set(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        set(&mut rbd.pool, "rbd");
        set(&mut rbd.user, "admin");
        set(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        disk.caching_mode.get_or_insert_with(|| "ReadWrite".to_owned());
        disk.fs_type.get_or_insert_with(|| "ext4".to_owned());
        disk.kind.get_or_insert_with(|| "Shared".to_owned());
        disk.read_only.get_or_insert(false);
    }
    if let Some(io) = &mut volume.scale_io {
        set(&mut io.storage_mode, "ThinProvisioned");
        set(&mut io.fs_type, "xfs");
    }
}

/// Fills the pod's own resources from those of its containers, where they are given in part: limits of huge pages with
/// the sum of the containers'; beside limits each missing request with the sum of the containers' requests, else with
/// the limit. Rule: KEP 2837, upstream `defaultHugePagePodLimits` and `defaultPodRequests`.
fn pod_resources(spec: &mut PodSpec) {
    let Some(mut own) = spec.resources.take() else { return };
    amounts(&mut own.limits);
    amounts(&mut own.requests);
    let has = |list: &Option<Amounts>| list.as_ref().is_some_and(|list| !list.is_empty());
    if has(&own.limits) || has(&own.requests) {
        let requests = own.requests.get_or_insert_default();
        let limits = own.limits.get_or_insert_default();
        for (name, sum) in resources::container_limits(spec).amounts() {
            if name.starts_with(resources::HUGEPAGES_PREFIX) && !requests.contains_key(name) {
                limits.entry(name.to_owned()).or_insert_with(|| Quantity(sum.to_string()));
            }
        }
        if !limits.is_empty() {
            for (name, sum) in resources::container_requests(spec).amounts() {
                if name == resources::CPU || name == resources::MEMORY {
                    requests.entry(name.to_owned()).or_insert_with(|| Quantity(sum.to_string()));
                }
            }
            for (name, limit) in limits.iter().filter(|(name, _)| resources::shared(name)) {
                requests.entry(name.clone()).or_insert_with(|| limit.clone());
            }
        }
        for list in [&mut own.limits, &mut own.requests] {
            list.take_if(|list| list.is_empty());
        }
    }
    spec.resources = Some(own);
}

/// Brings quantities into the form in which the API prints them, rounded up to thousandths; what is no quantity is left
/// to validation.
fn amounts(list: &mut Option<Amounts>) {
    for amount in list.iter_mut().flat_map(|list| list.values_mut()) {
        if let Ok(quantity) = amount.0.parse::<kube_model::quantity::Quantity>() {
            amount.0 = quantity.rounded_to_milli().to_string();
        }
    }
}
