//! Where work waits that may wait for long.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{Semaphore, oneshot};

/// What a volume lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// The agent's own disk or memory: if that does not answer nothing goes on anyway.
    OwnDisk,
    /// Whatever the pod names, as a server that may be dead: a thread of its own, so that it holds up nothing else.
    Elsewhere,
}

/// Stack of a thread for one operation: these call the kernel, no more.
const STACK: usize = 256 << 10;

/// As many work on the agent's own disk at once: after a start hundreds of volumes are looked at.
static OWN_DISK: Semaphore = Semaphore::const_new(16);

/// Does `work` where it may block, and gives its answer. Dropped half-way, it goes on and nobody hears of it.
///
/// # Errors
/// It panicked, or there is no thread for it.
pub(crate) async fn run<T: Send + 'static>(
    on: On,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    match on {
        On::OwnDisk => {
            let permit = OWN_DISK.acquire().await.map_err(|error| error.to_string())?;
            let work = move || {
                let _permit = permit;
                work()
            };
            tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
        }
        On::Elsewhere => {
            let (tell, told) = oneshot::channel();
            let work = move || {
                // Nobody may listen any more.
                let _ = tell.send(catch_unwind(AssertUnwindSafe(work)));
            };
            let thread = std::thread::Builder::new().name("volume".to_owned()).stack_size(STACK);
            thread.spawn(work).map_err(|error| format!("no thread for it: {error}"))?;
            match told.await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) | Err(_) => Err("the operation panicked".to_owned()),
            }
        }
    }
}
