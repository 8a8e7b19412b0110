//! One request: clean path, authentication, authorisation, endpoint.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::connection::{Busy, Connection};
use super::path::{self, Path};
use super::route::route;
use super::{Handlers, endpoints};
use crate::auth::{Authentication, Authorization, Refused, User};
use crate::host::Host;
use crate::http1::{self, Body};
use crate::metrics::InFlight;

/// What decides about requests to the server on 10250.
pub(super) struct Auth {
    pub(super) node_name: String,
    pub(super) authentication: Authentication,
    pub(super) authorization: Authorization,
}

/// One server's endpoints.
pub(super) struct Service {
    pub(super) host: Host,
    auth: Option<Auth>,
    pub(super) handlers: Handlers,
}

impl Service {
    pub(super) fn new(host: Host, auth: Option<Auth>, handlers: Handlers) -> Self {
        Self { host, auth, handlers }
    }

    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Response<Body> {
        if let Some(refusal) = http1::refuse_host(&request) {
            return refusal;
        }
        let Some(busy) = connection.busy() else {
            return http1::plain(StatusCode::SERVICE_UNAVAILABLE, "too many connections\n");
        };
        let server_type = if self.auth.is_some() { "readwrite" } else { "readonly" };
        let counted = Arc::new(self.host.requests.begin(request.method(), request.uri().path(), server_type));
        let traced = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| (request.method().clone(), request.uri().clone(), Instant::now()));
        let response = self.answer(request, connection, &counted).await;
        let response = response.map(|body| Tracked { body, _counted: counted, busy }.boxed_unsync());
        let response = self.host.unsent.send(response);
        if let Some((method, uri, began)) = traced {
            let (code, took) = (response.status().as_u16(), began.elapsed());
            tracing::debug!(%method, %uri, code, ?took, peer = %connection.peer, "Served");
        }
        response
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        counted: &Arc<InFlight>,
    ) -> Response<Body> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let path = match path::read(uri.path()) {
            Path::Clean(path) => path,
            Path::Redirect(to) => return redirect(&to, uri.query()),
            Path::Invalid => return http1::plain(StatusCode::BAD_REQUEST, "the path is no text\n"),
        };
        if let Some(auth) = &self.auth
            && let Err(mut refusal) = auth.check(&request, connection, &path).await
        {
            // One who is not authenticated has the answer, and no slot any more. HTTP/2 says so in a frame.
            if matches!(refusal.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
                && connection.refuse()
                && request.version() < Version::HTTP_2
            {
                refusal.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            }
            return refusal;
        }
        let found = route(&method, &path, self.handlers);
        endpoints::answer(self, found, request, connection, counted).await
    }
}

impl Auth {
    async fn check(
        &self,
        request: &Request<Incoming>,
        connection: &Connection,
        path: &str,
    ) -> Result<(), Response<Body>> {
        let user = self.user(request, connection).await?;
        let (node, method): (_, &Method) = (&self.node_name, request.method());
        self.authorization.authorize(&user, node, method, path).await.map_err(|refused| {
            let status = match &refused {
                Refused::Denied { .. } => StatusCode::FORBIDDEN,
                Refused::Failed { source, .. } => {
                    tracing::warn!(error = %source, %path, "{refused}");
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            http1::text(status, refused.to_string())
        })?;
        if user.is_authenticated() {
            connection.set_known();
        }
        Ok(())
    }

    async fn user(
        &self,
        request: &Request<Incoming>,
        connection: &Connection,
    ) -> Result<User, Response<Body>> {
        self.authentication.authenticate(&connection.certificates, request.headers()).await.map_err(|error| {
            tracing::debug!(peer = %connection.peer, error = %util::causes(&error), "Unauthenticated request");
            http1::plain(StatusCode::UNAUTHORIZED, "Unauthorized")
        })
    }
}

fn redirect(to: &str, query: Option<&str>) -> Response<Body> {
    let location = query.map_or_else(|| to.to_owned(), |query| format!("{to}?{query}"));
    let text = format!("<a href=\"{to}\">Temporary Redirect</a>.\n\n");
    let mut response = http1::whole(StatusCode::TEMPORARY_REDIRECT, "text/html; charset=utf-8", text.into());
    // A query that came in a request line can go into a header.
    if let Ok(location) = header::HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A body that keeps its request counted until it is sent.
struct Tracked {
    body: Body,
    _counted: Arc<InFlight>,
    busy: Busy,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // Whoever asks for the next piece has taken the last one.
        self.busy.untaken(false);
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(_))) {
            self.busy.untaken(true);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
