//! What a volume holds, as its driver tells (upstream `pkg/volume/csi/csi_metrics.go`).

use std::path::Path;

use ::csi::TIMEOUT;
use ::csi::v1::NodeGetVolumeStatsRequest;
use ::csi::v1::volume_usage::Unit;
use volume_fs::usage::Usage;

use crate::manager::Inner;

/// Asks for what the volume that is mounted at `path` holds.
pub(crate) async fn usage(inner: &Inner, driver: &str, handle: &str, path: &Path) -> Result<Usage, String> {
    let found = inner.settings.drivers.get(driver);
    let session = found.ok_or_else(|| format!("the driver {driver} is not there"))?.session(TIMEOUT);
    let can = session.capabilities().await.map_err(|error| error.to_string())?;
    if !can.volume_stats {
        return Err(format!("the driver {driver} does not tell"));
    }
    let request = NodeGetVolumeStatsRequest {
        volume_id: handle.to_owned(),
        volume_path: path.to_string_lossy().into_owned(),
        ..NodeGetVolumeStatsRequest::default()
    };
    let told = session.stats(request).await.map_err(|error| error.to_string())?;
    let mut usage = Usage::default();
    let amount = |of: i64| u64::try_from(of).unwrap_or_default();
    for one in &told {
        match one.unit() {
            Unit::Bytes => {
                usage.capacity = amount(one.total);
                usage.available = amount(one.available);
                usage.used = amount(one.used);
            }
            Unit::Inodes => {
                usage.inodes = Some(amount(one.total));
                usage.inodes_free = Some(amount(one.available));
                usage.inodes_used = Some(amount(one.used));
            }
            Unit::Unknown => {}
        }
    }
    Ok(usage)
}
