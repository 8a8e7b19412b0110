//! Probes as the pod workers see them: the prober, commands through the runtime, and outcomes that survive a
//! restart of the agent.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::ExecSyncRequest;
use cri_client::{Client, ErrorKind};
use cri_config::paths;
use kube_model::core::Pod;
use kube_model::observed::{ContainerState, ObservedPod, SandboxState};
use kube_model::probe::PodProbes;
use kube_model::view::EventType;
use kube_model::{PodUid, Timestamp};
use pod_workers::{NodeState, Probes, Workers};
use prober::{Exec, ExecError, ExecOutput, Prober, Running, Tallied};
use tokio::sync::watch;

use crate::CriRuntime;

mod news;

use news::{Follower, NewsSink};
pub use news::{News as ProbeNews, follow as follow_probes, news as probe_news};

/// Runs exec probes through the runtime.
pub struct CriExec(pub Client);

impl Exec for CriExec {
    async fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutput, ExecError> {
        let seconds = i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX);
        let request =
            ExecSyncRequest { container_id: container_id.to_owned(), cmd: command, timeout: seconds };
        // The runtime ends the command at its timeout; a runtime that hangs must not hold the probe.
        let limit = timeout.saturating_add(Duration::from_secs(10));
        match tokio::time::timeout(limit, self.0.exec_sync(request)).await {
            Ok(Ok(answer)) => {
                let output = [answer.stdout, answer.stderr].concat();
                Ok(ExecOutput { exit_code: answer.exit_code, output })
            }
            Ok(Err(error)) => match error.kind() {
                ErrorKind::DeadlineExceeded { .. } => Err(ExecError::Timeout),
                _ => Err(ExecError::Other(error.to_string())),
            },
            Err(_) => Err(ExecError::Timeout),
        }
    }
}

/// The prober with its memory on disk: `<root>/pods/<uid>/probe-results.json`, written when an outcome changes,
/// so that a restarted agent neither takes a ready pod out of service nor puts an unready one in.
pub struct AgentProbes {
    prober: Prober<CriExec, NewsSink>,
    root_dir: PathBuf,
    /// Where pods in the node's network are probed.
    node: watch::Receiver<Arc<NodeState>>,
}

impl AgentProbes {
    /// `prober` tells the workers through its sink; pods in the network of `node` are probed at its address.
    pub fn new(
        prober: Prober<CriExec, NewsSink>,
        root_dir: &Path,
        node: watch::Receiver<Arc<NodeState>>,
    ) -> Self {
        Self { prober, root_dir: root_dir.to_owned(), node }
    }

    /// How all probes went that are there now.
    pub fn tallies(&self) -> Vec<Tallied> {
        self.prober.tallies()
    }

    fn file(&self, uid: &PodUid) -> PathBuf {
        paths::pod_dir(&self.root_dir, uid).join("probe-results.json")
    }

    /// Writes the outcomes beside the pod's other files. Rename makes it whole or absent; no fsync: after a
    /// reboot the containers are gone and so is the meaning of the file.
    fn save(&self, uid: &PodUid) {
        let path = self.file(uid);
        let outcomes = self.prober.results(uid);
        if outcomes.0.is_empty() {
            // Of a pod that ends: what is there says nothing of any other container, and goes with its folder.
            return;
        }
        let write = || -> std::io::Result<()> {
            let partial = path.with_extension("tmp");
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec(&*outcomes)?)?;
            fs::rename(&partial, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(%uid, "{}: cannot keep probe outcomes: {}", path.display(), util::causes(&error));
        }
    }
}

/// The outcomes in this file; `None` if there are none.
fn read(uid: &PodUid, path: &Path) -> Option<PodProbes> {
    let bytes = fs::read(path).ok()?;
    let outcomes = serde_json::from_slice(&bytes);
    outcomes
        .inspect_err(|error| {
            tracing::warn!(%uid, "{}: not probe outcomes, ignored: {}", path.display(), util::causes(error));
        })
        .ok()
}

/// Who acts by what the prober tells.
pub struct ProbeFollower {
    /// Whose outcomes are written down.
    pub probes: Arc<AgentProbes>,
    /// Who acts by them.
    pub workers: Workers<CriRuntime, AgentProbes>,
}

impl Follower for ProbeFollower {
    fn save(&self, pods: &BTreeSet<PodUid>) {
        pods.iter().for_each(|pod| self.probes.save(pod));
    }

    fn wake(&self, pod: &PodUid) {
        self.workers.wake(pod);
    }

    fn event(&self, pod: &PodUid, container: &str, kind: EventType, reason: &'static str, message: String) {
        self.workers.event(pod, Some(container), kind, reason, message);
    }
}

impl Probes for AgentProbes {
    async fn restore(&self, uid: &PodUid) {
        let (path, of) = (self.file(uid), uid.clone());
        // Fails only when the agent is going down.
        let outcomes = tokio::task::spawn_blocking(move || read(&of, &path)).await.ok().flatten();
        if let Some(outcomes) = outcomes {
            self.prober.restore(uid, outcomes);
        }
    }

    fn sync(&self, pod: &Arc<Pod>, observed: &ObservedPod) {
        let sandbox = observed.sandboxes.iter().find(|s| s.state == SandboxState::Ready);
        let of_node = || self.node.borrow().facts.host_ips.first().copied();
        let ip = sandbox.and_then(|s| if s.host_network { of_node() } else { s.ips.first().copied() });
        let mut running: Vec<Running> = Vec::new();
        for c in observed.containers.iter().filter(|c| c.state == ContainerState::Running) {
            if running.iter().all(|r| r.name != c.name) {
                running.push(Running {
                    name: c.name.clone(),
                    container_id: c.id.clone(),
                    started_at: c.started_at.unwrap_or(Timestamp::UNIX_EPOCH),
                });
            }
        }
        self.prober.sync(pod, ip, &running);
    }

    fn results(&self, uid: &PodUid) -> Arc<PodProbes> {
        self.prober.results(uid)
    }

    fn terminating(&self, uid: &PodUid) {
        self.prober.terminating(uid);
    }

    fn remove(&self, uid: &PodUid) {
        self.prober.remove(uid);
    }
}
