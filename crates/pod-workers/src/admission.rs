//! Asking whether the node takes a pod: each in its turn, and none held up by another's answer.
//!
//! The order protects one thing: who came first gets what there is, however fast its worker is, so that a full node
//! turns away those who came last (upstream `pkg/kubelet/kubelet.go` `HandlePodAdditions`, which asks for one pod after
//! the other). So pods are asked for in the order in which they came. When an answer takes longer than [`PATIENCE`] the
//! next is asked for, with the one in question counted as taken: who is taken beside it would have been taken after it,
//! too. Who is turned away beside it is asked for again when its answer is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_model::PodUid;
use kube_model::core::Pod;
use pod_lifecycle::Rejection;
use tokio::sync::{Notify, watch};

use crate::pod_status::SharedStatus;
use crate::registry::Workers;
use crate::state::Input;
use crate::traits::{Probes, Runtime};

/// So long those who came later wait for an answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// In which order pods are asked for.
#[derive(Default)]
pub(crate) struct AdmissionOrder {
    pods: Mutex<Pods>,
    /// Sent to with each answer.
    answers: watch::Sender<()>,
}

#[derive(Default)]
struct Pods {
    /// Those that are still to be asked for, by their arrival.
    coming: BTreeMap<u64, Arc<Notify>>,
    /// Those whose answer is outstanding, in the order in which they were asked for first.
    undecided: BTreeMap<u64, PodUid>,
    asked: u64,
}

/// A pod's position among those to be asked for, until it is dropped.
pub(crate) struct QueuePosition {
    order: Arc<AdmissionOrder>,
    arrival: u64,
    called: Arc<Notify>,
}

/// A pod that is asked for, until it is dropped.
struct Undecided {
    order: Arc<AdmissionOrder>,
    number: u64,
}

impl AdmissionOrder {
    pub(crate) fn enter(self: &Arc<Self>, arrival: u64) -> QueuePosition {
        let called = Arc::<Notify>::default();
        self.lock().coming.insert(arrival, Arc::clone(&called));
        QueuePosition { order: Arc::clone(self), arrival, called }
    }

    fn ask(self: &Arc<Self>, uid: &PodUid) -> Undecided {
        let mut pods = self.lock();
        pods.asked += 1;
        let number = pods.asked;
        pods.undecided.insert(number, uid.clone());
        Undecided { order: Arc::clone(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueuePosition {
    /// Returns when nobody is left who came earlier.
    async fn reached(&self) {
        // A call that comes before it is waited for is kept.
        while self.order.lock().coming.keys().next().is_some_and(|first| *first < self.arrival) {
            self.called.notified().await;
        }
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        let mut pods = self.order.lock();
        pods.coming.remove(&self.arrival);
        if let Some((_, next)) = pods.coming.first_key_value() {
            next.notify_one();
        }
    }
}

impl Undecided {
    /// The pods that were asked for earlier and have no answer yet. Those asked for later count this one.
    fn earlier(&self) -> BTreeSet<PodUid> {
        self.order.lock().undecided.range(..self.number).map(|(_, uid)| uid.clone()).collect()
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.order.lock().undecided.remove(&self.number);
        self.order.answers.send_replace(());
    }
}

/// Asks whether the node takes a pod, when it is its turn. One that is taken counts as admitted before the next is asked
/// for. May be dropped when the pod is to end.
pub(crate) async fn ask<R: Runtime, P: Probes>(
    workers: &Workers<R, P>,
    uid: &PodUid,
    pod: &Arc<Pod>,
    position: Option<QueuePosition>,
    status: &SharedStatus,
) -> Result<(), Rejection> {
    if let Some(position) = &position {
        position.reached().await;
    }
    let (admission, order) = (&workers.inner.context.admission, &workers.inner.admission_order);
    let undecided = order.ask(uid);
    let answer = async {
        loop {
            let mut answers = order.answers.subscribe();
            let earlier = undecided.earlier();
            let answer = admission.admit(pod, workers.inner.active_pods(Some(uid), &earlier)).await;
            let for_others = answer.as_ref().is_err_and(|rejection| admission.is_for_others(rejection));
            if earlier.is_empty() || !for_others {
                return answer;
            }
            // It may have been turned away for one that is turned away itself. The sender outlives this.
            let _ = answers.changed().await;
        }
    };
    let mut answer = std::pin::pin!(answer);
    let answer = match tokio::time::timeout(PATIENCE, &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            drop(position);
            status.doing(Some("waiting to be admitted by the node".to_owned()));
            let answer = answer.await;
            status.doing(None);
            answer
        }
    };
    if answer.is_ok() {
        workers.report(uid, Input::Admitted);
    }
    answer
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn each_waits_for_those_before_it_and_for_no_other() {
        let order = Arc::<AdmissionOrder>::default();
        let [third, first, second] = [3, 1, 2].map(|arrival| order.enter(arrival));
        assert!(first.reached().now_or_never().is_some());
        let mut waits = Box::pin(third.reached());
        assert!(waits.as_mut().now_or_never().is_none() && second.reached().now_or_never().is_none());
        // Who gives up lets nobody pass too early.
        drop(second);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        waits.await;
        assert!(order.enter(4).reached().now_or_never().is_none());
    }

    #[tokio::test]
    async fn of_two_without_an_answer_the_later_counts_the_earlier() {
        let order = Arc::<AdmissionOrder>::default();
        let mut answers = order.answers.subscribe();
        let [first, second] = ["a", "b"].map(|uid| order.ask(&uid.into()));
        assert_eq!((first.earlier(), second.earlier()), (BTreeSet::new(), BTreeSet::from(["a".into()])));
        drop(first);
        assert!(answers.changed().now_or_never().is_some() && second.earlier().is_empty());
    }
}
