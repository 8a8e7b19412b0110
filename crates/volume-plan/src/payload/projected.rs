//! A projected volume: several sources in one folder (upstream `pkg/volume/projected/projected.go` `collectData`).

use kube_model::core::{
    ConfigMapProjection, DownwardAPIVolumeFile, Pod, ProjectedVolumeSource, SecretProjection,
};

use super::file_set::DEFAULT_MODE;
use super::object::Source;
use super::{Facts, File, FileSet, Found, Kind, PayloadError, downward};

/// What a service account token is asked for; it is bound to the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token<'a> {
    /// Who is to accept it; empty: the API server.
    pub audience: &'a str,
    /// Its lifetime in seconds; `None`: the API server's default, an hour.
    pub expiration_seconds: Option<i64>,
}

/// One source.
pub(super) enum Projection<'a> {
    Object(Source<'a>),
    Downward(&'a [DownwardAPIVolumeFile]),
    Token {
        token: Token<'a>,
        path: &'a str,
    },
    /// One that 1.36 has behind a gate which is off.
    NotBuilt(&'static str),
}

/// The sources in their order.
pub(super) fn projections(volume: &ProjectedVolumeSource) -> impl Iterator<Item = Projection<'_>> {
    let default_mode = default_mode(volume);
    volume.sources.iter().flatten().filter_map(move |source| {
        Some(if let Some(secret) = &source.secret {
            let SecretProjection { name, items, optional } = secret;
            let items = items.as_deref().unwrap_or_default();
            let optional = optional.unwrap_or(false);
            Projection::Object(Source { kind: Kind::Secret, name, items, default_mode, optional })
        } else if let Some(map) = &source.config_map {
            let ConfigMapProjection { name, items, optional } = map;
            let items = items.as_deref().unwrap_or_default();
            let optional = optional.unwrap_or(false);
            Projection::Object(Source { kind: Kind::ConfigMap, name, items, default_mode, optional })
        } else if let Some(downward) = &source.downward_api {
            Projection::Downward(downward.items.as_deref().unwrap_or_default())
        } else if let Some(token) = &source.service_account_token {
            let audience = token.audience.as_deref().unwrap_or_default();
            let expiration_seconds = token.expiration_seconds;
            Projection::Token { token: Token { audience, expiration_seconds }, path: &token.path }
        } else if source.cluster_trust_bundle.is_some() {
            Projection::NotBuilt("clusterTrustBundle")
        } else if source.pod_certificate.is_some() {
            Projection::NotBuilt("podCertificate")
        } else {
            return None;
        })
    })
}

fn default_mode(volume: &ProjectedVolumeSource) -> i32 {
    volume.default_mode.unwrap_or(DEFAULT_MODE)
}

/// Adds the files of all sources, the later one winning.
///
/// # Errors
/// Whatever any of them lacks.
pub(super) fn add_to<'a>(
    set: &mut FileSet<'a>,
    volume: &'a ProjectedVolumeSource,
    facts: Facts<'a>,
    found: &Found<'a>,
) -> Result<(), PayloadError> {
    let mut errors = Vec::new();
    for projection in projections(volume) {
        match projection {
            Projection::Object(source) => errors.extend(source.add_to(set, found).err()),
            Projection::Downward(items) => {
                errors.extend(downward::add_to(set, items, default_mode(volume), facts));
            }
            Projection::Token { token, path } => {
                let value = match found.tokens.get(&token) {
                    Some(Ok(value)) => Ok(value.0),
                    Some(Err(sentence)) => Err(PayloadError::Unreadable(sentence.clone())),
                    None => Err(PayloadError::Unreadable("the token was not asked for".to_owned())),
                };
                let file = value.map(|value| token_file(value, default_mode(volume), facts.pod));
                let added = file.and_then(|file| Ok(set.insert(path, file)?));
                errors.extend(added.err());
            }
            Projection::NotBuilt(source) => errors.push(PayloadError::NotBuilt(source)),
        }
    }
    PayloadError::all(errors)
}

/// A token is only for those who need it, where one can tell who that is: the one user of all containers, and the
/// pod's group, which gets its rights when the group is set.
fn token_file<'a>(value: &'a str, default_mode: i32, pod: &Pod) -> File<'a> {
    let user = only_user(pod);
    let spec = pod.spec.as_ref();
    let group = spec.and_then(|s| s.security_context.as_ref()?.fs_group);
    let mode = if user.is_some() || group.is_some() { 0o600 } else { default_mode };
    File { owner: user, ..File::new(value.as_bytes(), mode) }
}

/// The user that all containers run as, if each says so and all the same (upstream `pkg/volume/util/util.go`
/// `FsUserFrom`).
pub fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let of = |user: Option<i64>| user.or(of_pod);
    let regular = kube_model::pod::containers(spec)
        .map(|(_, c)| c.security_context.as_ref().and_then(|s| s.run_as_user));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user));
    let mut users = regular.chain(ephemeral).map(of);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}
