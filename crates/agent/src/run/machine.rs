//! The machine made ready for pods: measured, the cgroups of all pods made and limited, its addresses found.

use std::net::IpAddr;
use std::sync::Arc;

use admission::NodeResources;
use cgroups::Cgroups;
use node_config::Settings;
use node_reporter::Hardware;
use tokio::time::Instant;

use super::{Phase, StartError};
use crate::addresses::Addresses;
use crate::allocatable::{Enforcement, NodeEvent};
use crate::metrics::Metrics;
use crate::{node, settings};

pub(super) struct Machine {
    pub(super) hardware: Hardware,
    pub(super) resources: NodeResources,
    /// `None` with `--cgroups-per-qos=false`.
    pub(super) cgroups: Option<Arc<Cgroups>>,
    pub(super) addresses: Addresses,
    /// As they are now.
    pub(super) ips: Vec<IpAddr>,
    /// The limits of all pods together.
    pub(super) limits: Limits,
}

/// What came of limiting all pods together.
pub(super) enum Limits {
    /// There is nothing to limit, or nothing to be told of it.
    Quiet,
    /// They are set.
    Set(NodeEvent),
    /// They could not be set, and what is to be told of that.
    Failed(Enforcement, NodeEvent),
}

impl Machine {
    /// Blocks, with nobody there yet who could wait for it.
    pub(super) async fn prepare(
        config: &Settings,
        node_name: &str,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let cgroups = cgroups(config, metrics)?;
        let (hardware, resources) = node::measure(config)?;
        let enforced = cgroups.clone().map(|cgroups| {
            let cpus = stats::machine::online_cpu_list();
            Enforcement::new(cgroups, &resources, cpus, config.node.enforce_on_pods)
        });
        let limits = match enforced.map(|enforcement| (enforcement.apply(), enforcement)) {
            None | Some((Ok(None), _)) => Limits::Quiet,
            Some((Ok(Some(event)), _)) => Limits::Set(event),
            Some((Err(event), enforcement)) => Limits::Failed(enforcement, event),
        };
        let addresses = Addresses::new(&config.node_ips, node_name);
        let ips = addresses.find().await;
        Ok(Self { hardware, resources, cgroups, addresses, ips, limits })
    }
}

impl Limits {
    /// Goes on trying where it failed, and tells of each try. Answers with what is to be told of the first.
    pub(super) fn follow(
        self,
        phase: &Phase,
        tell: Option<impl Fn(NodeEvent) + Send + Sync + 'static>,
    ) -> Option<NodeEvent> {
        match self {
            Self::Quiet => None,
            Self::Set(event) => Some(event),
            Self::Failed(enforcement, event) => {
                tracing::warn!("{}", event.2);
                let tell = move |event| tell.iter().for_each(|tell| tell(NodeEvent::clone(&event)));
                phase.spawn(enforcement.keep_trying(tell));
                Some(event)
            }
        }
    }
}

fn cgroups(config: &Settings, metrics: &Metrics) -> Result<Option<Arc<Cgroups>>, StartError> {
    if !config.cgroups_per_qos {
        return Ok(None);
    }
    let cgroups = Cgroups::detect(settings::CGROUP_MOUNT.as_ref(), settings::cgroups(config))?;
    let began = Instant::now();
    cgroups.ensure_base()?;
    metrics.runtime.cgroup("create", began);
    Ok(Some(Arc::new(cgroups)))
}
