//! What the pods that the node has taken hold of it: the sums of their requests, and ports of the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::core::{Pod, PodSpec};
use kube_model::qos::QosClass;
use kube_model::resources::{CPU, requests};
use kube_model::{PodUid, pod};

use crate::{Node, Rejection, fit, ports};

/// The allocations of all pods that the node has taken and that have not ended. Sums are kept, not made anew for each
/// question: who is asked about one more pod only looks whether the others are still the same.
#[derive(Debug, Clone, Default)]
pub struct Allocations {
    pods: BTreeMap<PodUid, Arc<Pod>>,
    /// By resource. Wider than any amount, so that what was added can be taken away again.
    requested: BTreeMap<String, i128>,
    burstable_milli_cpu: i128,
    ports: ports::Taken,
}

impl Allocations {
    /// Takes in the `active` pods, which are all that there are, as they are now: whether the node has room for them or
    /// not, one that runs has what it has. Costs little where they are in already.
    pub fn sync(&mut self, active: &BTreeMap<PodUid, Arc<Pod>>) {
        self.retain(|uid| active.contains_key(uid));
        active.iter().for_each(|(uid, pod)| self.set(uid, pod));
    }

    /// Takes one pod in, as it is now.
    pub(crate) fn set(&mut self, uid: &PodUid, pod: &Arc<Pod>) {
        if self.pods.get(uid).is_some_and(|known| Arc::ptr_eq(known, pod)) {
            return;
        }
        self.remove(uid);
        if let Some(spec) = &pod.spec {
            self.count(pod, spec, 1);
            self.ports.add(spec);
        }
        self.pods.insert(uid.clone(), Arc::clone(pod));
    }

    /// Gives back what a pod had.
    pub fn remove(&mut self, uid: &PodUid) {
        let Some(pod) = self.pods.remove(uid) else { return };
        if let Some(spec) = &pod.spec {
            self.count(&pod, spec, -1);
            self.ports.remove(spec);
        }
    }

    /// Gives back what those pods had that do not stay.
    fn retain(&mut self, mut stays: impl FnMut(&PodUid) -> bool) {
        let gone: Vec<PodUid> = self.pods.keys().filter(|uid| !stays(uid)).cloned().collect();
        gone.iter().for_each(|uid| self.remove(uid));
    }

    /// Takes a pod in beside the `active` ones if the node has room for it and it for the node; else it has nothing.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn admit(
        &mut self,
        pod: &Arc<Pod>,
        active: &BTreeMap<PodUid, Arc<Pod>>,
        node: &Node,
    ) -> Result<(), Rejection> {
        self.sync(active);
        crate::admit(pod, node, self)?;
        self.set(&pod::identity(pod).0, pod);
        Ok(())
    }

    /// How many pods there are.
    pub fn pods(&self) -> i64 {
        i64::try_from(self.pods.len()).unwrap_or(i64::MAX)
    }

    /// What all of them request of a resource: thousandths of a core for `cpu`, else bytes or a count, each pod's amount
    /// rounded up.
    pub fn requested(&self, resource: &str) -> i64 {
        let sum = self.requested.get(resource).copied().unwrap_or_default();
        i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
    }

    /// What all pods of the burstable class request of the CPU, in thousandths of a core.
    pub fn burstable_milli_cpu(&self) -> i64 {
        i64::try_from(self.burstable_milli_cpu).unwrap_or(i64::MAX)
    }

    pub(crate) fn conflicts_with_ports_of(&self, spec: &PodSpec) -> bool {
        self.ports.conflict(spec)
    }

    fn count(&mut self, pod: &Pod, spec: &PodSpec, sign: i128) {
        let is_burstable = QosClass::of(pod) == QosClass::Burstable;
        for (name, nanos) in requests(spec).iter() {
            let amount = i128::from(fit::amount(name, nanos)) * sign;
            if name == CPU && is_burstable {
                self.burstable_milli_cpu += amount;
            }
            if let Some(sum) = self.requested.get_mut(name) {
                *sum += amount;
            } else {
                self.requested.insert(name.to_owned(), amount);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, ports: serde_json::Value) -> Arc<Pod> {
        let container =
            json!({"name": "c", "ports": ports, "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}});
        Arc::new(serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap())
    }

    fn uid(name: &str) -> PodUid {
        name.into()
    }

    /// Pods, CPU and memory, and whether two ports are free.
    fn held(all: &Allocations) -> (i64, i64, i64, [bool; 2]) {
        assert_eq!(all.burstable_milli_cpu(), all.requested("cpu"), "all of them are burstable");
        let free = |port: i32| {
            let asking = pod("0", json!([{"containerPort": 1, "hostPort": port}]));
            !all.conflicts_with_ports_of(asking.spec.as_ref().unwrap())
        };
        (all.pods(), all.requested("cpu"), all.requested("memory"), [80, 81].map(free))
    }

    #[test]
    fn each_pod_counts_once_as_it_is_and_leaves_nothing_behind() {
        let port = |number: i32| json!([{"containerPort": 1, "hostPort": number}]);
        let (web, changed) = (pod("250m", port(80)), pod("100m", port(81)));
        let mut all = Allocations::default();
        let mib = 1 << 20;
        type Step<'a> = &'a dyn Fn(&mut Allocations);
        let steps: [(&str, Step<'_>, _); 8] = [
            ("a pod", &|all| all.set(&uid("a"), &web), (1, 250, mib, [false, true])),
            ("again", &|all| all.set(&uid("a"), &web), (1, 250, mib, [false, true])),
            ("another like it", &|all| all.set(&uid("b"), &web), (2, 500, 2 * mib, [false, true])),
            ("it changes", &|all| all.set(&uid("b"), &changed), (2, 350, 2 * mib, [false, false])),
            ("one that is unknown goes", &|all| all.remove(&uid("x")), (2, 350, 2 * mib, [false, false])),
            ("the first goes", &|all| all.remove(&uid("a")), (1, 100, mib, [true, false])),
            ("one without a spec", &|all| all.set(&uid("c"), &Arc::default()), (2, 100, mib, [true, false])),
            ("nobody stays", &|all| all.retain(|_| false), (0, 0, 0, [true, true])),
        ];
        for (case, step, want) in steps {
            step(&mut all);
            assert_eq!(held(&all), want, "{case}");
        }
    }

    #[test]
    fn a_port_is_free_when_the_last_one_on_it_has_gone() {
        let at = |ip: &str| pod("0", json!([{"containerPort": 1, "hostPort": 80, "hostIP": ip}]));
        let mut all = Allocations::default();
        all.set(&uid("a"), &at("10.0.0.1"));
        all.set(&uid("b"), &at("10.0.0.1"));
        all.remove(&uid("a"));
        assert_eq!(held(&all).3, [false, true]);
        all.remove(&uid("b"));
        assert_eq!(held(&all).3, [true, true]);
    }

    #[test]
    fn amounts_beyond_all_bounds_are_taken_back_whole() {
        let mut all = Allocations::default();
        let (huge, small) = (pod("9223372036854775", json!([])), pod("1", json!([])));
        for name in ["a", "b"] {
            all.set(&uid(name), &huge);
        }
        all.set(&uid("c"), &small);
        assert_eq!(all.requested("cpu"), i64::MAX);
        assert_eq!(all.burstable_milli_cpu(), i64::MAX);
        all.retain(|known| *known == uid("c"));
        assert_eq!([all.requested("cpu"), all.burstable_milli_cpu()], [1000; 2]);
    }

    #[test]
    fn what_burstable_pods_share_is_what_they_request_and_no_other_pod() {
        let of = |requests: serde_json::Value, limits: serde_json::Value| {
            let container = json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
            Arc::new(serde_json::from_value::<Pod>(json!({"spec": {"containers": [container]}})).unwrap())
        };
        let both = json!({"cpu": "2", "memory": "1Mi"});
        let guaranteed = of(both.clone(), both);
        let cases = [
            ("a burstable one", of(json!({"cpu": "250m"}), json!({})), 250),
            ("another", of(json!({"cpu": "1500u"}), json!({"memory": "1Mi"})), 252),
            ("one that requests no CPU", of(json!({"memory": "1Mi"}), json!({})), 252),
            ("a guaranteed one", guaranteed.clone(), 252),
            ("one of best effort", of(json!({}), json!({})), 252),
        ];
        let (mut all, mut active) = (Allocations::default(), BTreeMap::new());
        for (case, pod, want) in cases {
            active.insert(uid(case), pod);
            all.sync(&active);
            assert_eq!(all.burstable_milli_cpu(), want, "{case}");
        }
        active.insert(uid("another"), guaranteed);
        active.remove(&uid("one of best effort"));
        all.sync(&active);
        assert_eq!((all.pods(), all.burstable_milli_cpu()), (4, 250));
        all.sync(&BTreeMap::new());
        assert_eq!((all.pods(), all.burstable_milli_cpu()), (0, 0));
    }

    #[test]
    fn who_is_taken_counts_beside_those_that_are_there_and_who_is_rejected_has_nothing() {
        let allocatable = [("cpu", "1"), ("memory", "1Gi"), ("pods", "9")];
        let quantity = |(name, amount): (&str, &str)| (name.to_owned(), Quantity(amount.to_owned()));
        let node = Node { allocatable: allocatable.map(quantity).into(), ..Node::default() };
        let named = |name: &str, cpu: &str| {
            let mut pod = Arc::unwrap_or_clone(pod(cpu, json!([])));
            pod.metadata.uid = Some(name.to_owned());
            Arc::new(pod)
        };
        let (a, b, adopted) = (named("a", "500m"), named("b", "500m"), named("c", "700m"));
        let mut all = Allocations::default();
        let mut ask = |pod: &Arc<Pod>, active: &[&Arc<Pod>]| {
            let active = active.iter().map(|pod| (pod::identity(pod).0, Arc::clone(pod))).collect();
            let reason = all.admit(pod, &active, &node).map_err(|rejection| rejection.reason);
            (reason.err(), all.pods(), all.requested("cpu"))
        };
        let full = Some("OutOfcpu".to_owned());
        assert_eq!(ask(&a, &[]), (None, 1, 500));
        assert_eq!(ask(&b, &[&a]), (None, 2, 1000));
        // Both have ended meanwhile, and one that another kubelet started is there.
        assert_eq!(ask(&a, &[&adopted]), (full.clone(), 1, 700));
        // What runs has what it has.
        assert_eq!(ask(&a, &[&adopted, &b]), (full, 2, 1200));
        assert_eq!(ask(&a, &[&b]), (None, 2, 1000));
    }
}
