//! The serving certificate, asked for at the cluster (`serverTLSBootstrap`; upstream `pkg/kubelet/certificate/kubelet.go`).

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver_sync::client::{Access, RESPONSE_TIMEOUT, RestConfig};
use certs::{Manager, Metrics, Signer, Store, StoreError, Template};
use kube::Client;
use kube_model::core::Node;
use node_config::KubeletServer;
use tokio::sync::watch;

/// What gets the certificate and renews it.
pub(super) struct Serving {
    manager: Manager<ServingWays>,
    template: watch::Sender<Option<Template>>,
    node_name: String,
    dns_alone: bool,
    pub(super) metrics: Arc<Metrics>,
    /// Where the server finds it.
    pub(super) places: Vec<(PathBuf, PathBuf)>,
}

impl Serving {
    /// `None`: the certificate is given, or made here.
    pub(super) fn new(
        server: &KubeletServer,
        cert_dir: &Path,
        node_name: &str,
        access: &Access,
    ) -> Result<Option<Self>, StoreError> {
        let Some(bootstrap) = server.tls_bootstrap else { return Ok(None) };
        let store = Store::open(cert_dir, Signer::Serving, server.certificate.clone())?;
        let metrics = Arc::new(Metrics::new(Signer::Serving));
        let (template, templates) = watch::channel(None);
        let settings = certs::Settings {
            signer: Signer::Serving,
            store: store.clone(),
            template: templates,
            rotate: true,
            own: true,
            apart: true,
            clock: Arc::new(crate::wall),
            metrics: Arc::clone(&metrics),
            waits: watch::channel(None).0,
        };
        Ok(Some(Self {
            manager: Manager::new(settings, Arc::new(ServingWays(access.clone()))),
            template,
            node_name: node_name.to_owned(),
            dns_alone: bootstrap.dns_alone,
            metrics,
            places: store.places(),
        }))
    }

    /// Keeps it for the addresses that `node` has.
    pub(super) async fn run(self, mut node: watch::Receiver<Option<Arc<Node>>>) {
        let Self { manager, template, node_name, dns_alone, .. } = self;
        let follow = async {
            loop {
                let addresses = node
                    .borrow_and_update()
                    .as_ref()
                    .and_then(|node| node.status.as_ref().and_then(|status| status.addresses.clone()));
                let wanted = Template::serving(&node_name, &addresses.unwrap_or_default(), dns_alone);
                template.send_if_modified(|last| {
                    // A node that is gone for a moment has its addresses still.
                    let other = wanted.is_some() && *last != wanted;
                    if other {
                        *last = wanted;
                    }
                    other
                });
                if node.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(manager.run(), follow);
    }
}

struct ServingWays(Access);

impl certs::Ways for ServingWays {
    fn own(&self) -> Client {
        self.0.client(RestConfig { limit: None, timeout: RESPONSE_TIMEOUT, apart: false })
    }

    fn may_bootstrap(&self) -> bool {
        false
    }

    fn bootstrap(&self) -> Result<Client, Box<dyn Error + Send + Sync>> {
        Err("a serving certificate is asked for by the node itself".into())
    }

    fn write_kubeconfig(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    /// The server looks at the files by itself.
    fn renewed(&self) {}

    fn help(&self) -> String {
        "who asks is the node itself, so see what keeps its requests from being answered".to_owned()
    }
}
