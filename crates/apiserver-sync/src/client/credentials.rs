//! The `Authorization` of requests.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use kube::client::{Body, ConfigExt as _, middleware::AuthLayer};
use kube::config::{AuthInfo, ExecInteractiveMode};
use secrecy::ExposeSecret as _;
use tokio::sync::Mutex;
use tower::{BoxError, Layer as _, ServiceExt as _, service_fn};

use super::Problem;
use super::kubeconfig::Target;

/// The header of a token, a token file or a password. A file wins over a token, which stands in while the file
/// can not be read. Rule: upstream `client-go/transport/round_trippers.go`, `token_source.go`.
pub(super) fn authorization(target: &Target) -> Result<Option<HeaderValue>, Problem> {
    let user = &target.user;
    let field = |name| target.user_field(name);
    let token = user.token.as_ref().map(|token| token.expose_secret()).filter(|token| !token.is_empty());
    if let Some(file) = user.token_file.as_deref().filter(|file| !file.is_empty()) {
        let place = format!("{} ({file})", field("tokenFile"));
        match std::fs::read_to_string(file) {
            Ok(text) if !text.trim().is_empty() => {
                return bearer(text.trim()).map(Some).map_err(|message| Problem::new(place, message));
            }
            _ if token.is_some() => {}
            Ok(_) => return Err(Problem::new(place, "is empty")),
            Err(error) => return Err(Problem::new(place, format!("can not be read: {error}"))),
        }
    }
    if let Some(token) = token {
        return bearer(token).map(Some).map_err(|message| Problem::new(field("token"), message));
    }
    if let Some(name) = user.username.as_deref().filter(|name| !name.is_empty()) {
        let password = user.password.as_ref().map_or("", |password| password.expose_secret());
        let pair = BASE64_STANDARD.encode(format!("{name}:{password}"));
        return header(&format!("Basic {pair}"))
            .map(Some)
            .map_err(|message| Problem::new(field("username"), message));
    }
    Ok(None)
}

fn bearer(token: &str) -> Result<HeaderValue, &'static str> {
    header(&format!("Bearer {token}"))
}

fn header(text: &str) -> Result<HeaderValue, &'static str> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| "holds characters that can not stand in an HTTP header: line breaks, perhaps")?;
    value.set_sensitive(true);
    Ok(value)
}

/// A program that gives tokens. It is run when the first request needs one, before a token runs out, and after
/// the server refused one; kube knows how.
pub(super) struct Exec {
    server: Uri,
    user: AuthInfo,
    layer: Mutex<Option<AuthLayer>>,
}

/// Has tokens inside.
impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exec(..)")
    }
}

impl Exec {
    /// `None`: the kubeconfig has none, or something that wins over it.
    pub(super) fn of(target: &Target) -> Result<Option<Self>, Problem> {
        let user = &target.user;
        let given = user.token.is_some() || user.token_file.is_some() || user.username.is_some();
        let mut user = user.clone();
        let Some(exec) = user.exec.as_mut().filter(|_| !given) else { return Ok(None) };
        // The agent's own input is nobody's terminal.
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
        if exec.provide_cluster_info {
            let cluster = (&target.cluster).try_into().map_err(|error: kube::config::KubeconfigError| {
                Problem::new(target.cluster_field("certificate-authority"), error.to_string())
            })?;
            exec.cluster = Some(cluster);
        }
        Ok(Some(Self { server: target.server.clone(), user, layer: Mutex::new(None) }))
    }

    pub(super) async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let mut layer = self.layer.lock().await;
        let layer = match &*layer {
            Some(layer) => layer,
            None => layer.insert(self.run().await?),
        };
        // The layer only speaks by what it adds to a request.
        let reflect = service_fn(|request: Request<Body>| async move {
            let mut response = Response::new(());
            response
                .headers_mut()
                .extend(request.headers().get(AUTHORIZATION).cloned().map(|v| (AUTHORIZATION, v)));
            Ok::<_, BoxError>(response)
        });
        // Boxed, because the compiler can not see that the layer's own future is Send for every lifetime.
        let answer = layer.layer(reflect).oneshot(Request::new(Body::empty())).boxed().await?;
        Ok(answer.headers().get(AUTHORIZATION).cloned().ok_or(NO_TOKEN)?)
    }

    /// The server refused the token.
    pub(super) async fn forget(&self) {
        *self.layer.lock().await = None;
    }

    async fn run(&self) -> Result<AuthLayer, BoxError> {
        let mut config = kube::Config::new(self.server.clone());
        config.auth_info = self.user.clone();
        let layer = tokio::task::spawn_blocking(move || config.auth_layer()).await??;
        Ok(layer.ok_or(NO_TOKEN)?)
    }
}

const NO_TOKEN: &str = "the exec plugin of the kubeconfig gave no token; client certificates from a plugin are \
                        not supported";
