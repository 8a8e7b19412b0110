//! Environment variables of a container, and `$(NAME)` in its command.
//! Rule: upstream `pkg/kubelet/kubelet_pods.go` and `third_party/forked/golang/expansion`.

mod references;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use kube_model::core::{
    Container, EnvFromSource, EnvVarSource, FileKeySelector, Pod, PodSpec, ResourceFieldSelector,
};
use kube_model::expansion::{Budget, expand};
use kube_model::{downward, pod};

use crate::error::{ConfigError, FieldError};
use crate::settings::Settings;

pub use references::{Data, FileKey, Kind, Missing, References, files, references};

/// The variables of one container with their values: bytes, because a Secret may hold any. (The kubelet sends them
/// in random order.)
#[derive(Default)]
pub(crate) struct Env {
    pub(crate) variables: BTreeMap<String, Vec<u8>>,
    /// For all that is expanded for the container.
    budget: Budget,
}

impl Env {
    /// Services are the weakest, then `envFrom` in order, then `env` in order: what comes later replaces what was
    /// there. No name is left out for its form.
    pub(crate) fn new(
        pod: &Pod,
        spec: &PodSpec,
        container: &Container,
        pod_ips: &[IpAddr],
        settings: &Settings,
        references: Option<&References<'_>>,
    ) -> Result<Self, ConfigError> {
        let scope = Scope { pod, spec, container, pod_ips, settings, references };
        let services = references.into_iter().flat_map(|found| found.services);
        let services = services.map(|(n, v)| (n.clone(), v.clone().into_bytes()));
        let mut env = Self { variables: services.collect(), budget: Budget::default() };
        for from in container.env_from.iter().flatten() {
            let prefix = from.prefix.as_deref().unwrap_or_default();
            let data = scope.whole(from)?.into_iter().flatten();
            env.variables.extend(data.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
        }
        for var in container.env.iter().flatten() {
            let value = match (var.value.as_deref().unwrap_or_default(), &var.value_from) {
                ("", Some(source)) => scope.source(&var.name, source)?,
                (text, _) => {
                    let text = env
                        .expand(text)
                        .map_err(|problem| scope.refuse(format!("env[{}].value", var.name), problem))?;
                    Some(text.into_bytes())
                }
            };
            // An optional source that is not there leaves what was there before.
            env.variables.extend(value.map(|value| (var.name.clone(), value)));
        }
        Ok(env)
    }

    /// All of them, for who expands something else with them.
    pub(crate) fn into_variables(self) -> BTreeMap<String, Vec<u8>> {
        self.variables
    }

    /// Adds variables that give way to all others. No variable's value refers to them.
    pub(crate) fn underlay(&mut self, weaker: &BTreeMap<String, String>) {
        for (name, value) in weaker {
            self.variables.entry(name.clone()).or_insert_with(|| value.clone().into_bytes());
        }
    }

    /// # Errors
    /// The variable that `text` refers to and that is no text itself, or a text that becomes too long.
    pub(crate) fn expand(&mut self, text: &str) -> Result<String, String> {
        let Self { variables, budget } = self;
        let binary = Cell::new(None);
        let expanded = expand(text, budget, |name| {
            let (name, value) = variables.get_key_value(name)?;
            Some(match std::str::from_utf8(value) {
                Ok(value) => Cow::Borrowed(value),
                Err(_) => {
                    binary.set(Some(name));
                    Cow::Borrowed("")
                }
            })
        });
        match binary.get() {
            None => expanded.map_err(|error| error.to_string()),
            Some(name) => Err(format!("$({name}) is not UTF-8 text, which is all that can be put in here")),
        }
    }
}

/// What a variable's value can come from.
struct Scope<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    container: &'a Container,
    pod_ips: &'a [IpAddr],
    settings: &'a Settings,
    /// `None` on a node without an API server.
    references: Option<&'a References<'a>>,
}

impl<'a> Scope<'a> {
    /// All of an object; `None` if it need not be there and is not.
    fn whole(&self, from: &EnvFromSource) -> Result<Option<&'a Data>, ConfigError> {
        let field = || "envFrom".to_owned();
        if let Some(map) = &from.config_map_ref {
            self.object(Kind::ConfigMap, &map.name, map.optional, field)
        } else if let Some(secret) = &from.secret_ref {
            self.object(Kind::Secret, &secret.name, secret.optional, field)
        } else {
            Ok(None)
        }
    }

    fn source(&self, variable: &str, source: &EnvVarSource) -> Result<Option<Vec<u8>>, ConfigError> {
        let field = |name: &str| format!("env[{variable}].valueFrom.{name}");
        let refuse = |name: &str, problem: String| Err(self.refuse(field(name), problem));
        let value = if let Some(from) = &source.field_ref {
            let path = &from.field_path;
            self.field(path)
                .ok_or_else(|| ("fieldRef", format!("{path:?} is no field that a variable can have")))
        } else if let Some(resource) = &source.resource_field_ref {
            self.resource(resource).map_err(|problem| ("resourceFieldRef", problem))
        } else if let Some(map) = &source.config_map_key_ref {
            let field = || field("configMapKeyRef");
            return self.key(Kind::ConfigMap, &map.name, &map.key, map.optional, field);
        } else if let Some(secret) = &source.secret_key_ref {
            let field = || field("secretKeyRef");
            return self.key(Kind::Secret, &secret.name, &secret.key, secret.optional, field);
        } else if let Some(file) = &source.file_key_ref {
            return self.file(file, || field("fileKeyRef"));
        } else {
            Err(("", "no source is given".to_owned()))
        };
        value.map(|text| Some(text.into_bytes())).or_else(|(name, problem)| refuse(name, problem))
    }

    /// One value of an object; `None` if it need not be there and is not.
    fn key(
        &self,
        kind: Kind,
        name: &str,
        key: &str,
        optional: Option<bool>,
        field: impl Fn() -> String,
    ) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(data) = self.object(kind, name, optional, field)? else { return Ok(None) };
        match data.get(key) {
            None if optional != Some(true) => {
                let kind = kind.name();
                let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
                Err(self.missing(format!("couldn't find key {key} in {kind} {namespace}/{name}")))
            }
            value => Ok(value.cloned()),
        }
    }

    /// One value of a file; `None` if it need not be there and is not. The kubelet demands the file even then, against
    /// what the API says of `optional`.
    fn file(
        &self,
        from: &FileKeySelector,
        field: impl Fn() -> String,
    ) -> Result<Option<Vec<u8>>, ConfigError> {
        let FileKeySelector { volume_name: volume, path, key, .. } = from;
        let found = self.references.and_then(|found| found.files.get(&FileKey { volume, path, key }));
        let is_optional = from.optional == Some(true);
        match found {
            Some(Ok(Some(value))) => Ok(Some(value.to_vec())),
            Some(Ok(None) | Err(Missing::NotFound)) if is_optional => Ok(None),
            Some(Ok(None)) => {
                let problem = format!(
                    "environment variable key {key:?} not found in file {path:?} of volume {volume:?}"
                );
                Err(self.missing(problem))
            }
            Some(Err(Missing::NotFound)) => {
                let problem =
                    format!("couldn't parse env file: there is no file {path:?} in volume {volume:?}");
                Err(self.missing(problem))
            }
            Some(Err(Missing::Unreadable(problem))) => Err(self.missing(problem.clone())),
            None => Err(self.refuse(field(), format!("volume {volume:?} was not looked at"))),
        }
    }

    fn object(
        &self,
        kind: Kind,
        name: &str,
        optional: Option<bool>,
        field: impl Fn() -> String,
    ) -> Result<Option<&'a Data>, ConfigError> {
        let Some(references) = self.references else {
            let problem = format!("{kind} {name:?} cannot be read: the node has no API server");
            return Err(self.refuse(field(), problem));
        };
        match references.objects.get(&(kind, name)) {
            Some(Ok(data)) => Ok(Some(data)),
            Some(Err(Missing::NotFound)) if optional == Some(true) => Ok(None),
            Some(Err(Missing::NotFound)) => Err(self.missing(format!("{kind} {name:?} not found"))),
            Some(Err(Missing::Unreadable(problem))) => Err(self.missing(problem.clone())),
            None => Err(self.refuse(field(), format!("{kind} {name:?} was not looked up"))),
        }
    }

    fn refuse(&self, field: String, problem: String) -> ConfigError {
        FieldError::new(field, problem).of_container(self.pod, &self.container.name)
    }

    fn missing(&self, problem: String) -> ConfigError {
        let (_, pod) = pod::identity(self.pod);
        ConfigError::Reference { pod, container: self.container.name.clone(), problem }
    }

    fn field(&self, path: &str) -> Option<String> {
        let own = |text: &Option<String>| text.clone().unwrap_or_default();
        let join = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
        Some(match path {
            // As old manifests say it. Rule: upstream `ConvertDownwardAPIFieldLabel`.
            "spec.nodeName" | "spec.host" => own(&self.spec.node_name),
            "spec.serviceAccountName" => own(&self.spec.service_account_name),
            "status.hostIP" => first(&self.settings.node_ips),
            "status.hostIPs" => join(&self.settings.node_ips),
            "status.podIP" => first(self.pod_ips),
            "status.podIPs" => join(self.pod_ips),
            _ => return downward::metadata(&self.pod.metadata, path),
        })
    }

    fn resource(&self, selector: &ResourceFieldSelector) -> Result<String, String> {
        downward::resource(self.spec, Some(self.container), selector, &self.settings.allocatable)
    }
}

#[cfg(test)]
mod tests;
