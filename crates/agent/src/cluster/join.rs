//! How the node comes to be known to its cluster: TLS bootstrap, and the client certificate renewed (upstream
//! `cmd/kubelet/app/server.go` `buildKubeletClientConfig`). The start does not wait for it: what asks the API server
//! meanwhile hears why there is no answer.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver_sync::client::{self, Access, Login, RESPONSE_TIMEOUT, Renewed, RestConfig, login};
use certs::{Leaf, Manager, Metrics, Signer, Store, Template};
use kube::Client;
use node_config::Cluster as Settings;
use tokio::sync::watch;

use super::ClusterError;

/// For requests of certificates.
const REST: RestConfig = RestConfig { limit: None, timeout: RESPONSE_TIMEOUT, apart: false };

/// The way to the API server.
pub(super) struct Join {
    pub(super) access: Access,
    /// What keeps the client certificate, where that is the agent's business.
    pub(super) kept: Option<Kept>,
}

/// A client certificate that is got and renewed.
pub(super) struct Kept {
    pub(super) manager: Manager<ClientWays>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) waits: watch::Receiver<Option<String>>,
}

/// Reads what the node may log in with; blocks for files, asks nobody.
pub(super) fn join(settings: &Settings, node_name: &str, user_agent: &str) -> Result<Join, ClusterError> {
    let Settings { kubeconfig, bootstrap_kubeconfig, rotate_certificates: rotate, cert_dir, .. } = settings;
    // Without another way to begin it has to be right.
    let there = match bootstrap_kubeconfig {
        Some(_) => login(kubeconfig),
        None => Ok(login(kubeconfig)?),
    };
    let usable = usable(&there, bootstrap_kubeconfig.is_some());
    let files = there.as_ref().ok().and_then(|login| login.files.clone());
    let open = |given| Store::open(cert_dir, Signer::Client, given);
    let current = open(None)?.current_path();
    let (of_store, given) = match files {
        Some((certificate, key)) => (certificate == current, Some((certificate, key))),
        None => (false, None),
    };
    // A kubeconfig that is good and has a certificate of somebody else's is nobody's business here.
    if usable.is_ok() && !rotate && (bootstrap_kubeconfig.is_none() || !of_store) {
        let access = Access::load(kubeconfig, user_agent)?;
        tell_of_end(there.as_ref().ok(), kubeconfig);
        return Ok(Join { access, kept: None });
    }
    let store = open(given.filter(|_| usable.is_ok() && !of_store))?;
    let (waiting, waits) = watch::channel(None);
    // What an earlier life of the machine has left is not shown where the kubeconfig has something better.
    let apart = usable.is_ok() && !of_store;
    let stale = apart && !matches!(store.current(), Ok(Some(pair)) if pair.leaf.not_after > crate::wall());
    let renewed = |alone| Renewed {
        places: store.places(),
        alone,
        ignored: Arc::new(stale.into()),
        waits: waits.clone(),
    };
    let access = match (&usable, bootstrap_kubeconfig) {
        (Err(why), Some(bootstrap)) => {
            tracing::info!(
                bootstrap = %bootstrap.display(),
                "The kubeconfig {} cannot be used, a client certificate is asked for: {why}", kubeconfig.display()
            );
            match (Access::load_renewed(bootstrap, renewed(true), user_agent), &there) {
                (Ok(access), _) => access,
                (Err(error), Ok(_)) => {
                    tracing::warn!(error = util::causes(&error), "The bootstrap kubeconfig cannot be used");
                    Access::load_renewed(kubeconfig, renewed(false), user_agent)?
                }
                (Err(bootstrap), Err(_)) => {
                    return Err(ClusterError::NoWay { kubeconfig: why.clone(), bootstrap });
                }
            }
        }
        _ => Access::load_renewed(kubeconfig, renewed(false), user_agent)?,
    };
    let metrics = Arc::new(Metrics::new(Signer::Client));
    let ways = ClientWays {
        access: access.clone(),
        user_agent: user_agent.to_owned(),
        kubeconfig: kubeconfig.clone(),
        // What is written must be right seen from another folder.
        bootstrap: bootstrap_kubeconfig.as_deref().map(absolute),
        pem: absolute(&current),
    };
    let manager = Manager::new(
        certs::Settings {
            signer: Signer::Client,
            store,
            template: watch::channel(Some(Template::client(node_name))).1,
            rotate: *rotate,
            own: usable.is_ok(),
            apart,
            clock: Arc::new(crate::wall),
            metrics: Arc::clone(&metrics),
            waits: waiting,
        },
        Arc::new(ways),
    );
    Ok(Join { access, kept: Some(Kept { manager, metrics, waits }) })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether a kubeconfig says who the node is; why not (upstream `isClientConfigStillValid`). Where there is nothing to
/// begin anew with, any that can be read will do: the server may see it otherwise.
fn usable(there: &Result<Login, client::Error>, bootstrap: bool) -> Result<(), String> {
    let login = there.as_ref().map_err(|error| util::causes(error))?;
    if !bootstrap {
        return Ok(());
    }
    if login.chain.is_empty() {
        return Err("it has no client certificate".to_owned());
    }
    login.chain.iter().try_for_each(|der| match Leaf::of(der) {
        Ok(leaf) if leaf.not_after < crate::wall() => {
            Err(format!("its certificate has ended at {}", leaf.not_after))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(util::causes(&error)),
    })
}

/// Nobody renews it.
fn tell_of_end(login: Option<&Login>, kubeconfig: &Path) {
    let own = login.and_then(|login| login.chain.first()).and_then(|der| Leaf::of(der).ok());
    if let Some(leaf) = own.filter(|leaf| leaf.not_after < crate::wall()) {
        tracing::warn!(
            "the client certificate of {} has ended at {}, and nothing renews it: put another there, or start with \
             --bootstrap-kubeconfig and a kubeconfig with a bootstrap token (kubeadm token create)",
            kubeconfig.display(),
            leaf.not_after
        );
    }
}

/// How the client certificate is asked for.
pub(super) struct ClientWays {
    access: Access,
    user_agent: String,
    kubeconfig: PathBuf,
    bootstrap: Option<PathBuf>,
    pem: PathBuf,
}

const GONE: &str = "the bootstrap kubeconfig is not there any more";

impl ClientWays {
    fn bootstrap_file(&self) -> Option<&PathBuf> {
        self.bootstrap.as_ref().filter(|path| path.exists())
    }
}

impl certs::Ways for ClientWays {
    fn own(&self) -> Client {
        self.access.client(REST)
    }

    fn may_bootstrap(&self) -> bool {
        self.bootstrap_file().is_some()
    }

    fn bootstrap(&self) -> Result<Client, Box<dyn Error + Send + Sync>> {
        let path = self.bootstrap_file().ok_or(GONE)?;
        Ok(Access::load(path, &self.user_agent)?.client(REST))
    }

    fn write_kubeconfig(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let path = self.bootstrap_file().ok_or(GONE)?;
        let client::ServerEntry { address, authority, authority_data, insecure } = login(path)?.server;
        let server = certs::kubeconfig::Server { address, authority, authority_data, insecure };
        certs::kubeconfig::write(&self.kubeconfig, &server, &self.pem)?;
        tracing::info!(kubeconfig = %self.kubeconfig.display(), "The kubeconfig is written");
        Ok(())
    }

    fn renewed(&self) {
        self.access.renewed();
    }

    fn help(&self) -> String {
        let token = "a kubeconfig with a new bootstrap token (kubeadm token create --print-join-command)";
        match &self.bootstrap {
            Some(path) => format!("write {token} to {}", path.display()),
            None => format!(
                "put a certificate with its key into {}, or start with --bootstrap-kubeconfig and {token}",
                self.pem.display()
            ),
        }
    }
}
