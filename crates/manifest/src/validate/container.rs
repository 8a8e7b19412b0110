//! Containers and init containers: names, images, ports, environment and mounts.

use std::collections::{BTreeMap, BTreeSet};

use kube_model::core::{Container, ContainerPort, EnvVar, FileKeySelector, PodSpec, Volume, VolumeMount};
use kube_model::pod::{ContainerKind, host_network};

use super::super::invalid::{Field, Report};
use super::super::object::bad_key;
use super::{handler, resources, restart, security, syntax, volume};

/// What a container's checks need to know of its pod.
pub(super) struct Context<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) kind: ContainerKind,
    /// Its volumes by name.
    volumes: &'a BTreeMap<&'a str, &'a Volume>,
}

pub(super) fn check_all(report: &mut Report, field: &Field, spec: &PodSpec) {
    if spec.containers.is_empty() {
        report.required(&field.child("containers"), "");
    }
    let volumes = spec.volumes.iter().flatten().map(|volume| (volume.name.as_str(), volume)).collect();
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    super::each_container(field, spec, |field, kind, container| all.push((field.clone(), kind, container)));
    // Regular containers first: a name that stands in both lists is the init container's mistake.
    all.sort_by_key(|(_, kind, _)| *kind != ContainerKind::Regular);
    let mut host_ports = BTreeSet::new();
    for (field, kind, container) in all {
        if !container.name.is_empty() && !names.insert(container.name.as_str()) {
            report.duplicate(&field.child("name"), &container.name);
        }
        check(report, &field, container, &Context { spec, kind, volumes: &volumes });
        if kind != ContainerKind::Regular {
            // Init containers run one by one, so that each may have any port. Upstream takes sidecars for such, too.
            unique_host_ports(report, &field, container, &mut BTreeSet::new());
        } else {
            unique_host_ports(report, &field, container, &mut host_ports);
        }
    }
}

fn check(report: &mut Report, field: &Field, container: &Container, context: &Context<'_>) {
    let name = field.child("name");
    if container.name.is_empty() {
        report.required(&name, "");
    } else {
        report.check(&name, &container.name, syntax::dns_label(&container.name));
    }
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        report.required(&field.child("image"), "");
    } else if image.trim() != image {
        report.invalid(&field.child("image"), image, "must not have leading or trailing whitespace");
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    report.one_of(&field.child("imagePullPolicy"), container.image_pull_policy.as_deref(), &policies);
    let policies = ["File", "FallbackToLogsOnError"];
    report.one_of(
        &field.child("terminationMessagePolicy"),
        container.termination_message_policy.as_deref(),
        &policies,
    );
    restart::policy(report, field, container);
    restart::resize(report, &field.child("resizePolicy"), container, context);
    ports(report, &field.child("ports"), container, context);
    for (index, env) in container.env.iter().flatten().enumerate() {
        check_env(report, &field.child("env").index(index), env, context);
    }
    for (index, env) in container.env_from.iter().flatten().enumerate() {
        let field = field.child("envFrom").index(index);
        let prefix = env.prefix.as_deref().unwrap_or_default();
        report.check(&field.child("prefix"), prefix, syntax::env_name(prefix));
        match (&env.config_map_ref, &env.secret_ref) {
            (None, None) => report.invalid(&field, "", "must specify one of: `configMapRef` or `secretRef`"),
            (Some(_), Some(_)) => {
                report.invalid(&field, "", "may not have more than one field specified at a time");
            }
            (Some(map), None) => {
                volume::object_name(report, &field.child("configMapRef").child("name"), &map.name);
            }
            (None, Some(secret)) => {
                volume::object_name(report, &field.child("secretRef").child("name"), &secret.name);
            }
        }
    }
    mounts(report, &field.child("volumeMounts"), container, context.volumes);
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        // Only volumes with a claim can be devices, and static pods can have no claims.
        report.not_found(&field.child("volumeDevices").index(index).child("name"), &device.name);
    }
    handler::check_all(report, field, container, context);
    resources::container(report, &field.child("resources"), container.resources.as_ref());
    security::container(report, &field.child("securityContext"), container, context);
}

fn ports(report: &mut Report, field: &Field, container: &Container, context: &Context<'_>) {
    let mut names = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let field = field.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            report.check(&field.child("name"), name, syntax::port_name(name));
            if !names.insert(name) {
                report.duplicate(&field.child("name"), name);
            }
        }
        let number = &field.child("containerPort");
        if port.container_port == 0 {
            report.required(number, "");
        } else if let Some(why) = syntax::port(port.container_port) {
            report.invalid(number, port.container_port, why);
        }
        let host_port = port.host_port.unwrap_or(0);
        if host_port != 0 {
            let field = field.child("hostPort");
            if let Some(why) = syntax::port(host_port) {
                report.invalid(&field, host_port, why);
            }
            if context.kind == ContainerKind::Regular
                && host_network(context.spec)
                && host_port != port.container_port
            {
                report.invalid(&field, host_port, "must match `containerPort` when `hostNetwork` is true");
            }
        }
        report.one_of(&field.child("protocol"), port.protocol.as_deref(), &["TCP", "UDP", "SCTP"]);
    }
}

fn unique_host_ports<'a>(
    report: &mut Report,
    field: &Field,
    container: &'a Container,
    taken: &mut BTreeSet<(i32, &'a str, &'a str)>,
) {
    let key = |port: &'a ContainerPort| {
        let number = port.host_port.filter(|number| *number != 0)?;
        Some((number, port.protocol.as_deref().unwrap_or("TCP"), port.host_ip.as_deref().unwrap_or_default()))
    };
    for (index, port) in container.ports.iter().flatten().enumerate() {
        if let Some(key) = key(port)
            && !taken.insert(key)
        {
            let (number, protocol, ip) = key;
            let value = format!("{protocol}/{ip}/{number}");
            report.duplicate(&field.child("ports").index(index).child("hostPort"), value);
        }
    }
}

fn check_env(report: &mut Report, field: &Field, env: &EnvVar, context: &Context<'_>) {
    let name = field.child("name");
    if env.name.is_empty() {
        report.required(&name, "");
    } else {
        report.check(&name, &env.name, syntax::env_name(&env.name));
    }
    let Some(from) = &env.value_from else { return };
    let field = field.child("valueFrom");
    if env.value.as_deref().is_some_and(|value| !value.is_empty()) {
        report.invalid(&field, "", "may not be specified when `value` is not empty");
    }
    let sources = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    match sources.into_iter().filter(|set| *set).count() {
        0 => {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` \
                       or `fileKeyRef`";
            report.invalid(&field, "", why);
        }
        1 => {}
        _ => report.invalid(&field, "", "may not have more than one field specified at a time"),
    }
    if let Some(reference) = &from.field_ref {
        let fields = [
            "metadata.name",
            "metadata.namespace",
            "metadata.uid",
            "spec.nodeName",
            "spec.serviceAccountName",
            "status.hostIP",
            "status.hostIPs",
            "status.podIP",
            "status.podIPs",
        ];
        volume::field_ref(report, &field.child("fieldRef"), reference, &fields);
    }
    if let Some(reference) = &from.resource_field_ref {
        resources::field_ref(report, &field.child("resourceFieldRef"), reference);
    }
    if let Some(reference) = &from.config_map_key_ref {
        object_key(report, &field.child("configMapKeyRef"), &reference.name, &reference.key);
    }
    if let Some(reference) = &from.secret_key_ref {
        object_key(report, &field.child("secretKeyRef"), &reference.name, &reference.key);
    }
    if let Some(reference) = &from.file_key_ref {
        file_key(report, &field.child("fileKeyRef"), reference, context);
    }
}

/// One key of a ConfigMap or Secret.
fn object_key(report: &mut Report, field: &Field, name: &str, key: &str) {
    report.check(&field.child("name"), name, syntax::dns_subdomain(name));
    if key.is_empty() {
        report.required(&field.child("key"), "");
    } else {
        report.check(&field.child("key"), key, bad_key(key));
    }
}

fn file_key(report: &mut Report, field: &Field, reference: &FileKeySelector, context: &Context<'_>) {
    let (key, volume, path) = (&reference.key, &reference.volume_name, &reference.path);
    for (name, value) in [("key", key), ("volumeName", volume), ("path", path)] {
        if value.is_empty() {
            report.required(&field.child(name), "");
        }
    }
    report.check(&field.child("key"), key, syntax::env_name(key));
    report.check(&field.child("path"), path, syntax::no_dot_dot(path));
    if !volume.is_empty() {
        let field = field.child("volumeName");
        match context.volumes.get(volume.as_str()) {
            None => report.not_found(&field, volume),
            Some(found) if found.empty_dir.is_none() => {
                report.invalid(&field, volume, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
}

fn mounts(report: &mut Report, field: &Field, container: &Container, volumes: &BTreeMap<&str, &Volume>) {
    let mut paths = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let field = field.index(index);
        if mount.name.is_empty() {
            report.required(&field.child("name"), "");
        } else if !volumes.contains_key(mount.name.as_str()) {
            report.not_found(&field.child("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            report.required(&field.child("mountPath"), "");
        } else if !paths.insert(&mount.mount_path) {
            report.invalid(&field.child("mountPath"), &mount.mount_path, "must be unique");
        }
        sub_path(report, &field, mount);
        propagation(report, &field, mount, container);
    }
}

fn sub_path(report: &mut Report, field: &Field, mount: &VolumeMount) {
    let sub_path = mount.sub_path.as_deref().unwrap_or_default();
    let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
    report.check(&field.child("subPath"), sub_path, syntax::inner_path(sub_path));
    report.check(&field.child("subPathExpr"), expression, syntax::inner_path(expression));
    if !sub_path.is_empty() && !expression.is_empty() {
        report.invalid(
            &field.child("subPathExpr"),
            expression,
            "subPathExpr and subPath are mutually exclusive",
        );
    }
}

fn propagation(report: &mut Report, field: &Field, mount: &VolumeMount, container: &Container) {
    let propagation = mount.mount_propagation.as_deref();
    let name = field.child("mountPropagation");
    report.one_of(&name, propagation, &["None", "HostToContainer", "Bidirectional"]);
    let privileged = container.security_context.as_ref().is_some_and(|s| s.privileged == Some(true));
    if propagation == Some("Bidirectional") && !privileged {
        report.forbidden(&name, "Bidirectional mount propagation is available only to privileged containers");
    }
    let name = field.child("recursiveReadOnly");
    let recursive = mount.recursive_read_only.as_deref();
    report.one_of(&name, recursive, &["Disabled", "IfPossible", "Enabled"]);
    if matches!(recursive, Some("IfPossible" | "Enabled")) {
        if mount.read_only != Some(true) {
            report.forbidden(&name, "may only be specified when readOnly is true");
        }
        if !matches!(propagation, None | Some("None")) {
            report.forbidden(&name, "may only be specified when mountPropagation is None or not specified");
        }
    }
}
