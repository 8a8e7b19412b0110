//! What a static pod may not refer to, because no API server vouches for it: objects of the API.
//! Rule: the gate `PreventStaticPodAPIReferences`; upstream `pkg/api/pod/util.go`
//! `HasAPIObjectReference`.

use kube_model::core::{Container, PodSpec, Volume, VolumeProjection};

use super::super::invalid::{Field, Report};

pub(super) fn check(report: &mut Report, field: &Field, spec: &PodSpec) {
    for (name, account) in
        [("serviceAccountName", &spec.service_account_name), ("serviceAccount", &spec.service_account)]
    {
        if account.as_deref().is_some_and(|account| !account.is_empty()) {
            refuse(report, &field.child(name), "serviceaccounts");
        }
    }
    if spec.image_pull_secrets.iter().flatten().any(|secret| !secret.name.is_empty()) {
        refuse(report, &field.child("imagePullSecrets"), "secrets");
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        refuse(report, &field.child("resourceClaims"), "resourceclaims");
    }
    let lists =
        [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&spec.containers[..]))];
    for (name, list) in lists {
        for (index, container) in list.into_iter().flatten().enumerate() {
            environment(report, &field.child(name).index(index), container);
        }
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
                None if projection.downward_api.is_none() => {
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

fn environment(report: &mut Report, field: &Field, container: &Container) {
    for (index, env) in container.env.iter().flatten().enumerate() {
        let Some(from) = &env.value_from else { continue };
        let field = field.child("env").index(index).child("valueFrom");
        if from.config_map_key_ref.is_some() {
            refuse(report, &field.child("configMapKeyRef"), "configmaps");
        }
        if from.secret_key_ref.is_some() {
            refuse(report, &field.child("secretKeyRef"), "secrets");
        }
    }
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        let field = field.child("envFrom").index(index);
        if from.config_map_ref.is_some() {
            refuse(report, &field.child("configMapRef"), "configmaps");
        }
        if from.secret_ref.is_some() {
            refuse(report, &field.child("secretRef"), "secrets");
        }
    }
}

fn volume_reference(volume: &Volume) -> Option<(&'static str, &'static str)> {
    if volume.config_map.is_some() {
        Some(("configMap", "configmaps (via configmap volumes)"))
    } else if volume.secret.is_some() {
        Some(("secret", "secrets (via secret volumes)"))
    } else if volume.csi.is_some() {
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
    if projection.config_map.is_some() {
        Some(("configMap", "configmaps (via projected volumes)"))
    } else if projection.secret.is_some() {
        Some(("secret", "secrets (via projected volumes)"))
    } else if projection.service_account_token.is_some() {
        Some(("serviceAccountToken", "serviceaccounts (via projected volumes)"))
    } else if projection.cluster_trust_bundle.is_some() {
        Some(("clusterTrustBundle", "clustertrustbundles"))
    } else if projection.pod_certificate.is_some() {
        Some(("podCertificate", "podcertificates"))
    } else {
        None
    }
}
