//! The files of `docker login`, as text.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Credential;

/// Why credentials cannot be read. Holds nothing of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// The decoder's own words may hold a password.
    #[error("it is not the JSON that it should be (line {line}, column {column})")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// An entry's `auth`.
    #[error("auth of {0:?} must be base64 of username:password")]
    Auth(String),
    /// The `type` of a Secret that is for something else.
    #[error("its type is {0:?}, not kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg")]
    Kind(String),
    /// What a Secret of this type must have.
    #[error("it has no {0}")]
    Key(&'static str),
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: Option<Entries>,
}

type Entries = BTreeMap<String, Entry>;

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    auth: Option<String>,
}

pub(super) fn parse_config_json(text: &[u8]) -> Result<BTreeMap<String, Credential>, InvalidConfig> {
    credentials(json::<ConfigJson>(text)?.auths.unwrap_or_default())
}

pub(super) fn parse_dockercfg(text: &[u8]) -> Result<BTreeMap<String, Credential>, InvalidConfig> {
    credentials(json(text)?)
}

fn json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, InvalidConfig> {
    serde_json::from_slice(text).map_err(|e| InvalidConfig::Json { line: e.line(), column: e.column() })
}

fn credentials(entries: Entries) -> Result<BTreeMap<String, Credential>, InvalidConfig> {
    let credential = |(registry, entry): (String, Entry)| {
        let credential = match entry.auth.filter(|auth| !auth.is_empty()) {
            Some(auth) => decode(&auth).ok_or_else(|| InvalidConfig::Auth(registry.clone()))?,
            None => Credential {
                username: entry.username.unwrap_or_default(),
                password: entry.password.unwrap_or_default(),
            },
        };
        Ok((registry, credential))
    };
    entries.into_iter().map(credential).collect()
}

fn decode(auth: &str) -> Option<Credential> {
    // Padded or not, and perhaps broken into lines.
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let auth = auth.replace(['\r', '\n'], "");
    let text = GeneralPurpose::new(&STANDARD, CONFIG).decode(auth).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credential { username: username.to_owned(), password: password.to_owned() })
}
