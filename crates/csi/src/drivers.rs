//! The drivers that are there, by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::metrics::{Calls, Counted};
use crate::registry::attempt::node_info;
use crate::registry::version::Version;
use crate::session::{Session, TIMEOUT};

/// What a driver says of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// What the driver calls it.
    pub node_id: String,
    /// How many volumes it can take; 0: not said. Negative is not allowed, and yet may be said.
    pub max_volumes: i64,
    /// Which volumes can be used from it: names and values, such as a zone.
    pub topology: BTreeMap<String, String>,
}

/// What is to be told of drivers: of one that has gone, `None`.
pub type Reported = Arc<BTreeMap<String, Option<NodeInfo>>>;

/// A driver that has made itself known.
#[derive(Debug, Clone)]
pub struct Driver {
    endpoint: Arc<Path>,
    calls: Calls,
    version: Version,
    /// The socket that it made itself known by.
    socket: PathBuf,
}

impl Driver {
    /// Begins an operation, each step of which may take so long. Within a tokio runtime.
    pub fn session(&self, limit: Duration) -> Session {
        Session::new(Arc::clone(&self.endpoint), self.calls.clone(), limit)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Path {
        &self.endpoint
    }
}

/// All drivers of the node. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Drivers {
    table: Arc<watch::Sender<BTreeMap<String, Driver>>>,
    reported: Arc<watch::Sender<Reported>>,
    pub(crate) counted: Arc<Counted>,
}

impl Default for Drivers {
    fn default() -> Self {
        Self {
            table: Arc::new(watch::Sender::default()),
            reported: Arc::new(watch::Sender::default()),
            counted: Arc::default(),
        }
    }
}

impl Drivers {
    /// The driver of this name, if it is there.
    pub fn get(&self, name: &str) -> Option<Driver> {
        self.table.borrow().get(name).cloned()
    }

    /// The names of all.
    pub fn names(&self) -> Vec<String> {
        self.table.borrow().keys().cloned().collect()
    }

    /// Changes when a driver comes, goes or comes again.
    pub fn changes(&self) -> watch::Receiver<BTreeMap<String, Driver>> {
        self.table.subscribe()
    }

    /// What the cluster is to be told of them; of those that went in this run, that they did.
    pub fn reported(&self) -> watch::Receiver<Reported> {
        self.reported.subscribe()
    }

    /// Asks a driver once more what it says of the node; what it says otherwise than before is to be told.
    pub async fn ask_again(&self, name: &str) {
        let Some(driver) = self.get(name) else { return };
        match node_info(name, &driver.session(TIMEOUT)).await {
            // It may have gone meanwhile, or be another one.
            Ok(node) if self.get(name).is_some_and(|now| now.endpoint == driver.endpoint) => {
                self.report(name, Some(node));
            }
            Ok(_) => {}
            Err(why) => tracing::warn!("a driver cannot say again how many volumes the node can take: {why}"),
        }
    }

    /// Whether one that makes itself known by `socket` may have the name: of two with one name the first has it, unless
    /// the second speaks a higher version (upstream `csi_plugin.go` `validateVersions`).
    pub(crate) fn check(&self, name: &str, socket: &Path, version: Version) -> Result<(), String> {
        match self.table.borrow().get(name) {
            Some(other) if other.socket != socket && other.version >= version => Err(format!(
                "kubernetes.io/csi: RegisterPlugin for CSI driver {name:?} failed. Another driver with the same name is \
                 already registered with a higher supported version: \"{}\" ({})",
                other.version,
                other.socket.display()
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn set(&self, name: &str, endpoint: &Path, version: Version, socket: &Path, node: NodeInfo) {
        let calls = Calls::new(name, Arc::clone(&self.counted));
        let driver = Driver { endpoint: endpoint.into(), calls, version, socket: socket.to_owned() };
        self.table.send_modify(|table| {
            table.insert(name.to_owned(), driver);
            self.report(name, Some(node));
        });
    }

    /// The one that made itself known by this socket is gone; another of the name is not.
    pub(crate) fn remove(&self, name: &str, socket: &Path) {
        self.table.send_if_modified(|table| {
            let is_its = table.get(name).is_some_and(|driver| driver.socket == socket);
            if is_its {
                table.remove(name);
                self.report(name, None);
            }
            is_its
        });
    }

    fn report(&self, name: &str, node: Option<NodeInfo>) {
        self.reported.send_if_modified(|reported| {
            if reported.get(name) == Some(&node) {
                return false;
            }
            Arc::make_mut(reported).insert(name.to_owned(), node);
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_with_one_name_the_first_has_it_unless_the_second_is_newer() {
        let drivers = Drivers::default();
        let version = |text| Version::highest(&[text]).unwrap();
        let (one, two) = (Path::new("/r/one"), Path::new("/r/two"));
        let node = NodeInfo { node_id: "n".to_owned(), ..NodeInfo::default() };
        drivers.set("d", Path::new("/d1"), version("1.1.0"), one, node.clone());
        assert!(drivers.check("d", one, version("1.0.0")).is_ok(), "the same socket again");
        assert!(drivers.check("e", two, version("1.0.0")).is_ok());
        assert!(drivers.check("d", two, version("1.2.0")).is_ok());
        let error = drivers.check("d", two, version("1.1.0")).unwrap_err();
        assert!(
            error.contains("already registered with a higher supported version: \"1.1.0\" (/r/one)"),
            "{error}"
        );

        drivers.set("d", Path::new("/d2"), version("1.2.0"), two, node.clone());
        drivers.remove("d", one);
        assert_eq!(drivers.get("d").unwrap().endpoint(), Path::new("/d2"), "not the first's any more");
        assert_eq!(drivers.reported().borrow()["d"], Some(node));
        drivers.remove("d", two);
        assert!(drivers.get("d").is_none());
        assert_eq!(drivers.reported().borrow()["d"], None);
    }
}
