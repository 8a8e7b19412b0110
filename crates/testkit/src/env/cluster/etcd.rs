//! etcd of one member, on private folders.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::Request;
use crate::env::daemon::Daemon;
use crate::env::{Error, Run, Tools};

/// How long etcd may take until it serves.
const START: Duration = Duration::from_secs(60);

/// A running etcd.
#[derive(Debug)]
pub(super) struct Etcd {
    address: SocketAddr,
    daemon: Daemon,
}

impl Etcd {
    /// Starts it in this folder and waits until it serves.
    pub(super) fn start(run: &Arc<Run>, name: String, tools: &Tools, dir: &Path) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, run.free_port()?));
        let url = format!("http://{address}");
        let args = vec![
            format!("--data-dir={}", dir.join("data").display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            // It has no peers, and takes any port for them.
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            // What a power cut would lose is of no interest.
            "--unsafe-no-fsync".to_owned(),
            // As kube-apiserver expects it: no history but what compaction leaves.
            "--auto-compaction-retention=0".to_owned(),
        ];
        let daemon = Daemon::start(run, name, tools.etcd(), args, dir.join("log"))?;
        let mut etcd = Self { address, daemon };
        etcd.daemon.wait_until(&format!("etcd serves on {address}"), START, || {
            let request = Request { method: "GET", path: "/health", token: None, body: None };
            match request.plain(address) {
                Ok((200, body)) if body.contains("true") => Ok(()),
                Ok((code, body)) => Err(format!("/health says {code} {body}")),
                Err(error) => Err(error.to_string()),
            }
        })?;
        Ok(etcd)
    }

    /// Where it serves, as `--etcd-servers` takes it.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Forgets all revisions but the newest.
    pub(super) fn compact(&self) -> Result<(), Error> {
        let found = self.call("/v3/kv/range", &json!({"key": "AA==", "limit": 1}))?;
        let revision = &found["header"]["revision"];
        self.call("/v3/kv/compaction", &json!({"revision": revision, "physical": true})).map(drop)
    }

    /// One call of the JSON form of its gRPC interface.
    fn call(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let body = body.to_string();
        let request = Request { method: "POST", path, token: None, body: Some(("application/json", &body)) };
        let answer = request.plain(self.address);
        match answer.as_ref().map(|(code, text)| (code, serde_json::from_str(text))) {
            Ok((200, Ok(value))) => Ok(value),
            _ => Err(self.daemon.failed(format!("etcd's answer to {path} {body} is {answer:?}"))),
        }
    }
}
