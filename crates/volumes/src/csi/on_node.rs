//! Which volumes of claims have something on the node: staged, or mounted for a pod, or half so, whoever has done it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use volume_plan::csi::Lifecycle;
use volume_plan::spec::plugin;

use super::vol_data::{Unreadable, VolData};
use super::{block, stage};
use crate::settings::Settings;

/// Their names. Reads folders of the agent's own disk, and looks at no mount.
///
/// # Errors
/// Something cannot be read, so that there may be more.
pub(crate) fn on_node(settings: &Settings) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    let mut add = |dir: &Path| {
        match VolData::read(dir) {
            Ok(data) if data.lifecycle.as_deref() == Some(Lifecycle::Ephemeral.as_str()) => {}
            Ok(data) => drop(names.insert(stage::name_of(&data))),
            // Nobody was asked for it, or all is undone.
            Err(Unreadable::NotFound) => {}
            Err(Unreadable::Broken(why)) => return Err(why),
        }
        Ok::<_, String>(())
    };
    for driver in entries(&stage::drivers_dir(settings))? {
        let devices = driver == block::all(settings);
        for volume in entries(&driver)? {
            add(&if devices { volume.join("data") } else { volume })?;
        }
    }
    for pod in entries(&settings.pods_dir)? {
        for volume in entries(&pod.join("volumes").join(plugin::CSI))? {
            add(&volume)?;
        }
    }
    Ok(names)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: io::Error| format!("reading {}: {error}", dir.display());
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube_model::Monotonic;

    use super::*;

    #[test]
    fn all_is_found_or_it_is_said_that_there_may_be_more() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            pods_dir: dir.path().join("pods"),
            plugins_dir: dir.path().join("plugins"),
            node_name: "n".to_owned(),
            drivers: Default::default(),
            allocatable: Default::default(),
            file_label: None,
            sync_frequency: Default::default(),
            now: Arc::new(|| Monotonic::after_start(std::time::Duration::ZERO)),
        };
        assert_eq!(on_node(&settings).unwrap(), BTreeSet::new());
        let csi = dir.path().join("plugins/kubernetes.io/csi");
        let pod = dir.path().join("pods/a/volumes/kubernetes.io~csi");
        for (place, handle, lifecycle) in [
            (csi.join("d/1234"), "staged", None),
            (csi.join("volumeDevices/pv/data"), "device", None),
            (pod.join("pv"), "mounted", Some("Persistent")),
            (pod.join("own"), "own", Some("Ephemeral")),
        ] {
            fs::create_dir_all(&place).unwrap();
            let (driver, handle, lifecycle) =
                ("d".to_owned(), handle.to_owned(), lifecycle.map(str::to_owned));
            VolData { driver, handle, lifecycle, ..VolData::default() }.write(&place).unwrap();
        }
        for nothing in [csi.join("d/5678"), csi.join("volumeDevices/publish/pv"), pod.join("undone")] {
            fs::create_dir_all(nothing).unwrap();
        }
        let names = on_node(&settings).unwrap();
        let want = ["device", "mounted", "staged"].map(|handle| format!("kubernetes.io/csi/d^{handle}"));
        assert_eq!(names, BTreeSet::from(want));
        fs::write(pod.join("undone/vol_data.json"), "{").unwrap();
        let why = on_node(&settings).unwrap_err();
        assert!(why.contains("undone/vol_data.json"), "{why}");
    }
}
