//! The quality of service class of a pod, and the cgroup that follows from it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::PodUid;
use crate::core::{Pod, ResourceRequirements};
use crate::resources::{CPU, MEMORY, ResourceMap, amount};

/// What the node promises a pod; the order in which pods are sacrificed is the reverse of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QosClass {
    /// Every container has CPU and memory limits, and requests equal to them.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// The class of a pod whose requests are already defaulted from its limits, as sources publish it.
    ///
    /// Counts CPU and memory of regular and init containers; where the pod itself has `resources`, and be they empty,
    /// only those count. A quantity that does not parse counts as not given.
    /// Rule: upstream `pkg/apis/core/v1/helper/qos`.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::BestEffort };
        match &spec.resources {
            Some(resources) => Self::over([Some(resources)].into_iter()),
            None => {
                let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
                Self::over(containers.map(|c| c.resources.as_ref()))
            }
        }
    }

    fn over<'a>(all: impl Iterator<Item = Option<&'a ResourceRequirements>>) -> Self {
        // CPU, then memory; sums in billionths.
        let mut requests = [0_i128; 2];
        let mut limits = [0_i128; 2];
        let mut all_limited = true;
        for resources in all {
            for (i, name) in [CPU, MEMORY].into_iter().enumerate() {
                let read = |list: Option<&ResourceMap>| amount(list, name).map_or(0, |q| q.nanos().max(0));
                let limit = read(resources.and_then(|r| r.limits.as_ref()));
                requests[i] = requests[i].saturating_add(read(resources.and_then(|r| r.requests.as_ref())));
                limits[i] = limits[i].saturating_add(limit);
                all_limited &= limit > 0;
            }
        }
        if requests == [0; 2] && limits == [0; 2] {
            Self::BestEffort
        } else if all_limited && requests == limits {
            Self::Guaranteed
        } else {
            Self::Burstable
        }
    }

    /// As `status.qosClass` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The cgroup that holds the pods of this class, below the cgroup root: `/kubepods/burstable`; pods of
    /// class Guaranteed stand in `/kubepods` itself. Rule: upstream `pkg/kubelet/cm/pod_container_manager_linux.go`,
    /// cgroupfs driver.
    pub fn cgroup(self) -> &'static str {
        match self {
            Self::Guaranteed => "/kubepods",
            Self::Burstable => "/kubepods/burstable",
            Self::BestEffort => "/kubepods/besteffort",
        }
    }

    /// The cgroup of a pod below the cgroup root: `/kubepods/burstable/pod<uid>`; also the sandbox's
    /// `cgroup_parent`.
    pub fn pod_cgroup(self, uid: &PodUid) -> String {
        format!("{}/pod{uid}", self.cgroup())
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(spec: serde_json::Value) -> QosClass {
        QosClass::of(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
    }

    fn container(requests: serde_json::Value, limits: serde_json::Value) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn the_class_follows_from_requests_and_limits_of_all_containers() {
        use QosClass::{BestEffort, Burstable, Guaranteed};
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let full = container(both.clone(), both.clone());
        let empty = container(json!({}), json!({}));
        let disk = json!({"ephemeral-storage": "1Gi"});
        for (what, want, containers, init) in [
            ("nothing given", BestEffort, vec![empty.clone()], vec![]),
            ("only zeros", BestEffort, vec![container(json!({"cpu": "0"}), json!({}))], vec![]),
            ("other resources do not count", BestEffort, vec![container(disk.clone(), disk)], vec![]),
            ("all equal", Guaranteed, vec![full.clone(), full.clone()], vec![]),
            (
                "equal in other words",
                Guaranteed,
                vec![container(json!({"cpu": "1000m", "memory": "1024Mi"}), both.clone())],
                vec![],
            ),
            ("one container has none", Burstable, vec![full.clone(), empty.clone()], vec![]),
            ("an init container has none", Burstable, vec![full.clone()], vec![empty]),
            ("init containers too", Guaranteed, vec![full.clone()], vec![full]),
            ("no requests", Burstable, vec![container(json!({}), both.clone())], vec![]),
            ("only a request", Burstable, vec![container(json!({"cpu": "1m"}), json!({}))], vec![]),
            ("no memory limit", Burstable, vec![container(json!({"cpu": "1"}), json!({"cpu": "1"}))], vec![]),
        ] {
            let spec = json!({"containers": containers, "initContainers": init});
            assert_eq!(class(spec), want, "{what}");
        }
    }

    #[test]
    fn pod_level_resources_decide_alone() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let full = json!({"requests": both, "limits": both});
        let with = |resources| json!({"containers": [{"name": "c"}], "resources": resources});
        assert_eq!(class(with(full.clone())), QosClass::Guaranteed);
        assert_eq!(class(with(json!({"requests": both}))), QosClass::Burstable);
        assert_eq!(
            class(json!({"containers": [container(both.clone(), both)], "resources": {}})),
            QosClass::BestEffort
        );
        let mut contradicting = with(full);
        contradicting["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
        assert_eq!(class(contradicting), QosClass::Guaranteed);
    }
}
