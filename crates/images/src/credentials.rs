//! Which credentials may open the registry of an image. Rule: upstream `pkg/credentialprovider`.

mod config;
mod files;
mod location;

use std::collections::BTreeMap;
use std::fmt;

pub use config::InvalidConfig;
pub use files::{DockerConfigPaths, FileError};

use crate::name;
use location::Location;

/// Who we are to a registry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credential {
    /// May be empty, as may the password: some tools note a registry without either.
    pub username: String,
    /// Secret.
    pub password: String,
}

/// Without the password.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Credentials by the registry that they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(BTreeMap<Location, Vec<Credential>>);

impl Keyring {
    /// Of a `config.json` as `docker login` writes it.
    ///
    /// # Errors
    /// When it is no such file, or one of its entries cannot be decoded; never with a word of what is secret.
    pub fn from_config_json(text: &[u8]) -> Result<Self, InvalidConfig> {
        config::parse_config_json(text).map(Self::new)
    }

    /// Of the older `.dockercfg`: the entries alone.
    ///
    /// # Errors
    /// As [`Self::from_config_json`].
    pub fn from_dockercfg(text: &[u8]) -> Result<Self, InvalidConfig> {
        config::parse_dockercfg(text).map(Self::new)
    }

    /// Of a Secret: its `type` and its decoded `data`.
    ///
    /// # Errors
    /// As [`Self::from_config_json`], or that it is no pull secret.
    pub fn from_secret(kind: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, InvalidConfig> {
        type Read = fn(&[u8]) -> Result<Keyring, InvalidConfig>;
        let (key, read): (_, Read) = match kind {
            "kubernetes.io/dockerconfigjson" => (".dockerconfigjson", Self::from_config_json),
            "kubernetes.io/dockercfg" => (".dockercfg", Self::from_dockercfg),
            _ => return Err(InvalidConfig::Kind(kind.to_owned())),
        };
        let text = data.get(key).filter(|text| !text.is_empty());
        read(text.ok_or(InvalidConfig::Key(key))?)
    }

    fn new(entries: BTreeMap<String, Credential>) -> Self {
        let mut all = Self::default();
        for (location, credential) in entries {
            // What is no location is never looked up.
            if let Some(location) = Location::parse(&location) {
                all.0.entry(location).or_default().push(credential);
            }
        }
        all
    }

    /// Adds what another has, for each registry behind what is there.
    pub fn append(&mut self, other: Self) {
        for (location, credentials) in other.0 {
            self.0.entry(location).or_default().extend(credentials);
        }
    }

    /// What may open the registry of `image`, the most specific first. Docker Hub goes by several names.
    pub fn lookup(&self, image: &str) -> Vec<Credential> {
        let repository = name::repository(image);
        let matching = || {
            let target = Location::parse(&repository)?;
            let found = self.0.iter().rev().filter(|(location, _)| location.matches(&target));
            let found: Vec<_> = found.flat_map(|(_, credentials)| credentials).cloned().collect();
            (!found.is_empty()).then_some(found)
        };
        let hub = || {
            let on_hub = repository.starts_with(name::DOCKER_HUB_PREFIX);
            self.0.get(&Location::docker_hub()).filter(|_| on_hub).cloned()
        };
        matching().or_else(hub).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
