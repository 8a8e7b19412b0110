//! Whether blocking work goes on. Whatever waits for files runs on threads of which there are so many, and each that a
//! disk keeps waiting is lost for others; with the last of them everything stops that needs a file, while all else looks
//! well. Nothing is done unless somebody asks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long blocking work may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// The check.
#[derive(Debug)]
pub(crate) struct BlockingWork {
    pool: Handle,
    patience: Duration,
    /// What the one who asked last has put to the end of the queue, and when.
    probe: Mutex<Option<(Instant, JoinHandle<()>)>>,
}

impl BlockingWork {
    pub(crate) fn new(pool: Handle) -> Self {
        Self { pool, patience: PATIENCE, probe: Mutex::default() }
    }

    #[cfg(test)]
    pub(crate) fn impatient(pool: Handle) -> Self {
        Self { patience: Duration::ZERO, ..Self::new(pool) }
    }

    /// Waits for nothing: says what became of what was put to the queue when somebody asked before.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting =
            probe.as_ref().filter(|(_, probe)| !probe.is_finished()).map(|(since, _)| since.elapsed());
        match waiting {
            None => *probe = Some((Instant::now(), self.pool.spawn_blocking(|| {}))),
            Some(waiting) if waiting >= self.patience => {
                let seconds = waiting.as_secs();
                return Err(format!(
                    "no blocking work has begun for {seconds} s: all threads wait for files"
                ));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_begin_is_told_after_a_while_and_until_it_has() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
        let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
        runtime.block_on(async {
            let work = BlockingWork::new(Handle::current());
            let stuck = tokio::task::spawn_blocking(move || released.recv());
            assert_eq!(work.check(), Ok(()), "it is too early to tell");
            tokio::time::advance(PATIENCE / 2).await;
            assert_eq!(work.check(), Ok(()));
            tokio::time::advance(PATIENCE / 2).await;
            let want = "no blocking work has begun for 30 s: all threads wait for files";
            assert_eq!(work.check(), Err(want.to_owned()));
            drop(release);
            let _disconnected = stuck.await;
            // The one thread takes it next.
            tokio::task::spawn_blocking(|| {}).await.unwrap();
            assert_eq!(work.check(), Ok(()));
        });
    }
}
