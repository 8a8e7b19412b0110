//! The pods that the server told, and what is wrong with any of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube_model::core::Pod;
use kube_model::view::Problem;
use kube_model::{PodKey, PodUid, Timestamp, labels, pod};

use super::SOURCE;
use super::received::{Received, Rest};
use crate::Location;

/// All pods, by namespace and name.
#[derive(Debug)]
pub(super) struct Pods {
    endpoint: Arc<str>,
    /// Whose pods they are.
    node_name: String,
    known: BTreeMap<PodKey, Known>,
    /// A list that is not complete yet.
    listed: BTreeMap<PodKey, Known>,
    seen: bool,
}

#[derive(Debug, Clone)]
struct Known {
    /// `None`: it could never be decoded.
    pod: Option<Arc<Pod>>,
    problems: Vec<Problem>,
}

impl Pods {
    pub(super) fn new(endpoint: Arc<str>, node_name: String) -> Self {
        Self { endpoint, node_name, known: BTreeMap::new(), listed: BTreeMap::new(), seen: false }
    }

    /// Whether a whole list was seen.
    pub(super) fn seen(&self) -> bool {
        self.seen
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.known.values().filter_map(|known| known.pod.as_ref())
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.known.values().flat_map(|known| &known.problems)
    }

    /// Each pod is written in the server, under its URL.
    pub(super) fn locations(&self) -> BTreeMap<PodUid, Location> {
        let location = |pod: &Arc<Pod>| {
            let (uid, key) = pod::identity(pod);
            (uid, Location { path: self.url(&key), ..Location::default() })
        };
        self.iter().map(location).collect()
    }

    /// A problem of the server itself.
    pub(super) fn failure(&self, message: String) -> Problem {
        Problem { path: PathBuf::from(&*self.endpoint), message, ..Problem::default() }
    }

    /// Takes what the watch says. A list replaces everything, once it is complete.
    pub(super) fn take(&mut self, event: Event<Received>, now: Timestamp) {
        match event {
            // The server was asked for this node's only; who stands between may not have understood.
            Event::InitApply(received) | Event::Apply(received) if self.is_anothers(&received) => {}
            Event::Init => self.listed.clear(),
            Event::InitApply(received) => {
                let (key, known) = self.known(received, now);
                self.listed.insert(key, known);
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listed);
                self.seen = true;
            }
            Event::Apply(received) => {
                let (key, known) = self.known(received, now);
                self.known.insert(key, known);
            }
            Event::Delete(received) => {
                self.known.remove(&key(&received));
            }
        }
    }

    fn is_anothers(&self, received: &Received) -> bool {
        let node = received.rest.as_ref().ok().and_then(|rest| rest.spec.node_name.as_deref());
        node.is_some_and(|node| node != self.node_name)
    }

    fn known(&self, received: Received, now: Timestamp) -> (PodKey, Known) {
        let key = key(&received);
        let uid = received.metadata.uid.clone();
        // Another pod may have come under the same name.
        let before = self
            .known
            .get(&key)
            .filter(|known| known.pod.as_ref().is_some_and(|pod| pod.metadata.uid == uid));
        let version = received.metadata.resource_version.as_deref();
        if let Some(before) = before
            && let Some(pod) = &before.pod
            && version.is_some()
            && pod.metadata.resource_version.as_deref() == version
        {
            return (key, before.clone());
        }
        let before = before.and_then(|known| known.pod.as_ref());
        let problem = |field, message, warning| Problem {
            path: self.url(&key),
            field: Some(field),
            message,
            warning,
            ..Problem::default()
        };
        let Received { metadata, rest } = received;
        let known = match rest {
            Ok(Rest { spec, status, unknown }) => Known {
                pod: Some(Arc::new(marked(Pod { metadata, spec: Some(spec), status }, before, now))),
                problems: unknown
                    .into_iter()
                    .map(|field| {
                        problem(field, "unknown to this version of the agent, ignored".to_owned(), true)
                    })
                    .collect(),
            },
            // At least its deletion and its labels get through.
            Err(why) => {
                let pod = before.map(|before| Pod { metadata, ..Pod::clone(before) });
                let goes_on = if pod.is_some() { "; its last good spec keeps running" } else { "" };
                Known {
                    pod: pod.map(|pod| Arc::new(marked(pod, before, now))),
                    problems: vec![problem(why.field, format!("{}{goes_on}", why.message), false)],
                }
            }
        };
        (key, known)
    }

    fn url(&self, key: &PodKey) -> PathBuf {
        format!("{}/api/v1/namespaces/{}/pods/{}", self.endpoint, key.namespace, key.name).into()
    }
}

fn key(received: &Received) -> PodKey {
    let meta = &received.metadata;
    PodKey::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// The annotations that every source makes. Rule: upstream `pkg/kubelet/config/config.go`; one UID is seen for the
/// first time once.
fn marked(mut pod: Pod, before: Option<&Arc<Pod>>, now: Timestamp) -> Pod {
    manifest::stamp(&mut pod, now);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_SOURCE.to_owned(), SOURCE.to_owned());
    if let Some(seen) = before.and_then(|before| pod::annotation(before, labels::CONFIG_SEEN)) {
        annotations.insert(labels::CONFIG_SEEN.to_owned(), seen.to_owned());
    }
    pod
}
