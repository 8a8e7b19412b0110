//! What a kubeconfig says of its server and its user's certificate, for whoever makes another kubeconfig of it.

use std::path::{Path, PathBuf};

use super::kubeconfig::{Source, Target};
use super::tls::Material;
use super::{Error, Problem};

/// How a kubeconfig finds and recognises its server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEntry {
    /// `server`, as it stands there.
    pub address: String,
    /// `certificate-authority`
    pub authority: Option<PathBuf>,
    /// `certificate-authority-data`, which goes before the file.
    pub authority_data: Option<Vec<u8>>,
    /// `insecure-skip-tls-verify`
    pub insecure: bool,
}

/// A kubeconfig that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Its server.
    pub server: ServerEntry,
    /// The files of the client certificate and its key, where they stand in files.
    pub files: Option<(PathBuf, PathBuf)>,
    /// The client certificate, DER, the user's own first; empty without one.
    pub chain: Vec<Vec<u8>>,
}

/// Reads a kubeconfig and the files it names; blocks.
///
/// # Errors
/// The first thing wrong, with its field.
pub fn login(kubeconfig: &Path) -> Result<Login, Error> {
    let target = Target::load(kubeconfig)?;
    let field = |problem: Problem| Error::Field { path: kubeconfig.to_owned(), problem };
    let material = Material::read(&target).map_err(field)?;
    material.config(&target).map_err(field)?;
    let file = |source: &Option<Source>| source.as_ref().and_then(Source::path).map(Path::to_owned);
    let (authority, authority_data) = match &target.ca {
        Some(Source::Inline { bytes, .. }) => (None, Some(bytes.clone())),
        Some(Source::File { path, .. }) => (Some(path.clone()), None),
        None => (None, None),
    };
    let server = ServerEntry {
        address: target.cluster.server.clone().unwrap_or_default(),
        authority,
        authority_data,
        insecure: target.insecure,
    };
    let chain = material.chain().iter().map(|der| der.to_vec()).collect();
    Ok(Login { server, files: file(&target.certificate).zip(file(&target.key)), chain })
}
