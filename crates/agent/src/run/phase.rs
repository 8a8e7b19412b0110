//! What begins and ends together.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks of one part of the agent.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    /// Cancelled when the phase ends.
    pub(crate) stop: CancellationToken,
    /// Waited for then.
    pub(crate) tasks: TaskTracker,
}

impl Phase {
    /// Runs a task until the phase ends, which drops it where it waits.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Tells all of it to end, and waits until it has.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_phase_has_ended_when_nothing_of_it_is_left() {
        let phase = Phase::default();
        let held = Arc::new(());
        for _ in 0..3 {
            let held = Arc::clone(&held);
            phase.spawn(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        assert_eq!(Arc::strong_count(&held), 4);
        phase.end().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
