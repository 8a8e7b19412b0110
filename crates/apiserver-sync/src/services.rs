//! The services of the cluster, as far as containers hear of them: names, addresses and ports.
//!
//! Rule: upstream `pkg/kubelet/kubelet.go` (which services are watched) and `kubelet_pods.go` (when they are needed).

mod environment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt as _;
use kube::api::ObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use kube_model::core;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::pace::paced;
use crate::retry_after::retry_after;

pub use environment::{Port, Service, environment};

/// No variables can be made yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("services have not yet been read at least once, cannot construct envvars")]
pub struct NotSynced;

type Key = (Box<str>, Box<str>);

/// All services that have an address, kept up to date. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    known: Arc<RwLock<BTreeMap<Key, Service>>>,
    synced: watch::Receiver<bool>,
}

impl Services {
    /// Watches until `cancel` is cancelled. Must be called within a tokio runtime.
    pub fn watch(client: Client, cancel: CancellationToken) -> Self {
        let known = Arc::default();
        let (synced, receiver) = watch::channel(false);
        let following = Arc::clone(&known);
        tokio::spawn(async move { cancel.run_until_cancelled(follow(client, following, synced)).await });
        Self { known, synced: receiver }
    }

    /// The variables for a container: see [`environment`].
    ///
    /// # Errors
    /// Until all services were read once. The kubelet lets pods of the API server wait for that, but no static
    /// ones.
    pub fn environment(&self, namespace: &str, links: bool) -> Result<BTreeMap<String, String>, NotSynced> {
        if !*self.synced.borrow() {
            return Err(NotSynced);
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Ok(environment(known.values(), namespace, links))
    }

    /// Returns when all services were read once, or never will be because the watch was cancelled.
    pub async fn synced(&self) {
        // An error says that the watch has ended.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }
}

async fn follow(client: Client, known: Arc<RwLock<BTreeMap<Key, Service>>>, synced: watch::Sender<bool>) {
    let api = Api::<Received>::all(paced(client));
    // From the server's cache: with pages kube would leave out that it is meant.
    let config = watcher::Config { page_size: None, ..watcher::Config::default().any_semantic() };
    let with_address = config.clone().fields("spec.clusterIP!=None");
    let mut events = watcher(api.clone(), with_address).default_backoff().boxed();
    let mut listed = BTreeMap::new();
    let mut complaint = String::new();
    let write = || known.write().unwrap_or_else(PoisonError::into_inner);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                // Only the beginning of a try.
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(service)) => {
                listed.insert(service.key(), service.into());
            }
            Ok(Event::InitDone) => {
                *write() = std::mem::take(&mut listed);
                synced.send_replace(true);
            }
            Ok(Event::Apply(service)) => {
                write().insert(service.key(), service.into());
            }
            Ok(Event::Delete(service)) => {
                write().remove(&service.key());
            }
            // Servers before 1.22 do not know that field; headless services are left out of variables anyhow.
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 400 => {
                events = watcher(api.clone(), config.clone()).default_backoff().boxed();
            }
            Err(error) => {
                let text = util::causes(&error);
                if text != complaint {
                    tracing::warn!("services can not be watched: {text}; what is known of them stays");
                    complaint = text;
                }
                // kube's own pause comes behind this one.
                sleep(retry_after(&error)).await;
                continue;
            }
        }
        complaint.clear();
    }
}

/// A service on the wire: the rest of it is not even kept while it is read.
#[derive(Debug, Clone, Deserialize)]
struct Received {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Spec {
    #[serde(rename = "clusterIP", default)]
    cluster_ip: Option<Box<str>>,
    #[serde(default)]
    ports: Option<Vec<WirePort>>,
}

#[derive(Debug, Clone, Deserialize)]
struct WirePort {
    #[serde(default)]
    name: Option<Box<str>>,
    port: i32,
    #[serde(default)]
    protocol: Option<Box<str>>,
}

impl Received {
    fn key(&self) -> Key {
        let text = |value: &Option<String>| value.as_deref().unwrap_or_default().into();
        (text(&self.metadata.namespace), text(&self.metadata.name))
    }
}

impl From<Received> for Service {
    fn from(service: Received) -> Self {
        let (namespace, name) = service.key();
        let port = |port: WirePort| Port {
            name: port.name.unwrap_or_default(),
            port: port.port,
            protocol: port.protocol.unwrap_or_default(),
        };
        Self {
            namespace,
            name,
            cluster_ip: service.spec.cluster_ip.unwrap_or_default(),
            ports: service.spec.ports.into_iter().flatten().map(port).collect(),
        }
    }
}

impl Resource for Received {
    type DynamicType = ();
    type Scope = <core::Service as Resource>::Scope;

    fn kind(dynamic: &()) -> std::borrow::Cow<'_, str> {
        core::Service::kind(dynamic)
    }

    fn group(dynamic: &()) -> std::borrow::Cow<'_, str> {
        core::Service::group(dynamic)
    }

    fn version(dynamic: &()) -> std::borrow::Cow<'_, str> {
        core::Service::version(dynamic)
    }

    fn plural(dynamic: &()) -> std::borrow::Cow<'_, str> {
        core::Service::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
