//! What a kubeconfig says: which server, how it is recognised, and who we are. Each mistake is an error that
//! names the file and the field.
//!
//! Rule: upstream `client-go/tools/clientcmd` (`client_config.go`, `validation.go`), with its own type from
//! kube, which also takes paths as relative to the kubeconfig.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use http::uri::Scheme;
use kube::config::{AuthInfo, Cluster, ExecInteractiveMode, Kubeconfig, KubeconfigError};
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret as _;

use super::{Error, Problem};

/// The current context of a kubeconfig.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Where the kubeconfig stands.
    pub(super) path: PathBuf,
    /// The address, with a scheme and perhaps a path before every request's own.
    pub(super) server: Uri,
    pub(super) cluster: Cluster,
    pub(super) user: AuthInfo,
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) ca: Option<Source>,
    pub(super) certificate: Option<Source>,
    pub(super) key: Option<Source>,
    pub(super) insecure: bool,
    cluster_field: String,
    user_field: String,
}

/// Where bytes come from: out of the kubeconfig itself, or a file that may change.
#[derive(Clone)]
pub(super) enum Source {
    Inline { field: String, bytes: Vec<u8> },
    File { field: String, path: PathBuf },
}

/// Keys are secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The field, and the file that it names.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline { field, .. } => f.write_str(field),
            Self::File { field, path } => write!(f, "{field} ({})", path.display()),
        }
    }
}

impl Source {
    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Inline { .. } => None,
            Self::File { path, .. } => Some(path),
        }
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, Problem> {
        match self {
            Self::Inline { bytes, .. } => Ok(bytes.clone()),
            Self::File { path, .. } => {
                std::fs::read(path).map_err(|error| Problem::new(self, format!("can not be read: {error}")))
            }
        }
    }
}

impl Target {
    /// Reads the kubeconfig. The files it names are not read here.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let kubeconfig = Kubeconfig::read_from(path).map_err(|error| match error {
            KubeconfigError::ReadConfig(source, path) => Error::Read { path, source },
            // A snippet would show what stands around the mistake: perhaps a token.
            KubeconfigError::Parse(error) => {
                Error::Syntax { path: path.to_owned(), message: error.without_snippet().to_string() }
            }
            other => Error::Syntax { path: path.to_owned(), message: other.to_string() },
        })?;
        Self::resolve(path, kubeconfig).map_err(|problem| Error::Field { path: path.to_owned(), problem })
    }

    /// The same server with nobody who asks.
    pub(super) fn without_user(self) -> Self {
        Self { user: AuthInfo::default(), certificate: None, key: None, ..self }
    }

    /// The same server for the holder of this certificate.
    pub(super) fn with_certificate(&self, certificate: &Path, key: &Path) -> Self {
        let file =
            |path: &Path| Source::File { field: "client certificate".to_owned(), path: path.to_owned() };
        Self { certificate: Some(file(certificate)), key: Some(file(key)), ..self.clone().without_user() }
    }

    pub(super) fn user_field(&self, name: &str) -> String {
        format!("{}.{name}", self.user_field)
    }

    pub(super) fn cluster_field(&self, name: &str) -> String {
        format!("{}.{name}", self.cluster_field)
    }

    fn resolve(path: &Path, kubeconfig: Kubeconfig) -> Result<Self, Problem> {
        let context_name = set(kubeconfig.current_context)
            .ok_or_else(|| Problem::new("current-context", "must name the context to use"))?;
        let context = kubeconfig
            .contexts
            .into_iter()
            .find(|context| context.name == context_name)
            .and_then(|context| context.context)
            .ok_or_else(|| {
                Problem::new("current-context", format!("there is no context {context_name:?} in contexts"))
            })?;
        let cluster = kubeconfig
            .clusters
            .into_iter()
            .find(|cluster| cluster.name == context.cluster)
            .and_then(|cluster| cluster.cluster)
            .ok_or_else(|| {
                let message = format!("there is no cluster {:?} in clusters", context.cluster);
                Problem::new(format!("contexts[{context_name}].context.cluster"), message)
            })?;
        let user_name = set(context.user);
        let user = match &user_name {
            None => AuthInfo::default(),
            Some(name) => kubeconfig
                .auth_infos
                .into_iter()
                .find(|user| user.name == *name)
                .map(|user| user.auth_info.unwrap_or_default())
                .ok_or_else(|| {
                    let message = format!("there is no user {name:?} in users");
                    Problem::new(format!("contexts[{context_name}].context.user"), message)
                })?,
        };
        let cluster_field = format!("clusters[{}].cluster", context.cluster);
        let user_field = format!("users[{}].user", user_name.unwrap_or_default());
        Self {
            path: path.to_owned(),
            server: Uri::default(),
            server_name: None,
            ca: None,
            certificate: None,
            key: None,
            insecure: cluster.insecure_skip_tls_verify.unwrap_or(false),
            cluster,
            user,
            cluster_field,
            user_field,
        }
        .with_cluster()?
        .with_user()
    }

    fn with_cluster(mut self) -> Result<Self, Problem> {
        let (cluster, user) = (&self.cluster, &self.user);
        self.ca = source(
            (self.cluster_field("certificate-authority"), &cluster.certificate_authority),
            (self.cluster_field("certificate-authority-data"), cluster.certificate_authority_data.as_deref()),
        )?;
        self.certificate = source(
            (self.user_field("client-certificate"), &user.client_certificate),
            (self.user_field("client-certificate-data"), user.client_certificate_data.as_deref()),
        )?;
        self.key = source(
            (self.user_field("client-key"), &user.client_key),
            (
                self.user_field("client-key-data"),
                user.client_key_data.as_ref().map(|key| key.expose_secret()),
            ),
        )?;
        if let Some(proxy) = set(cluster.proxy_url.clone()) {
            let message = format!("{proxy}: connecting through a proxy is not supported");
            return Err(Problem::new(self.cluster_field("proxy-url"), message));
        }
        if self.insecure
            && let Some(ca) = &self.ca
        {
            return Err(Problem::new(ca, "can not be used together with insecure-skip-tls-verify"));
        }
        if let Some(name) = set(cluster.tls_server_name.clone()) {
            let field = self.cluster_field("tls-server-name");
            let name = ServerName::try_from(name.clone()).map_err(|_| {
                Problem::new(field, format!("{name:?} is neither a host name nor an address"))
            })?;
            self.server_name = Some(name);
        }
        let tls = self.ca.is_some() || self.certificate.is_some() || self.insecure;
        self.server = server(set(cluster.server.clone()), tls)
            .map_err(|message| Problem::new(self.cluster_field("server"), message))?;
        Ok(self)
    }

    fn with_user(self) -> Result<Self, Problem> {
        let user = &self.user;
        match (&self.certificate, &self.key) {
            (Some(certificate), None) => {
                return Err(Problem::new(certificate, "needs client-key or client-key-data beside it"));
            }
            (None, Some(key)) => {
                let message = "needs client-certificate or client-certificate-data beside it";
                return Err(Problem::new(key, message));
            }
            _ => {}
        }
        let token = user.token.is_some() || user.token_file.is_some();
        if token && user.username.is_some() {
            let message = "can not be used together with a token: choose one of them";
            return Err(Problem::new(self.user_field("username"), message));
        }
        if let Some(provider) = &user.auth_provider {
            let message = format!(
                "{:?} is not supported: auth providers were replaced by exec plugins, use users[].user.exec",
                provider.name
            );
            return Err(Problem::new(self.user_field("auth-provider"), message));
        }
        if let Some(exec) = &user.exec {
            if exec.command.as_deref().is_none_or(str::is_empty) {
                return Err(Problem::new(self.user_field("exec.command"), "must name the program to run"));
            }
            if exec.api_version.as_deref().is_none_or(str::is_empty) {
                let message = "must be set, for example to client.authentication.k8s.io/v1";
                return Err(Problem::new(self.user_field("exec.apiVersion"), message));
            }
            if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
                let message = "\"Always\" can not be used: an agent has no terminal";
                return Err(Problem::new(self.user_field("exec.interactiveMode"), message));
            }
        }
        Ok(self)
    }
}

/// An empty text is as good as none.
fn set(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Data wins over a file.
fn source(
    (file_field, file): (String, &Option<String>),
    (data_field, data): (String, Option<&str>),
) -> Result<Option<Source>, Problem> {
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        // Long texts are wrapped in YAML.
        let plain: String = data.split_ascii_whitespace().collect();
        let bytes = BASE64_STANDARD
            .decode(plain)
            .map_err(|error| Problem::new(&data_field, format!("is not base64: {error}")))?;
        return Ok(Some(Source::Inline { field: data_field, bytes }));
    }
    Ok(set(file.clone()).map(|file| Source::File { field: file_field, path: file.into() }))
}

/// The address of the server. Without a scheme it is HTTPS if anything about certificates is said.
fn server(text: Option<String>, tls: bool) -> Result<Uri, String> {
    let text = text.ok_or("must be the address of the API server: https://HOST:PORT")?;
    let with_scheme = match text.contains("://") {
        true => text.clone(),
        false => format!("{}://{text}", if tls { "https" } else { "http" }),
    };
    let wrong = |why: &str| format!("{text:?} is not an address of the form https://HOST:PORT: {why}");
    let uri: Uri = with_scheme.parse().map_err(|error| wrong(&format!("{error}")))?;
    if uri.scheme() != Some(&Scheme::HTTPS) && uri.scheme() != Some(&Scheme::HTTP) {
        return Err(wrong("the scheme must be https or http"));
    }
    if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("it must have neither a user nor a query"));
    }
    Ok(uri)
}
