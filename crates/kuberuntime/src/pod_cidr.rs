//! The addresses that the cluster gives this node's pods, told to the runtime: some make their network's
//! configuration of it. Rule: upstream `pkg/kubelet/kubelet_network.go` `updatePodCIDR`.

use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::{NetworkConfig, RuntimeConfig, UpdateRuntimeConfigRequest};
use kube_model::core::Node;
use tokio::sync::watch;
use tokio::time::sleep;

/// Pause before the runtime is told again what it did not take.
const AGAIN: Duration = Duration::from_secs(10);

/// Tells the runtime at first and after each change, until the future is dropped. A runtime that is restarted
/// keeps what it made of it.
pub async fn tell_pod_cidr(runtime: cri_client::Client, mut node: watch::Receiver<Option<Arc<Node>>>) {
    let mut known = None;
    loop {
        let wanted = node.borrow_and_update().as_deref().and_then(of_node);
        if wanted.is_some() && wanted != known {
            let pod_cidr = wanted.clone().unwrap_or_default();
            tracing::info!(pod_cidr, "the runtime is told the range of the pods' addresses");
            let network_config = Some(NetworkConfig { pod_cidr });
            let config = Some(RuntimeConfig { network_config });
            match runtime.update_runtime_config(UpdateRuntimeConfigRequest { runtime_config: config }).await {
                Ok(_) => known = wanted,
                Err(error) => {
                    tracing::warn!(
                        "the runtime does not take the range of the pods' addresses: {}",
                        util::causes(&error)
                    );
                    sleep(AGAIN).await;
                    continue;
                }
            }
        }
        if node.changed().await.is_err() {
            return;
        }
    }
}

/// All ranges, as the kubelet joins them.
fn of_node(node: &Node) -> Option<String> {
    let spec = node.spec.as_ref()?;
    let ranges = spec.pod_cidrs.as_ref().filter(|all| !all.is_empty()).map(|all| all.join(","));
    ranges.or_else(|| spec.pod_cidr.clone()).filter(|ranges| !ranges.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ranges_of_a_node_are_joined() {
        let of = |spec: serde_json::Value| {
            of_node(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
        };
        assert_eq!(of(json!({})), None);
        assert_eq!(of(json!({"podCIDR": "10.1.0.0/24"})).unwrap(), "10.1.0.0/24");
        assert_eq!(
            of(json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00::/80"]})).unwrap(),
            "10.1.0.0/24,fd00::/80"
        );
    }
}
