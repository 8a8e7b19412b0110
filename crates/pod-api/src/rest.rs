//! The API: which address leads where, and how a refusal looks.

mod body;
pub(super) mod client;
mod contents;
mod discovery;
mod events;
mod log;
mod namespaces;
mod negotiate;
mod pods;
mod protobuf;
mod query;
mod selector;
mod table;
mod watch;
mod write;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use kube_model::PodKey;
use kube_model::objects::Kind;
use kube_model::view::PodView;
use serde::de::DeserializeOwned;
use serving::Budget;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::store::Store;
use super::{Limits, Logs};

/// What the handlers share.
#[derive(Debug)]
pub(super) struct Api {
    store: Store,
    /// How the pods are, for their events.
    views: RwLock<Arc<[Arc<PodView>]>>,
    /// What containers wrote, once somebody serves it.
    pub(super) logs: OnceLock<Arc<dyn Logs>>,
    pub(super) limits: Limits,
    /// Bytes that bodies may have together.
    body_budget: Arc<Semaphore>,
    /// Bytes that answers may have together until they are sent.
    pub(super) unsent: Budget,
    watches: Arc<Semaphore>,
    ending: CancellationToken,
}

/// Most bytes of one answer that are on the way.
const PIECE: usize = 8 << 10;

/// How many bodies of the largest size may be read at once.
const LARGEST_BODIES: usize = 16;

impl Api {
    pub(super) fn new(store: Store, limits: Limits, ending: CancellationToken) -> Self {
        let bytes = limits.body_bytes.saturating_mul(LARGEST_BODIES).min(Semaphore::MAX_PERMITS);
        Self {
            store,
            views: RwLock::default(),
            logs: OnceLock::new(),
            limits,
            body_budget: Arc::new(Semaphore::new(bytes)),
            unsent: Budget::new(limits.unsent_bytes, PIECE),
            watches: Arc::new(Semaphore::new((limits.connections / 2).max(1))),
            ending,
        }
    }

    pub(super) fn observe(&self, views: &[Arc<PodView>]) {
        self.store.observe(views);
        *self.views.write().unwrap_or_else(PoisonError::into_inner) = views.into();
    }

    fn views(&self) -> Arc<[Arc<PodView>]> {
        Arc::clone(&self.views.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The routes.
pub(super) fn router(api: Arc<Api>) -> Router {
    let alive = || get(|| async { "ok" });
    let mut router = Router::new();
    for kind in [Kind::ConfigMap, Kind::Secret] {
        let (all, own) = (kind.plural(), format!("/api/v1/namespaces/{{namespace}}/{}", kind.plural()));
        router = router
            .route(&format!("/api/v1/{all}"), contents::everywhere(kind))
            .route(&own, contents::collection(kind))
            .route(&format!("{own}/{{name}}"), contents::item(kind));
    }
    router
        .route("/healthz", alive())
        .route("/livez", alive())
        .route("/readyz", alive())
        .route("/version", get(discovery::version))
        .route("/api", get(discovery::versions))
        .route("/apis", get(discovery::groups))
        .route("/api/v1", get(discovery::resources))
        .route("/openapi/v3", get(discovery::openapi))
        .route("/openapi/v3/api/v1", get(discovery::openapi_v1))
        .route("/api/v1/namespaces", get(namespaces::list))
        .route("/api/v1/namespaces/{namespace}", get(namespaces::get))
        .route("/api/v1/events", get(events::list_all))
        .route("/api/v1/namespaces/{namespace}/events", get(events::list))
        .route("/api/v1/namespaces/{namespace}/events/{name}", get(events::get))
        .route("/api/v1/pods", get(pods::list_all))
        .route("/api/v1/namespaces/{namespace}/pods", collection())
        .route("/api/v1/namespaces/{namespace}/pods/{name}", item())
        .route("/api/v1/namespaces/{namespace}/pods/{name}/status", get(pods::get))
        .route("/api/v1/namespaces/{namespace}/pods/{name}/log", get(log::get))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(api)
}

fn collection() -> MethodRouter<Arc<Api>> {
    get(pods::list).post(pods::create).delete(pods::delete_all)
}

fn item() -> MethodRouter<Arc<Api>> {
    get(pods::get).put(pods::replace).patch(pods::patch).delete(pods::delete)
}

async fn no_such_path(uri: Uri) -> Refusal {
    tracing::debug!(path = uri.path(), "Nothing is served here");
    ApiError::new(404, "NotFound", "the server could not find the requested resource").into()
}

async fn no_such_method(method: Method) -> Refusal {
    let message = format!("the server does not allow {method} on the requested resource");
    ApiError::new(405, "MethodNotAllowed", message).into()
}

/// An error as it is answered.
#[derive(Debug)]
pub(super) struct Refusal(ApiError);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = negotiate::json(code, &self.0.status());
        let headers = response.headers_mut();
        match code {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// What a handler gives: an answer, or an error that is answered.
type Answer = Result<Response, Refusal>;

/// The variable parts of an address.
struct At<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::from_request_parts(parts, state).await;
        let bad = |error| Refusal(ApiError::bad_request(format!("a bad address: {error}")));
        path.map(|Path(parts)| Self(parts)).map_err(bad)
    }
}

/// The address of one pod.
fn key((namespace, name): (String, String)) -> PodKey {
    PodKey::new(namespace, name)
}

/// The part of the state that handlers take.
type Shared = State<Arc<Api>>;
