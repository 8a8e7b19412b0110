//! The kubeconfig that a node has after bootstrapping, byte for byte as the kubelet writes it (upstream
//! `pkg/kubelet/certificate/bootstrap/bootstrap.go` `writeKubeconfigFromBootstrapping`, `clientcmd.WriteToFile`).

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::store::{StoreError, replace};

/// How an API server is found and recognised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `server`, as it stood in the bootstrap kubeconfig.
    pub address: String,
    /// `certificate-authority`
    pub authority: Option<PathBuf>,
    /// `certificate-authority-data`, where there is no file.
    pub authority_data: Option<Vec<u8>>,
    /// `insecure-skip-tls-verify`
    pub insecure: bool,
}

/// The text, for a certificate and its key in one file.
pub fn text(server: &Server, pem: &Path) -> String {
    let (pem, mut out) = (scalar(&pem.display().to_string()), String::new());
    out.push_str("apiVersion: v1\nclusters:\n- cluster:\n");
    match (&server.authority, &server.authority_data) {
        (Some(file), _) => {
            let _infallible =
                writeln!(out, "    certificate-authority: {}", scalar(&file.display().to_string()));
        }
        (None, Some(data)) => {
            let _infallible =
                writeln!(out, "    certificate-authority-data: {}", BASE64_STANDARD.encode(data));
        }
        (None, None) => {}
    }
    if server.insecure {
        out.push_str("    insecure-skip-tls-verify: true\n");
    }
    let _infallible = write!(
        out,
        "    server: {}\n  name: default-cluster\ncontexts:\n- context:\n    cluster: default-cluster\n    namespace: \
         default\n    user: default-auth\n  name: default-context\ncurrent-context: default-context\nkind: \
         Config\nusers:\n- name: default-auth\n  user:\n    client-certificate: {pem}\n    client-key: {pem}\n",
        scalar(&server.address)
    );
    out
}

/// Plain where YAML lets it, which is for each sensible path and address; else quoted.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:[]%".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if begins && text.chars().all(plain) && !text.ends_with(':') {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

/// Writes it, for root alone. Blocks.
///
/// # Errors
/// When it can not be written; what stood there stays.
pub fn write(path: &Path, server: &Server, pem: &Path) -> Result<(), StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|source| StoreError::File {
            doing: "making",
            path: folder.to_owned(),
            source,
        })?;
    }
    // Where it is a link, what that names is written.
    let real = std::fs::canonicalize(path);
    replace(real.as_deref().unwrap_or(path), text(server, pem).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_what_the_kubelet_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubernetes/kubelet.conf");
        let pem = Path::new("/var/lib/kubelet/pki/kubelet-client-current.pem");
        let server = Server {
            address: "https://10.0.0.1:6443".to_owned(),
            authority_data: Some(b"-----BEGIN CERTIFICATE-----\n".to_vec()),
            ..Server::default()
        };
        write(&path, &server, pem).unwrap();
        let expected = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==
    server: https://10.0.0.1:6443
  name: default-cluster
contexts:
- context:
    cluster: default-cluster
    namespace: default
    user: default-auth
  name: default-context
current-context: default-context
kind: Config
users:
- name: default-auth
  user:
    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem
";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, &Server { address: "https://other".to_owned(), ..server.clone() }, pem).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("server: https://other\n"));
        let file = Server {
            authority: Some("/etc/kubernetes/pki/ca.crt".into()),
            authority_data: None,
            ..server.clone()
        };
        assert!(
            text(&file, pem)
                .contains("- cluster:\n    certificate-authority: /etc/kubernetes/pki/ca.crt\n    server:")
        );
        let insecure = Server { insecure: true, authority_data: None, ..server };
        assert!(text(&insecure, pem).contains("- cluster:\n    insecure-skip-tls-verify: true\n    server:"));
        assert!(text(&insecure, Path::new("/a b: c")).contains("client-key: \"/a b: c\"\n"));
    }
}
