//! The addresses of the node, as pods in its network have them and as the Node tells of them. Rule: upstream
//! `pkg/kubelet/kubelet_node_status.go`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pod_workers::NodeState;
use stats::addresses::{is_here, is_usable, outgoing_v4, outgoing_v6};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long the resolver may take for the node's name. What it says later is taken over later.
const RESOLVER: Duration = Duration::from_secs(1);

/// How often is looked again while the node has no address, and while it has.
const AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// What decides the node's addresses.
pub(crate) struct Addresses {
    given: Vec<IpAddr>,
    node_name: String,
}

impl Addresses {
    /// Those of `--node-ip`, of which `0.0.0.0` and `::` only choose a family, and the node's name.
    pub(crate) fn new(given: &[IpAddr], node_name: &str) -> Self {
        for ip in given.iter().filter(|ip| !ip.is_unspecified() && !is_here(**ip)) {
            tracing::warn!("--node-ip {ip} is no address of this machine");
        }
        Self { given: given.to_vec(), node_name: node_name.to_owned() }
    }

    /// Those that need no looking for.
    fn fixed(&self) -> Vec<IpAddr> {
        let given: Vec<IpAddr> = self.given.iter().copied().filter(|ip| !ip.is_unspecified()).collect();
        if given.is_empty() { self.node_name.parse().into_iter().collect() } else { given }
    }

    /// The given ones, else the node's name if it is one, else what the name stands for, else where packets to the
    /// outside leave from (the kubelet, too, takes the default route's).
    pub(crate) async fn find(&self) -> Vec<IpAddr> {
        let fixed = self.fixed();
        if !fixed.is_empty() {
            return fixed;
        }
        let named = timeout(RESOLVER, tokio::net::lookup_host((self.node_name.as_str(), 0))).await;
        let named: Vec<IpAddr> = named.into_iter().flatten().flatten().map(|at| at.ip()).collect();
        let usable = named.into_iter().filter(|ip| is_usable(*ip) && is_here(*ip));
        // The node has one primary address; a second family is told to it by `--node-ip`.
        self.preferred(usable)
            .or_else(|| self.preferred([outgoing_v4(), outgoing_v6()].into_iter().flatten()))
            .into_iter()
            .collect()
    }

    /// The first of the family that is wanted, else the first.
    fn preferred(&self, found: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
        let v6 = self.given.first().is_some_and(IpAddr::is_ipv6);
        let found: Vec<IpAddr> = found.collect();
        found.iter().find(|ip| ip.is_ipv6() == v6).or(found.first()).copied()
    }

    /// Looks again and again, where that can find anything new, and tells those who use the addresses.
    pub(crate) async fn follow(
        self,
        node: watch::Sender<Arc<NodeState>>,
        config: Arc<ArcSwap<cri_config::Settings>>,
    ) {
        if !self.fixed().is_empty() {
            return;
        }
        loop {
            let known = node.borrow().facts.host_ips.clone();
            sleep(if known.is_empty() { AGAIN.0 } else { AGAIN.1 }).await;
            let found = self.find().await;
            // An interface that is down for a moment takes no pod's address away.
            if found.is_empty() || found == known {
                continue;
            }
            tracing::info!(?known, ?found, "the node has other addresses");
            config.rcu(|config| cri_config::Settings { node_ips: found.clone(), ..(**config).clone() });
            node.send_modify(|node| {
                let mut changed = (**node).clone();
                changed.facts.host_ips = found;
                *node = Arc::new(changed);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn given_addresses_win_and_keep_their_order_then_the_name_counts() {
        let given = ips(&["10.1.2.3", "fd00::1"]);
        assert_eq!(Addresses::new(&given, "10.9.9.9").find().await, given);
        assert_eq!(Addresses::new(&ips(&["::"]), "10.9.9.9").find().await, ips(&["10.9.9.9"]));
        // This name stands for an address that nobody else can reach.
        let found = Addresses::new(&[], "localhost").find().await;
        assert!(found.iter().all(|ip| is_usable(*ip) && is_here(*ip)), "{found:?}");
    }

    #[test]
    fn the_family_that_is_wanted_is_preferred_not_insisted_on() {
        let found = ips(&["fd00::1", "10.1.2.3"]);
        let first = |given: &[&str], found: &[IpAddr]| {
            Addresses::new(&ips(given), "n").preferred(found.iter().copied()).unwrap().to_string()
        };
        assert_eq!(first(&[], &found), "10.1.2.3");
        assert_eq!(first(&["::"], &found), "fd00::1");
        assert_eq!(first(&["0.0.0.0"], &found[..1]), "fd00::1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_had_no_address_gets_one() {
        let (node, config) = (watch::Sender::new(Arc::new(NodeState::default())), Arc::default());
        let addresses = Addresses::new(&[], "localhost");
        let any = addresses.find().await;
        let following = addresses.follow(node.clone(), Arc::clone(&config));
        // A machine without a network has none later, either.
        let _for_ever = timeout(AGAIN.0 * 2, following).await;
        assert_eq!(node.borrow().facts.host_ips, any);
        assert_eq!(config.load().node_ips, any);
    }
}
