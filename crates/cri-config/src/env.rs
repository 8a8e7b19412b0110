//! Environment variables of a container, and `$(NAME)` in its command.
//! Rule: reference 4.5; upstream `pkg/kubelet/kubelet_pods.go` and `third_party/forked/golang/expansion`.

use std::borrow::Cow;
use std::net::IpAddr;

use kube_model::core::{Container, EnvVarSource, Pod, PodSpec, ResourceFieldSelector};
use kube_model::expansion::expand;
use kube_model::pod;
use kube_model::quantity::Quantity;
use kube_model::resources::{CPU, HUGEPAGES_PREFIX, MEMORY, amount, pod_level};

use crate::error::FieldError;
use crate::settings::Settings;

/// The variables of one container with their values, in the order of the spec; a name that comes twice has its
/// last value.
#[derive(Debug, Default)]
pub(crate) struct Env(pub(crate) Vec<(String, String)>);

impl Env {
    pub(crate) fn new(
        pod: &Pod,
        spec: &PodSpec,
        container: &Container,
        pod_ips: &[IpAddr],
        settings: &Settings,
    ) -> Result<Self, FieldError> {
        if container.env_from.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(FieldError::new(
                "envFrom",
                "config maps and secrets cannot be read: the node has no API server",
            ));
        }
        let scope = Scope { pod, spec, container, pod_ips, settings };
        let mut env = Self(Vec::new());
        for var in container.env.iter().flatten() {
            let value = match (var.value.as_deref().unwrap_or_default(), &var.value_from) {
                ("", Some(source)) => scope.source(source).map_err(|(field, problem)| {
                    FieldError::new(format!("env[{}].valueFrom.{field}", var.name), problem)
                })?,
                (text, _) => env.expand(text),
            };
            match env.0.iter_mut().find(|(name, _)| *name == var.name) {
                Some((_, old)) => *old = value,
                None => env.0.push((var.name.clone(), value)),
            }
        }
        Ok(env)
    }

    pub(crate) fn expand(&self, text: &str) -> String {
        expand(text, |name| {
            let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
            Some(Cow::Borrowed(value.as_str()))
        })
    }
}

/// What a variable's value can come from.
struct Scope<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    container: &'a Container,
    pod_ips: &'a [IpAddr],
    settings: &'a Settings,
}

/// A field below `valueFrom`, and what is wrong with it.
type Problem = (&'static str, String);

impl Scope<'_> {
    fn source(&self, source: &EnvVarSource) -> Result<String, Problem> {
        let no_api = |field, kind: &str, name: &str| {
            Err((field, format!("{kind} {name:?} cannot be read: the node has no API server")))
        };
        if let Some(field) = &source.field_ref {
            self.field(&field.field_path).ok_or_else(|| {
                ("fieldRef", format!("{:?} is no field that a variable can have", field.field_path))
            })
        } else if let Some(resource) = &source.resource_field_ref {
            self.resource(resource).map_err(|problem| ("resourceFieldRef", problem))
        } else if let Some(map) = &source.config_map_key_ref {
            no_api("configMapKeyRef", "config map", &map.name)
        } else if let Some(secret) = &source.secret_key_ref {
            no_api("secretKeyRef", "secret", &secret.name)
        } else if let Some(file) = &source.file_key_ref {
            Err((
                "fileKeyRef",
                format!("volume {:?} cannot be read: volumes are not built yet", file.volume_name),
            ))
        } else {
            Err(("", "no source is given".to_owned()))
        }
    }

    fn field(&self, path: &str) -> Option<String> {
        let meta = &self.pod.metadata;
        let own = |text: &Option<String>| text.clone().unwrap_or_default();
        let join = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
        Some(match path {
            "metadata.name" => own(&meta.name),
            "metadata.namespace" => own(&meta.namespace),
            "metadata.uid" => own(&meta.uid),
            "spec.nodeName" => own(&self.spec.node_name),
            "spec.serviceAccountName" => own(&self.spec.service_account_name),
            "status.hostIP" => first(&self.settings.node_ips),
            "status.hostIPs" => join(&self.settings.node_ips),
            "status.podIP" => first(self.pod_ips),
            "status.podIPs" => join(self.pod_ips),
            _ => {
                let (map, key) = path.strip_suffix("']")?.split_once("['")?;
                let map = match map {
                    "metadata.labels" => &meta.labels,
                    "metadata.annotations" => &meta.annotations,
                    _ => return None,
                };
                map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default()
            }
        })
    }

    fn resource(&self, selector: &ResourceFieldSelector) -> Result<String, String> {
        let container = match selector.container_name.as_deref() {
            None | Some("") => self.container,
            Some(name) => {
                pod::container(self.spec, name).ok_or_else(|| format!("the pod has no container {name:?}"))?.1
            }
        };
        let unsupported = || format!("{:?} is no resource that a variable can have", selector.resource);
        let (list, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
        if !([CPU, MEMORY, "ephemeral-storage"].contains(&name) || name.starts_with(HUGEPAGES_PREFIX)) {
            return Err(unsupported());
        }
        let own = container.resources.as_ref();
        let quantity = match list {
            "limits" => amount(own.and_then(|r| r.limits.as_ref()), name)
                .filter(|q| q.nanos() != 0)
                .or_else(|| self.default_limit(name)),
            "requests" => amount(own.and_then(|r| r.requests.as_ref()), name),
            _ => return Err(unsupported()),
        };
        let divisor = match &selector.divisor {
            None => None,
            Some(d) => Some(Quantity::try_from(d).map_err(|e| format!("divisor {:?}: {e}", d.0))?),
        };
        let unit = |q: &Quantity| if name == CPU { q.milli_value() } else { q.value() };
        // Zero is how the API writes "none".
        let one = if name == CPU { 1000 } else { 1 };
        let divisor = divisor.map(|d| unit(&d)).filter(|d| *d > 0).unwrap_or(one);
        let value = quantity.map_or(0, |q| unit(&q).max(0));
        Ok(value.unsigned_abs().div_ceil(divisor.unsigned_abs()).to_string())
    }

    /// Where a container has no limit: the pod's, else what the node has for pods.
    fn default_limit(&self, name: &str) -> Option<Quantity> {
        let of_pod = pod_level(self.spec).and_then(|r| amount(r.limits.as_ref(), name));
        let node = &self.settings.allocatable;
        of_pod.filter(|q| q.nanos() != 0).or_else(|| {
            let text = match name {
                CPU => format!("{}m", node.milli_cpu),
                MEMORY => node.memory.to_string(),
                "ephemeral-storage" => node.ephemeral_storage.to_string(),
                _ => return None,
            };
            text.parse().ok()
        })
    }
}

#[cfg(test)]
mod tests;
