//! From sources to workers: applies each full set to the pod manager and hands on what changed.

use std::sync::Arc;

use kube_model::view::Problem;
use pod_manager::{Change, PodManager};
use pod_workers::{Probes, Runtime, Workers};
use podsource::SourceState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Consumes one source until told to stop. Problems go to `problems` as they are now.
/// `desired` hears of all pods that are wanted whenever they change.
pub(crate) async fn follow<R: Runtime, P: Probes>(
    mut source: watch::Receiver<Arc<SourceState>>,
    mut manager: PodManager,
    workers: Workers<R, P>,
    problems: watch::Sender<Vec<Problem>>,
    desired: impl Fn(&PodManager),
    stop: CancellationToken,
) {
    let consume = async {
        loop {
            let state = Arc::clone(&source.borrow_and_update());
            log_new(&problems.borrow(), &state.problems);
            let changed = problems.send_if_modified(|shown| {
                let changed = *shown != state.problems;
                if changed {
                    shown.clone_from(&state.problems);
                }
                changed
            });
            if changed {
                workers.bump();
            }
            if state.seen {
                let changes = manager.apply(state.source, state.pods.clone());
                if !changes.is_empty() {
                    desired(&manager);
                }
                for change in changes {
                    match change {
                        Change::Add(pod) | Change::Update(pod) | Change::Delete(pod) => workers.set(pod),
                        Change::Reconcile(_) => {}
                        Change::Remove(uid) => workers.remove(&uid),
                    }
                }
                if manager.sources_ready() {
                    workers.sources_ready();
                }
            }
            if source.changed().await.is_err() {
                return;
            }
        }
    };
    stop.run_until_cancelled(consume).await;
}

/// Each problem is logged when it comes, not at every poll.
fn log_new(known: &[Problem], now: &[Problem]) {
    for problem in now.iter().filter(|p| !known.contains(p)) {
        if problem.warning {
            tracing::warn!("manifest is used, but: {problem}");
        } else {
            tracing::error!("manifest cannot be used as it is: {problem}");
        }
    }
    for problem in known.iter().filter(|p| !now.contains(p)) {
        tracing::info!("manifest problem is gone: {problem}");
    }
}
