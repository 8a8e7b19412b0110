//! The way to the API server: a kubeconfig becomes `kube::Client`s that share one HTTP/2 connection.
//!
//! kube's own stack opens a connection for each watch and reads certificates once; a node has a watch for each
//! object that its pods refer to, and certificates that are renewed. So kube gets its transport from here. Owns
//! connections, identity and rates. Knows nothing of what is asked, and sends nothing twice: who asks decides
//! what may be repeated.

mod answer;
mod credentials;
mod identity;
mod kubeconfig;
mod limit;
mod login;
mod refusal;
mod requests;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use kube::Client;
use kube::client::{Body, ConfigExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, ServiceBuilder, service_fn};

use answer::Answer;
use credentials::Exec;
use identity::IdentityCache;
use kubeconfig::Target;
use limit::Bucket;
use requests::Requests;
use transport::{Pool, Stream};

pub use identity::Renewed;
pub use limit::Limit;
pub use login::{Login, ServerEntry, login};
pub use requests::Counted;

/// How long the server may take for an answer: what it sends itself ends within a minute.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// What keeps a kubeconfig from being used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig itself.
    #[error("kubeconfig {} can not be read", path.display())]
    Read {
        /// The kubeconfig.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not the YAML of a kubeconfig.
    #[error("kubeconfig {}: {message}", path.display())]
    Syntax {
        /// The kubeconfig.
        path: PathBuf,
        /// Where and what, without the text around it.
        message: String,
    },
    /// A field of it, or the file that the field names.
    #[error("kubeconfig {}: {problem}", path.display())]
    Field {
        /// The kubeconfig.
        path: PathBuf,
        /// Field and reason.
        problem: Problem,
    },
}

/// What is wrong with a field of a kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field as it is found in the file, with names for the entries of its lists:
    /// `users[node1].user.client-key`; behind it the file that it names, if it does.
    pub field: String,
    /// What is wrong, without any secret.
    pub message: String,
}

impl Problem {
    fn new(field: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { field: field.to_string(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The server did not answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct NoAnswer(Duration);

/// How a client's requests travel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestConfig {
    /// How many requests may be sent; `None`: as many as there are.
    pub limit: Option<Limit>,
    /// How long the server may take for a whole answer, or to begin that of a watch; connecting counts.
    pub timeout: Duration,
    /// Whether it has connections of its own, so that it waits behind nobody's bytes.
    pub apart: bool,
}

impl RestConfig {
    /// For pods and objects, or for events: within `limit`, on the common connection.
    pub fn limited(limit: Limit) -> Self {
        Self { limit: Some(limit), timeout: RESPONSE_TIMEOUT, apart: false }
    }

    /// For the lease and the node's status: no limit, a connection of its own. The kubelet's timeout is the
    /// lesser of `nodeStatusUpdateFrequency` and the lease's duration.
    pub fn heartbeat(timeout: Duration) -> Self {
        Self { limit: None, timeout, apart: true }
    }
}

/// The kubelet's form of a user agent: `node-agent/0.1.0 (linux/amd64) kubernetes/v1.36`.
pub fn user_agent(program: &str, version: &str, kubernetes: &str) -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    format!("{program}/{version} ({}/{arch}) kubernetes/{kubernetes}", std::env::consts::OS)
}

/// An API server and who we are to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access(Arc<Shared>);

struct Shared {
    identities: IdentityCache,
    exec: Option<Exec>,
    user_agent: HeaderValue,
    common: Arc<Pool>,
    headers: kube::client::middleware::ExtraHeadersLayer,
    endpoint: Arc<str>,
    requests: Requests,
    /// Whether the request that ended last had no answer.
    failing: AtomicBool,
    reached: watch::Sender<()>,
}

/// Without anything that is secret.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Access {
    /// Reads a kubeconfig and the files it names; blocks for that, sends nothing.
    ///
    /// All fields are honoured that the kubelet honours, but for `proxy-url` and `auth-provider`, which are
    /// refused, and `disable-compression`: nothing is compressed. `user_agent` goes into every request.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The first thing wrong, with its field.
    pub fn load(kubeconfig: &Path, user_agent: &str) -> Result<Self, Error> {
        Self::of(Target::load(kubeconfig)?, None, kubeconfig, user_agent)
    }

    /// The same with a client certificate that is renewed. Until it is there, requests end with an error that says what it
    /// waits for, or go as the kubeconfig's user. With a new one ([`Access::renewed`]) requests take new connections; what
    /// runs on the old ones ends there, so that none is dropped.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Access::load`].
    pub fn load_renewed(kubeconfig: &Path, renewed: Renewed, user_agent: &str) -> Result<Self, Error> {
        let target = Target::load(kubeconfig)?;
        let target = if renewed.alone { target.without_user() } else { target };
        Self::of(target, Some(renewed), kubeconfig, user_agent)
    }

    fn of(
        target: Target,
        renewed: Option<Renewed>,
        kubeconfig: &Path,
        user_agent: &str,
    ) -> Result<Self, Error> {
        let field = |problem| Error::Field { path: kubeconfig.to_owned(), problem };
        let exec = Exec::of(&target).map_err(field)?;
        let mut config = kube::Config::new(target.server.clone());
        config.auth_info = target.user.clone();
        let headers = config
            .extra_headers_layer()
            .map_err(|error| field(Problem::new(target.user_field("as"), error.to_string())))?;
        let user_agent = HeaderValue::try_from(user_agent)
            .map_err(|error| field(Problem::new("User-Agent", error.to_string())))?;
        let endpoint = target.server.to_string().trim_end_matches('/').into();
        let identities = IdentityCache::load(target, renewed)?;
        Ok(Self(Arc::new(Shared {
            identities,
            exec,
            user_agent,
            common: Arc::default(),
            headers,
            endpoint,
            requests: Requests::default(),
            failing: AtomicBool::new(false),
            reached: watch::Sender::new(()),
        })))
    }

    /// The server's address.
    pub fn endpoint(&self) -> &Arc<str> {
        &self.0.endpoint
    }

    /// All requests up to now, of all clients, by method and outcome.
    pub fn requests(&self) -> Vec<Counted> {
        self.0.requests.counted()
    }

    /// Changes when the server answers one of the clients after it did not answer: whoever waits before the next try
    /// need not wait any longer.
    pub fn reached(&self) -> watch::Receiver<()> {
        self.0.reached.subscribe()
    }

    /// There is another client certificate: the next request takes it, and whoever waits before the next try need not wait
    /// any longer.
    pub fn renewed(&self) {
        self.0.identities.renewed();
        self.0.reached.send_replace(());
    }

    /// A client with a rate, a timeout and maybe connections of its own. Clones of it share them.
    ///
    /// Must be called within the tokio runtime that is to carry its requests.
    pub fn client(&self, rest_config: RestConfig) -> Client {
        let transport = Arc::new(Transport {
            access: Arc::clone(&self.0),
            bucket: rest_config.limit.map(Bucket::new),
            timeout: rest_config.timeout,
            pool: if rest_config.apart { Arc::default() } else { Arc::clone(&self.0.common) },
        });
        let base = kube::client::middleware::BaseUriLayer::new(self.0.identities.target.server.clone());
        let service = ServiceBuilder::new()
            .layer(base)
            .layer(&self.0.headers)
            .service(service_fn(move |request| Arc::clone(&transport).send(request)));
        Client::new(service, "default")
    }
}

impl Shared {
    fn note(&self, answered: bool) {
        if self.failing.swap(!answered, Ordering::Relaxed) && answered {
            self.reached.send_replace(());
        }
    }
}

/// What one client's requests go through.
struct Transport {
    access: Arc<Shared>,
    bucket: Option<Bucket>,
    timeout: Duration,
    pool: Arc<Pool>,
}

impl Transport {
    async fn send(self: Arc<Self>, request: Request<Body>) -> Result<Response<Answer>, BoxError> {
        if let Some(bucket) = &self.bucket {
            bucket.take().await;
        }
        let deadline = Instant::now() + self.timeout;
        let (method, goes_on) = (request.method().clone(), goes_on(request.uri()));
        let began = tracing::enabled!(tracing::Level::DEBUG).then(|| (request.uri().clone(), Instant::now()));
        let asked = timeout_at(deadline, self.ask(request)).await;
        let code = asked.as_ref().ok().and_then(|asked| Some(asked.as_ref().ok()?.0.status()));
        if let Some((url, began)) = began {
            let code = code.map(|code| code.as_u16());
            tracing::debug!(%method, %url, code, took = ?began.elapsed(), "Asked the API server");
        }
        self.access.requests.count(method, code);
        // A refusal ends even where the answer would go on.
        let due = code.is_some_and(|code| !goes_on || !code.is_success()).then_some(deadline);
        if due.is_none() {
            self.access.note(code.is_some());
        }
        match asked {
            Ok(asked) => {
                let (answer, stream) = asked?;
                let answer = answer.map(|body| Answer::new(body, stream, due.map(|due| (due, self))));
                refusal::with_its_time(answer).await
            }
            Err(_) => {
                self.give_up();
                Err(NoAnswer(self.timeout).into())
            }
        }
    }

    /// Nothing came in time: the connection may be dead, which its pings would find out later than a lease can wait.
    fn give_up(&self) {
        self.pool.forget();
        self.access.note(false);
    }

    async fn ask(&self, mut request: Request<Body>) -> Result<(Response<Incoming>, Stream), BoxError> {
        let Shared { identities, exec, user_agent, .. } = &*self.access;
        let identity = identities.current().await?;
        let authorization = match exec.as_ref().filter(|_| identity.exec) {
            Some(exec) => Some(exec.authorization().await?),
            None => identity.authorization.clone(),
        };
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, user_agent.clone());
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        let (http, stream) = self.pool.take(&identities.target, &identity);
        let answer = http.request(request).await.inspect_err(|_| identities.doubt())?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            identities.doubt();
            if let Some(exec) = exec.as_ref().filter(|_| identity.exec) {
                exec.forget().await;
            }
        }
        Ok((answer, stream))
    }
}

/// Whether the answer goes on until somebody ends it: a watch, or a log that is followed.
fn goes_on(uri: &Uri) -> bool {
    let mut parts = uri.query().unwrap_or_default().split('&');
    parts.any(|part| matches!(part, "watch=true" | "watch=1" | "follow=true" | "follow=1"))
}
