//! Who gives pods what their containers need beside an image: volumes, devices, claims. Each says what is missing of it
//! before anything of a pod starts, and then what a container gets of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cri_config::ContainerExtras;
use kube_model::core::{Container, Pod};
use pod_lifecycle::Unmet;
use pod_workers::StepError;

/// One of them. It belongs to whoever makes these things ready, and who wakes a pod when they are.
pub trait Provider: Send + Sync {
    /// What the pod lacks. This is asked before each plan, so the answer is known at once.
    fn unmet(&self, pod: &Arc<Pod>) -> Option<Unmet>;

    /// What a container gets, at each start of it; only asked when the pod lacked nothing. `variables` are the container's own, where what it mounts refers to some.
    ///
    /// # Errors
    /// Why it cannot have that now: the start has failed and is tried again.
    fn extras<'a>(&'a self, pod: &'a Pod, container: &'a Container, variables: &'a Variables) -> Extras<'a>;
}

/// Names and values.
pub type Variables = BTreeMap<String, Vec<u8>>;

/// The answer of [`Provider::extras`].
pub type Extras<'a> = Pin<Box<dyn Future<Output = Result<ContainerExtras, StepError>> + Send + 'a>>;

/// All of them: in the order in which what they give is put together, see [`ContainerExtras::append`].
pub struct Providers(
    /// Those.
    pub Vec<Box<dyn Provider>>,
);

impl Providers {
    /// What the pod lacks.
    pub fn unmet(&self, pod: &Arc<Pod>) -> Vec<Unmet> {
        let fields = cri_config::unsupported(pod);
        let message = || fields.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let unsupported = (!fields.is_empty()).then(|| Unmet::Unsupported { message: message() });
        unsupported.into_iter().chain(self.0.iter().filter_map(|provider| provider.unmet(pod))).collect()
    }

    /// What a container gets from all of them.
    ///
    /// # Errors
    /// The first who cannot give what is theirs.
    pub async fn extras(
        &self,
        pod: &Pod,
        container: &Container,
        variables: &Variables,
    ) -> Result<ContainerExtras, StepError> {
        let mut all = ContainerExtras::default();
        for provider in &self.0 {
            all.append(provider.extras(pod, container, variables).await?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use cri_client::v1::Mount;
    use pod_lifecycle::{FailureReason, Rejection};

    use super::*;

    /// Gives a mount at its own name, or says why not.
    struct One(&'static str, Option<Unmet>, Result<(), &'static str>);

    impl Provider for One {
        fn unmet(&self, _: &Arc<Pod>) -> Option<Unmet> {
            self.1.clone()
        }

        fn extras<'a>(&'a self, _: &'a Pod, container: &'a Container, _: &'a Variables) -> Extras<'a> {
            Box::pin(async move {
                self.2.map_err(|why| StepError::new(FailureReason::CreateContainerConfigError, why))?;
                let container_path = format!("/{}/{}", container.name, self.0);
                let mounts = vec![Mount { container_path, ..Mount::default() }];
                Ok(ContainerExtras { mounts, ..ContainerExtras::default() })
            })
        }
    }

    fn providers<const N: usize>(all: [One; N]) -> Providers {
        Providers(all.into_iter().map(|one| Box::new(one) as _).collect())
    }

    fn pod(spec: &str) -> Arc<Pod> {
        Arc::new(serde_json::from_str(&format!(r#"{{"metadata":{{"name":"a"}},"spec":{spec}}}"#)).unwrap())
    }

    #[test]
    fn what_is_not_supported_comes_first_then_what_each_provider_lacks() {
        let failed = Unmet::Failed(Rejection { reason: "R".into(), message: "m".into() });
        let unsupported = |message: &str| Unmet::Unsupported { message: message.to_owned() };
        let plain = r#"{"containers":[{"name":"c"}]}"#;
        let odd = r#"{"hostUsers":false,"runtimeClassName":"gvisor","containers":[{"name":"c"}]}"#;
        let both = "spec.runtimeClassName: runtime classes are not supported: they come from an API server; \
                    spec.hostUsers: user namespaces are not supported yet";
        for (spec, lacks, want) in [
            (plain, None, vec![]),
            (plain, Some(&failed), vec![failed.clone()]),
            (odd, None, vec![unsupported(both)]),
            (odd, Some(&failed), vec![unsupported(both), failed.clone()]),
        ] {
            let all = providers([One("a", None, Ok(())), One("b", lacks.cloned(), Ok(()))]);
            assert_eq!(all.unmet(&pod(spec)), want, "{spec}");
        }
    }

    #[tokio::test]
    async fn a_container_gets_what_all_give_in_their_order_or_nothing() {
        let pod = pod(r#"{"containers":[{"name":"c"}]}"#);
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let none = Variables::new();
        let all = providers([One("b", None, Ok(())), One("a", None, Ok(()))]);
        let mounts = all.extras(&pod, container, &none).await.unwrap().mounts;
        assert_eq!(mounts.iter().map(|m| m.container_path.as_str()).collect::<Vec<_>>(), ["/c/b", "/c/a"]);

        let all = providers([One("b", None, Ok(())), One("a", None, Err("the plugin is gone"))]);
        assert_eq!(all.extras(&pod, container, &none).await.unwrap_err().message, "the plugin is gone");
        assert_eq!(providers([]).extras(&pod, container, &none).await.unwrap(), ContainerExtras::default());
    }
}
