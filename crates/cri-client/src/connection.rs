//! One connection to one endpoint: dials when a call needs it, backs off when nobody listens, and gives each call
//! its deadline.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tonic::transport::{Channel, Uri};
use tonic::{Request, Response, Status};

use util::Backoff;

use crate::connector::{Connector, Stream};
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};

/// Longest pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// After failed attempts to connect, and after lost event streams.
pub(crate) const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE);
/// gRPC carries error messages in headers; the usual 16 KiB would turn a long one into a broken stream.
const MAX_HEADERS: u32 = 1 << 20;

/// A lazily opened connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
    endpoint: Arc<Endpoint>,
    backoff: Arc<Mutex<Dialling>>,
    observer: Observer,
}

/// Hears of each call that was answered or failed: its method as CRI names it, how long it took, whether it failed.
/// Must not block.
#[derive(Clone, Default)]
pub(crate) struct Observer(pub(crate) Option<Arc<Observe>>);

pub(crate) type Observe = dyn Fn(&'static str, Duration, bool) + Send + Sync;

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}

impl Connection {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(connector: Connector, observer: Observer) -> Self {
        let endpoint = Arc::clone(&connector.endpoint);
        let backoff = Arc::<Mutex<Dialling>>::default();
        let dialer = {
            let backoff = Arc::clone(&backoff);
            tower::service_fn(move |_: Uri| dial(connector.clone(), Arc::clone(&backoff)))
        };
        // The authority that Go's clients send to a unix socket; tonic reconnects through the dialer.
        let channel = tonic::transport::Endpoint::from_static("http://localhost")
            .http2_max_header_list_size(MAX_HEADERS)
            .connect_with_connector_lazy(dialer);
        Self { channel, endpoint, backoff, observer }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// How long until the next attempt to connect is allowed; zero when there was no failure.
    pub(crate) fn pause(&self) -> Duration {
        lock(&self.backoff).pause(Instant::now())
    }

    pub(crate) fn error(&self, method: &'static str, kind: ErrorKind) -> Error {
        Error::new(method, &self.endpoint, kind)
    }

    /// Names the failure of a call that has no deadline.
    pub(crate) fn failed(&self, method: &'static str, status: &Status) -> Error {
        self.error(method, ErrorKind::of(status, Duration::ZERO, None))
    }

    /// Sends one request and waits for what `send` makes of it, within the request's deadline. Dropping the
    /// future cancels the call on the wire.
    pub(crate) async fn call<Req, Res, F>(
        &self,
        method: &'static str,
        request_timeout: Duration,
        request: Req,
        send: impl FnOnce(Channel, Request<Req>) -> F,
    ) -> Result<Res, Error>
    where
        Req: Deadline,
        F: Future<Output = Result<Response<Res>, Status>>,
    {
        let deadline = request.deadline(request_timeout);
        let mut request = Request::new(request);
        if let Some(deadline) = deadline {
            // The runtime gives up at the same time.
            request.set_timeout(deadline);
        }
        let start = Instant::now();
        let answer = send(self.channel(), request);
        let answer = match deadline {
            Some(deadline) => tokio::time::timeout(deadline, answer).await.map_err(|_| deadline),
            None => Ok(answer.await),
        };
        if let Observer(Some(observe)) = &self.observer {
            observe(method, start.elapsed(), !matches!(answer, Ok(Ok(_))));
        }
        let kind = match answer {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => ErrorKind::of(&status, start.elapsed(), deadline),
            Err(after) => ErrorKind::DeadlineExceeded { after, message: String::new() },
        };
        Err(self.error(method, kind))
    }
}

/// When the next attempt to connect is allowed.
#[derive(Debug)]
struct Dialling {
    pauses: Backoff,
    last: Option<Failure>,
}

impl Default for Dialling {
    fn default() -> Self {
        Self { pauses: PAUSES, last: None }
    }
}

#[derive(Debug)]
struct Failure {
    why: String,
    retry_at: Instant,
}

impl Dialling {
    fn pause(&self, now: Instant) -> Duration {
        self.last.as_ref().map_or(Duration::ZERO, |last| last.retry_at.saturating_duration_since(now))
    }

    fn failed(&mut self, why: String, now: Instant) {
        self.last = Some(Failure { why, retry_at: now + self.pauses.failed() });
    }

    fn succeeded(&mut self) {
        self.pauses.succeeded();
        self.last = None;
    }
}

fn lock(backoff: &Mutex<Dialling>) -> std::sync::MutexGuard<'_, Dialling> {
    // Every change is a single assignment: a panic cannot leave it half done.
    backoff.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn dial(connector: Connector, backoff: Arc<Mutex<Dialling>>) -> io::Result<TokioIo<Box<dyn Stream>>> {
    {
        let backoff = lock(&backoff);
        let pause = backoff.pause(Instant::now());
        if let Some(last) = backoff.last.as_ref().filter(|_| !pause.is_zero()) {
            return Err(io::Error::other(format!("{}; next attempt in {pause:.1?}", last.why)));
        }
    }
    match connector.connect().await {
        Ok(stream) => {
            lock(&backoff).succeeded();
            Ok(TokioIo::new(stream))
        }
        Err(error) => {
            let why = format!("cannot connect: {error}");
            lock(&backoff).failed(why.clone(), Instant::now());
            Err(io::Error::new(error.kind(), why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_100_ms_to_3_s_and_a_success_forgets_them() {
        let mut backoff = Dialling::default();
        let mut now = Instant::now();
        assert_eq!(backoff.pause(now), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            backoff.failed("refused".into(), now);
            pauses.push(backoff.pause(now).as_millis());
            now += backoff.pause(now);
            assert_eq!(backoff.pause(now), Duration::ZERO);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3000, 3000, 3000]);
        backoff.succeeded();
        assert_eq!(backoff.pause(now), Duration::ZERO);
        backoff.failed("refused".into(), now);
        assert_eq!(backoff.pause(now).as_millis(), 100);
    }
}
