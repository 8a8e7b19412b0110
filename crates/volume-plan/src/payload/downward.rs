//! The downward API to files.

use kube_model::core::{DownwardAPIVolumeFile, PodSpec};
use kube_model::downward;

use super::{Facts, File, FileSet, PayloadError};

/// Adds the files of `items`; all that cannot be had is told.
pub(super) fn add_to<'a>(
    set: &mut FileSet<'a>,
    items: &'a [DownwardAPIVolumeFile],
    default_mode: i32,
    facts: Facts<'a>,
) -> Vec<PayloadError> {
    let mut errors = Vec::new();
    for item in items {
        let added = value(item, facts).and_then(|text| {
            let file = File::new(text.into_bytes(), item.mode.unwrap_or(default_mode));
            Ok(set.insert(item.path.as_str(), file)?)
        });
        errors.extend(added.err());
    }
    errors
}

fn value(item: &DownwardAPIVolumeFile, facts: Facts<'_>) -> Result<String, PayloadError> {
    let refuse = |problem| Err(PayloadError::Downward { path: item.path.clone(), problem });
    if let Some(field) = &item.field_ref {
        let (meta, path) = (&facts.pod.metadata, &field.field_path);
        match downward::metadata_map(meta, path).or_else(|| downward::metadata(meta, path)) {
            Some(text) => Ok(text),
            None => refuse(format!("unsupported fieldPath: {path}")),
        }
    } else if let Some(resource) = &item.resource_field_ref {
        let none = PodSpec::default();
        let spec = facts.pod.spec.as_ref().unwrap_or(&none);
        downward::resource(spec, None, resource, facts.allocatable).or_else(refuse)
    } else {
        // The API server refuses an item without a source; the kubelet makes an empty file of it.
        Ok(String::new())
    }
}
