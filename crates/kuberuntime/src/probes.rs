//! Probes as the pod workers see them: the prober, commands through the runtime, and outcomes that survive a
//! restart of the agent.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cri_client::v1::ExecSyncRequest;
use cri_client::{Client, ErrorKind};
use cri_config::paths;
use kube_model::core::Pod;
use kube_model::observed::{ContainerState, ObservedPod, SandboxState};
use kube_model::probe::PodProbes;
use kube_model::view::EventType;
use kube_model::{PodUid, Timestamp};
use pod_workers::{Node, Probes, Workers};
use prober::{Exec, ExecError, ExecOutput, Prober, Running, Sink, Tallied};
use tokio::sync::watch;

use crate::CriRuntime;

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

/// Hears the prober. Made before the workers that it tells, so they come in later.
#[derive(Default)]
pub struct ProbeSink {
    target: OnceLock<Target>,
}

struct Target {
    workers: Workers<CriRuntime, AgentProbes>,
    probes: Arc<AgentProbes>,
}

/// The sink is shared by the prober and by those who complete it.
pub struct SharedSink(pub Arc<ProbeSink>);

impl ProbeSink {
    /// Tells the sink whom to tell. Called once, before the first pod is set.
    pub fn connect(&self, workers: Workers<CriRuntime, AgentProbes>, probes: Arc<AgentProbes>) {
        let _ = self.target.set(Target { workers, probes });
    }
}

impl Sink for SharedSink {
    fn changed(&self, pod: &PodUid) {
        if let Some(target) = self.0.target.get() {
            target.probes.save(pod);
            target.workers.wake(pod);
        }
    }

    fn event(&self, pod: &PodUid, container: &str, kind: EventType, reason: &'static str, message: String) {
        if let Some(target) = self.0.target.get() {
            target.workers.event(pod, Some(container), kind, reason, message);
        }
    }
}

/// The prober with its memory on disk: `<root>/pods/<uid>/probe-results.json`, written when an outcome changes,
/// so that a restarted agent neither takes a ready pod out of service nor puts an unready one in.
pub struct AgentProbes {
    prober: Prober<CriExec, SharedSink>,
    root_dir: PathBuf,
    /// Pods whose outcomes were read back.
    restored: Mutex<HashSet<PodUid>>,
    /// Held from reading outcomes to having written them: the probes of one pod change them side by side.
    saving: Mutex<()>,
    /// Where pods in the node's network are probed.
    node: watch::Receiver<Arc<Node>>,
}

impl AgentProbes {
    /// `prober` tells the workers through its sink; pods in the network of `node` are probed at its address.
    pub fn new(
        prober: Prober<CriExec, SharedSink>,
        root_dir: &Path,
        node: watch::Receiver<Arc<Node>>,
    ) -> Self {
        Self {
            prober,
            root_dir: root_dir.to_owned(),
            restored: Mutex::default(),
            saving: Mutex::default(),
            node,
        }
    }

    /// How all probes went that are there now.
    pub fn tallies(&self) -> Vec<Tallied> {
        self.prober.tallies()
    }

    fn file(&self, uid: &PodUid) -> PathBuf {
        paths::pod_dir(&self.root_dir, uid).join("probe-results.json")
    }

    /// Reads back what an earlier run of the agent knew, once a pod.
    fn restore(&self, uid: &PodUid) {
        let new = self.restored.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone());
        if !new {
            return;
        }
        let path = self.file(uid);
        let Ok(bytes) = fs::read(&path) else { return };
        match serde_json::from_slice::<PodProbes>(&bytes) {
            Ok(outcomes) => self.prober.restore(uid, outcomes),
            Err(error) => tracing::warn!(%uid, "{}: not probe outcomes, ignored: {error}", path.display()),
        }
    }

    /// Writes the outcomes beside the pod's other files. Rename makes it whole or absent; no fsync: after a
    /// reboot the containers are gone and so is the meaning of the file.
    fn save(&self, uid: &PodUid) {
        let path = self.file(uid);
        let _one_at_a_time = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes = self.prober.results(uid);
        let write = || -> std::io::Result<()> {
            let partial = path.with_extension("tmp");
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec(&*outcomes)?)?;
            fs::rename(&partial, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(%uid, "{}: cannot keep probe outcomes: {error}", path.display());
        }
    }
}

impl Probes for AgentProbes {
    fn sync(&self, pod: &Arc<Pod>, observed: &ObservedPod) {
        self.restore(&observed.uid);
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
        self.restored.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
