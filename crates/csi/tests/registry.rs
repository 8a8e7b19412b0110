//! Drivers come, go and come again, as sockets in a folder.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use csi::v1::{NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodeUnpublishVolumeRequest};
use csi::{Code, Drivers, Registrar, TIMEOUT};
use testkit::fake_csi::{Capability, CsiOptions, FakeCsi, Fault};
use tokio_util::task::AbortOnDropHandle;

const SOON: Duration = Duration::from_secs(30);

struct Registry {
    drivers: Drivers,
    folder: tempfile::TempDir,
    _running: AbortOnDropHandle<()>,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let drivers = Drivers::default();
        let registrar = Registrar::new(folder.path().join("plugins_registry"), drivers.clone());
        Self { drivers, folder, _running: AbortOnDropHandle::new(tokio::spawn(registrar.run())) }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("plugins_registry")
    }

    async fn until(&self, what: &str, is: impl Fn(&Drivers) -> bool) {
        let mut changes = self.drivers.changes();
        let waited = tokio::time::timeout(SOON, async {
            while !is(&self.drivers) {
                changes.changed().await.unwrap();
            }
        });
        assert!(waited.await.is_ok(), "waited in vain until {what}; there are {:?}", self.drivers.names());
    }
}

/// What is told to a driver has no notice of its own here.
async fn until(what: &str, is: impl Fn() -> Result<(), String>) {
    let end = Instant::now() + SOON;
    while let Err(found) = is() {
        assert!(Instant::now() < end, "waited in vain until {what}: {found}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn statuses(driver: &FakeCsi) -> Vec<(bool, String)> {
    driver.statuses().into_iter().map(|status| (status.plugin_registered, status.error)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_comes_and_says_what_it_is_and_goes() {
    let registry = Registry::start();
    let options = CsiOptions::new("one.csi").can(Capability::StageUnstageVolume).max_volumes(7);
    let driver = FakeCsi::start(options.topology("zone", "a").can(Capability::ExpandVolume)).unwrap();
    driver.register(&registry.path()).unwrap();
    registry.until("it is there", |drivers| drivers.get("one.csi").is_some()).await;
    until("it is told", || match statuses(&driver).as_slice() {
        [(true, error)] if error.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let reported = registry.drivers.reported().borrow()["one.csi"].clone().unwrap();
    assert_eq!((reported.node_id.as_str(), reported.max_volumes), ("node-of-one.csi", 7));
    assert_eq!(reported.topology["zone"], "a");
    let session = registry.drivers.get("one.csi").unwrap().session(TIMEOUT);
    let can = session.capabilities().await.unwrap();
    assert!(can.stage_unstage && can.expand && !can.volume_stats && !can.volume_mount_group);

    driver.unregister();
    registry.until("it is gone", |drivers| drivers.names().is_empty()).await;
    assert_eq!(registry.drivers.reported().borrow()["one.csi"], None);

    // A folder of its own, as some drivers have it, made after the agent has looked.
    driver.register(&registry.path().join("one.csi/deep")).unwrap();
    registry.until("it is there again", |drivers| drivers.get("one.csi").is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_made_anew_is_asked_anew() {
    let registry = Registry::start();
    let first = FakeCsi::start(CsiOptions::new("d.csi").node_id("first")).unwrap();
    first.register(&registry.path()).unwrap();
    let node = |drivers: &Drivers| {
        let reported = drivers.reported();
        let reported = reported.borrow();
        reported.get("d.csi").cloned().flatten().map(|node| node.node_id)
    };
    registry.until("the first is there", |drivers| node(drivers).as_deref() == Some("first")).await;
    // Of the same version: it comes by its place only.
    let second = FakeCsi::start(CsiOptions::new("d.csi").node_id("second")).unwrap();
    drop(first);
    second.register(&registry.path()).unwrap();
    until("the second is there", || {
        let found = node(&registry.drivers);
        if found.as_deref() == Some("second") { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_a_driver_is_told_why_and_tried_again() {
    let registry = Registry::start();
    let devices = FakeCsi::start(CsiOptions::new("devices").kind("DevicePlugin")).unwrap();
    let old = FakeCsi::start(CsiOptions::new("old.csi").versions(&["0.3.0"])).unwrap();
    let nameless = FakeCsi::start(CsiOptions::new("no-node.csi").node_id("")).unwrap();
    let broken = FakeCsi::start(CsiOptions::new("broken.csi")).unwrap();
    broken.fault_once(Fault::Fail(Code::Internal, "no disk".to_owned()), |_: &NodeGetInfoRequest| true);
    for driver in [&devices, &old, &nameless, &broken] {
        driver.register(&registry.path()).unwrap();
    }
    for (driver, why) in [
        (&devices, "no handler registered for plugin type: DevicePlugin"),
        (&old, "none of the versions specified [\"0.3.0\"] are supported"),
        (&nameless, "driverNodeID must not be empty"),
        (&broken, "NodeGetInfo of CSI driver broken.csi failed: rpc error: code = Internal desc = no disk"),
    ] {
        until(why, || match statuses(driver).first() {
            Some((false, error)) if error.contains(why) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    registry.until("the one that is well again is there", |drivers| drivers.names() == ["broken.csi"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sockets_with_one_name_the_second_comes_in_when_the_first_goes() {
    let registry = Registry::start();
    let first = FakeCsi::start(CsiOptions::new("d.csi").node_id("first")).unwrap();
    let second = FakeCsi::start(CsiOptions::new("d.csi").node_id("second")).unwrap();
    first.register(&registry.path().join("a")).unwrap();
    registry.until("the first is there", |drivers| drivers.get("d.csi").is_some()).await;
    second.register(&registry.path().join("b")).unwrap();
    until("the second is told", || match statuses(&second).first() {
        Some((false, error)) if error.contains("already registered") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let endpoint = |drivers: &Drivers| drivers.get("d.csi").map(|driver| driver.endpoint().to_owned());
    assert_eq!(endpoint(&registry.drivers), Some(first.socket()));
    first.unregister();
    registry.until("the second is there", |drivers| endpoint(drivers) == Some(second.socket())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_in_gos_words_and_whether_it_may_have_happened() {
    let registry = Registry::start();
    let driver = FakeCsi::start(CsiOptions::new("d.csi")).unwrap();
    driver.register(&registry.path()).unwrap();
    registry.until("it is there", |drivers| drivers.get("d.csi").is_some()).await;
    let session = |limit| registry.drivers.get("d.csi").unwrap().session(limit);

    let error = session(TIMEOUT).unpublish(NodeUnpublishVolumeRequest::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "rpc error: code = InvalidArgument desc = volume_id is required");
    assert!(error.is_final() && error.method() == "NodeUnpublishVolume");

    driver.fault(Fault::Hang, |_: &NodeGetCapabilitiesRequest| true);
    let error = session(Duration::from_millis(100)).capabilities().await.unwrap_err();
    assert_eq!(error.to_string(), "rpc error: code = DeadlineExceeded desc = context deadline exceeded");
    assert!(!error.is_final());
    driver.clear_faults();

    driver.fault_once(Fault::Disconnect, |_: &NodeGetCapabilitiesRequest| true);
    let error = session(TIMEOUT).capabilities().await.unwrap_err();
    assert!((error.code(), error.is_final()) == (Code::Unavailable, false), "{error}");

    driver.stop();
    let error = session(TIMEOUT).capabilities().await.unwrap_err().to_string();
    let begin =
        format!("rpc error: code = Unavailable desc = connection error: {}", driver.socket().display());
    assert!(error.starts_with(&begin) && error.contains("No such file"), "{error}");
    driver.start_again().unwrap();
    session(TIMEOUT).capabilities().await.unwrap();
    assert!(Path::new(&driver.socket()).exists());
}
