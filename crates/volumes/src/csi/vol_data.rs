//! `vol_data.json`, as every kubelet writes it.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use volume_plan::csi::attachment_name;

use crate::error::{SetUpError, go_words};

const FILE: &str = "vol_data.json";

/// What is to be known of a volume to undo it. In the order of their names, as Go writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolData {
    #[serde(rename = "attachmentID", default, skip_serializing_if = "Option::is_none")]
    pub(super) attachment: Option<String>,
    #[serde(rename = "driverName")]
    pub(super) driver: String,
    #[serde(rename = "nodeName", default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// The label of SELinux that it is mounted with.
    #[serde(rename = "seLinuxMountContext", default, skip_serializing_if = "Option::is_none")]
    pub(super) selinux: Option<String>,
    #[serde(rename = "specVolID", default, skip_serializing_if = "Option::is_none")]
    pub(super) spec_name: Option<String>,
    #[serde(rename = "volumeHandle")]
    pub(super) handle: String,
    #[serde(rename = "volumeLifecycleMode", default, skip_serializing_if = "Option::is_none")]
    pub(super) lifecycle: Option<String>,
}

/// Why it cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// There is none.
    NotFound,
    /// It is not what it should be: as after a full disk, or a power cut.
    Broken(String),
}

impl VolData {
    /// That of a volume of a claim, or of a pod's own, which is called `name` on this node.
    pub(super) fn of(driver: String, handle: String, name: &str, node: &str) -> Self {
        let attachment = Some(attachment_name(&handle, &driver, node));
        Self {
            spec_name: Some(name.to_owned()),
            node: Some(node.to_owned()),
            lifecycle: None,
            selinux: None,
            handle,
            driver,
            attachment,
        }
    }

    pub(super) fn read(dir: &Path) -> Result<Self, Unreadable> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unreadable::NotFound),
            Err(error) => return Err(Unreadable::Broken(go_words("open", &path, &error).to_string())),
        };
        let broken = |why: String| {
            Unreadable::Broken(format!("failed to parse volume data file [{}]: {why}", path.display()))
        };
        let data: Self = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        if data.driver.is_empty() || data.handle.is_empty() {
            return Err(broken("it names no driver or volume".to_owned()));
        }
        Ok(data)
    }

    /// Another is written beside it first, so that there is never half of one; one that says so already stays.
    pub(super) fn write(&self, dir: &Path) -> Result<(), SetUpError> {
        if Self::read(dir).is_ok_and(|found| found == *self) {
            return Ok(());
        }
        let (path, temporary) = (dir.join(FILE), dir.join(".vol_data.json.new"));
        let failed = |call, path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| {
                let why = go_words(call, &path, &error);
                SetUpError(format!(
                    "kubernetes.io/csi: failed to save volume data file {}: {why}",
                    path.display()
                ))
            }
        };
        let mut text = serde_json::to_vec(self).map_err(|error| SetUpError(error.to_string()))?;
        text.push(b'\n');
        // A power cut leaves none, never an empty one.
        let written = fs::File::create(&temporary).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_data()
        });
        written.map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("rename", &path))
    }

    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        // The temporary one of a run that was killed, too.
        for name in [".vol_data.json.new", FILE] {
            match fs::remove_file(dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it is this volume.
    pub(super) fn is(&self, driver: &str, handle: &str) -> bool {
        self.driver == driver && self.handle == handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_upstreams_and_never_half_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let data = VolData {
            spec_name: Some("pv".to_owned()),
            handle: "h".to_owned(),
            driver: "d".to_owned(),
            node: Some("n".to_owned()),
            lifecycle: Some("Persistent".to_owned()),
            selinux: Some("l".to_owned()),
            attachment: Some("csi-1".to_owned()),
        };
        data.write(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let want = "{\"attachmentID\":\"csi-1\",\"driverName\":\"d\",\"nodeName\":\"n\",\"seLinuxMountContext\":\"l\",\"specVolID\":\"pv\",\
                    \"volumeHandle\":\"h\",\"volumeLifecycleMode\":\"Persistent\"}\n";
        assert_eq!(text, want);
        assert_eq!(VolData::read(dir.path()).unwrap(), data);
        // As upstream has it of a volume that is staged, with what newer ones add.
        fs::write(
            dir.path().join(FILE),
            "{\"driverName\":\"d\",\"seLinuxMountContext\":\"x\",\"volumeHandle\":\"h\"}",
        )
        .unwrap();
        assert!(VolData::read(dir.path()).unwrap().is("d", "h"));
        for broken in
            ["", "{\"driverName\":\"d\",\"volu", "{}", "{\"driverName\":\"\",\"volumeHandle\":\"\"}"]
        {
            fs::write(dir.path().join(FILE), broken).unwrap();
            assert!(matches!(VolData::read(dir.path()), Err(Unreadable::Broken(_))), "{broken}");
        }
        VolData::remove(dir.path()).unwrap();
        assert!(matches!(VolData::read(dir.path()), Err(Unreadable::NotFound)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
