//! What a static pod may not refer to, because no API server vouches for it: objects of the API, but for ConfigMaps and
//! Secrets, which it has from manifests of this node.
//! Rule: the gate `PreventStaticPodAPIReferences`; upstream `pkg/api/pod/util.go`
//! `HasAPIObjectReference`.

use kube_model::core::{PodSpec, Volume, VolumeProjection};

use super::super::invalid::{Field, Report};

pub(super) fn check(report: &mut Report, field: &Field, spec: &PodSpec) {
    for (name, account) in
        [("serviceAccountName", &spec.service_account_name), ("serviceAccount", &spec.service_account)]
    {
        if account.as_deref().is_some_and(|account| !account.is_empty()) {
            refuse(report, &field.child(name), "serviceaccounts");
        }
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        refuse(report, &field.child("resourceClaims"), "resourceclaims");
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        if let Some((name, resource)) = volume_reference(volume) {
            refuse(report, &field.child("volumes").index(index).child(name), resource);
        }
        let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_deref());
        for (source, projection) in projected.into_iter().flatten().enumerate() {
            let sources = field.child("volumes").index(index).child("projected").child("sources");
            match projection_reference(projection) {
                Some((name, resource)) => refuse(report, &sources.index(source).child(name), resource),
                None if !is_known(projection) => {
                    report.forbidden(&sources.index(source), "unknown source for a projected volume");
                }
                None => {}
            }
        }
    }
}

fn refuse(report: &mut Report, field: &Field, resource: &str) {
    report.forbidden(field, format!("static pods may not reference {resource}"));
}

/// A source that a static pod may have.
fn is_known(projection: &VolumeProjection) -> bool {
    projection.downward_api.is_some() || projection.config_map.is_some() || projection.secret.is_some()
}

fn volume_reference(volume: &Volume) -> Option<(&'static str, &'static str)> {
    if volume.csi.is_some() {
        Some(("csi", "csidrivers (via CSI volumes)"))
    } else if volume.glusterfs.is_some() {
        Some(("glusterfs", "endpoints (via glusterFS volumes)"))
    } else if volume.persistent_volume_claim.is_some() {
        Some(("persistentVolumeClaim", "persistentvolumeclaims"))
    } else if volume.ephemeral.is_some() {
        Some(("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"))
    } else if volume.azure_file.is_some() {
        Some(("azureFile", "secrets (via azureFile volumes)"))
    } else {
        secret_reference(volume).map(|name| (name, "secrets"))
    }
}

/// Volume types that name a secret only if they need one.
fn secret_reference(volume: &Volume) -> Option<&'static str> {
    let named = [
        ("cephfs", volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref())),
        ("cinder", volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref())),
        ("flexVolume", volume.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref())),
        ("iscsi", volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref())),
        ("rbd", volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref())),
        ("scaleIO", volume.scale_io.as_ref().map(|v| &v.secret_ref)),
        ("storageos", volume.storageos.as_ref().and_then(|v| v.secret_ref.as_ref())),
    ];
    named.into_iter().find(|(_, secret)| secret.is_some_and(|s| !s.name.is_empty())).map(|(name, _)| name)
}

fn projection_reference(projection: &VolumeProjection) -> Option<(&'static str, &'static str)> {
    if projection.service_account_token.is_some() {
        Some(("serviceAccountToken", "serviceaccounts (via projected volumes)"))
    } else if projection.cluster_trust_bundle.is_some() {
        Some(("clusterTrustBundle", "clustertrustbundles"))
    } else if projection.pod_certificate.is_some() {
        Some(("podCertificate", "podcertificates"))
    } else {
        None
    }
}
