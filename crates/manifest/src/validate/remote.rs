//! Volumes that are mounted from elsewhere: the parameters of their plugins. Rule: upstream `validateVolumeSource`.

use std::collections::BTreeMap;

use kube_model::core::{
    AzureDiskVolumeSource, FCVolumeSource, ISCSIVolumeSource, QuobyteVolumeSource, Volume,
};

use super::super::invalid::{Field, Report};
use super::syntax;

pub(super) fn check(report: &mut Report, field: &Field, volume: &Volume) {
    block_devices(report, field, volume);
    file_servers(report, field, volume);
    gone(report, field, volume);
}

/// Names what must not be empty.
fn needs(report: &mut Report, field: &Field, fields: &[(&str, &str)]) {
    for (name, _) in fields.iter().filter(|(_, value)| value.is_empty()) {
        report.required(&field.child(name), "");
    }
}

fn block_devices(report: &mut Report, field: &Field, volume: &Volume) {
    if let Some(disk) = &volume.gce_persistent_disk {
        let field = field.child("gcePersistentDisk");
        needs(report, &field, &[("pdName", &disk.pd_name)]);
        partition(report, &field, disk.partition);
    }
    if let Some(disk) = &volume.aws_elastic_block_store {
        let field = field.child("awsElasticBlockStore");
        needs(report, &field, &[("volumeID", &disk.volume_id)]);
        partition(report, &field, disk.partition);
    }
    if let Some(disk) = &volume.azure_disk {
        azure_disk(report, &field.child("azureDisk"), disk);
    }
    if let Some(disk) = &volume.cinder {
        let field = field.child("cinder");
        needs(report, &field, &[("volumeID", &disk.volume_id)]);
        if let Some(secret) = &disk.secret_ref {
            needs(report, &field.child("secretRef"), &[("name", &secret.name)]);
        }
    }
    if let Some(disk) = &volume.vsphere_volume {
        needs(report, &field.child("vsphereVolume"), &[("volumePath", &disk.volume_path)]);
    }
    if let Some(disk) = &volume.portworx_volume {
        needs(report, &field.child("portworxVolume"), &[("volumeID", &disk.volume_id)]);
    }
    if let Some(disk) = &volume.photon_persistent_disk {
        needs(report, &field.child("photonPersistentDisk"), &[("pdID", &disk.pd_id)]);
    }
    if let Some(disk) = &volume.iscsi {
        iscsi(report, field, &volume.name, disk);
    }
    if let Some(disk) = &volume.fc {
        fibre_channel(report, &field.child("fc"), disk);
    }
    if let Some(disk) = &volume.rbd {
        let field = field.child("rbd");
        if disk.monitors.is_empty() {
            report.required(&field.child("monitors"), "");
        }
        needs(report, &field, &[("image", &disk.image)]);
    }
}

fn partition(report: &mut Report, field: &Field, partition: Option<i32>) {
    if let Some(number) = partition.filter(|number| !(0..=255).contains(number)) {
        report.invalid(&field.child("partition"), number, "must be between 1 and 255, inclusive");
    }
}

fn lun(report: &mut Report, field: &Field, lun: i32) {
    if !(0..=255).contains(&lun) {
        report.invalid(&field.child("lun"), lun, "must be between 0 and 255, inclusive");
    }
}

fn azure_disk(report: &mut Report, field: &Field, disk: &AzureDiskVolumeSource) {
    let uri = disk.disk_uri.as_str();
    needs(report, field, &[("diskName", &disk.disk_name), ("diskURI", uri)]);
    let modes = ["None", "ReadOnly", "ReadWrite"];
    report.one_of(&field.child("cachingMode"), disk.caching_mode.as_deref(), &modes);
    let kind = disk.kind.as_deref();
    report.one_of(&field.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
    let (prefix, example) = match kind {
        Some("Managed") => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"),
    };
    if kind.is_some() && !uri.is_empty() && !uri.starts_with(prefix) {
        report.one_of(&field.child("diskURI"), Some(uri), &[example]);
    }
}

fn iscsi(report: &mut Report, field: &Field, name: &str, disk: &ISCSIVolumeSource) {
    let portal = format!("{name}:{}", disk.target_portal);
    if disk.initiator_name.is_some() && portal.len() > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                   iscsi.initiatorName is specified.";
        report.invalid(&field.child("name"), name, why);
    }
    let field = field.child("iscsi");
    needs(report, &field, &[("targetPortal", &disk.target_portal), ("iqn", &disk.iqn)]);
    if !disk.iqn.is_empty() {
        report.check(&field.child("iqn"), &disk.iqn, syntax::iscsi_name(&disk.iqn));
    }
    lun(report, &field, disk.lun);
    let authenticates = disk.chap_auth_discovery == Some(true) || disk.chap_auth_session == Some(true);
    if authenticates && disk.secret_ref.is_none() {
        report.required(&field.child("secretRef"), "");
    }
    if let Some(initiator) = &disk.initiator_name {
        report.check(&field.child("initiatorName"), initiator, syntax::iscsi_name(initiator));
    }
}

fn fibre_channel(report: &mut Report, field: &Field, disk: &FCVolumeSource) {
    let names = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let at = field.child("targetWWNs");
    match (names(&disk.target_wwns), names(&disk.wwids)) {
        (false, false) => report.required(&at, "must specify either targetWWNs or wwids, but not both"),
        (true, true) => {
            let why = "targetWWNs and wwids can not be specified simultaneously";
            report.invalid(&at, &disk.target_wwns, why);
        }
        _ => {}
    }
    if names(&disk.target_wwns) {
        match disk.lun {
            Some(number) => lun(report, field, number),
            None => report.required(&field.child("lun"), "lun is required if targetWWNs is specified"),
        }
    }
}

fn file_servers(report: &mut Report, field: &Field, volume: &Volume) {
    if let Some(nfs) = &volume.nfs {
        let field = field.child("nfs");
        needs(report, &field, &[("server", &nfs.server)]);
        if !nfs.path.starts_with('/') {
            report.invalid(&field.child("path"), &nfs.path, "must be an absolute path");
        }
    }
    if let Some(ceph) = &volume.cephfs
        && ceph.monitors.is_empty()
    {
        report.required(&field.child("cephfs").child("monitors"), "");
    }
    if let Some(quobyte) = &volume.quobyte {
        check_quobyte(report, &field.child("quobyte"), quobyte);
    }
    if let Some(flex) = &volume.flex_volume {
        let field = field.child("flexVolume");
        needs(report, &field, &[("driver", &flex.driver)]);
        options(report, &field.child("options"), flex.options.as_ref());
    }
    if let Some(io) = &volume.scale_io {
        let names: [(&str, &str); 3] = [
            ("gateway", &io.gateway),
            ("system", &io.system),
            ("volumeName", io.volume_name.as_deref().unwrap_or_default()),
        ];
        needs(report, &field.child("scaleIO"), &names);
    }
}

fn check_quobyte(report: &mut Report, field: &Field, quobyte: &QuobyteVolumeSource) {
    let why = "must be a host:port pair or multiple pairs separated by commas";
    if quobyte.registry.is_empty() {
        report.required(&field.child("registry"), why);
    } else if quobyte.tenant.as_ref().is_some_and(|tenant| tenant.len() >= 65) {
        report
            .required(&field.child("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else if !quobyte.registry.split(',').all(syntax::is_host_and_port) {
        report.invalid(&field.child("registry"), &quobyte.registry, why);
    }
    needs(report, field, &[("volume", &quobyte.volume)]);
}

/// Options of a driver must not take names of Kubernetes.
fn options(report: &mut Report, field: &Field, options: Option<&BTreeMap<String, String>>) {
    for key in options.into_iter().flatten().map(|(key, _)| key) {
        let namespace = key.split_once('/').map_or(key.as_str(), |(namespace, _)| namespace);
        let dotted = format!(".{}", namespace.to_lowercase());
        if [".kubernetes.io", ".k8s.io"].iter().any(|reserved| dotted.ends_with(reserved)) {
            report.invalid(&field.key(key), key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

/// Plugins that Kubernetes no longer has, and still checks.
fn gone(report: &mut Report, field: &Field, volume: &Volume) {
    if let Some(git) = &volume.git_repo {
        let field = field.child("gitRepo");
        needs(report, &field, &[("repository", &git.repository)]);
        let folder = git.directory.as_deref().unwrap_or_default();
        report.check(&field.child("directory"), folder, syntax::inner_path(folder));
    }
    if let Some(flocker) = &volume.flocker {
        let field = field.child("flocker");
        let name = flocker.dataset_name.as_deref().unwrap_or_default();
        let uuid = flocker.dataset_uuid.as_deref().unwrap_or_default();
        match (name.is_empty(), uuid.is_empty()) {
            (true, true) => report.required(&field, "one of datasetName and datasetUUID is required"),
            (false, false) => {
                let why = "datasetName and datasetUUID can not be specified simultaneously";
                report.invalid(&field, "resource", why);
            }
            _ => {}
        }
        if name.contains('/') {
            report.invalid(&field.child("datasetName"), name, "must not contain '/'");
        }
    }
    if let Some(storage) = &volume.storageos {
        let field = field.child("storageos");
        let name = storage.volume_name.as_deref().unwrap_or_default();
        needs(report, &field, &[("volumeName", name)]);
        let namespace = storage.volume_namespace.as_deref().unwrap_or_default();
        for (field, text) in [(field.child("volumeName"), name), (field.child("volumeNamespace"), namespace)]
        {
            if !text.is_empty() {
                report.check(&field, text, syntax::dns_label(text));
            }
        }
        if let Some(secret) = &storage.secret_ref {
            needs(report, &field.child("secretRef"), &[("name", &secret.name)]);
        }
    }
}
