//! Where pods come from, apart from files: the manifest URL, and the pod API that the agent serves itself.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::{Check, is_clean_absolute, non_empty};
use crate::config::KubeletConfiguration;
use crate::secret::{MASK, masked_url};
use crate::table::KubeletFlags;

/// A URL of manifests. Its `Debug` form hides what may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ManifestUrl {
    /// `http://` or `https://`; may have a user and password.
    pub url: String,
    /// Headers of each request, names and values; a name may stand several times. Values are secret.
    pub headers: Vec<(String, String)>,
    /// The authorities that the server's certificate is checked against; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether redirects may lead to other servers.
    pub any_redirects: bool,
}

impl fmt::Debug for ManifestUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, headers, ca_file, any_redirects } = self;
        let headers: Vec<_> = headers.iter().map(|(name, _)| (name, MASK)).collect();
        f.debug_struct("ManifestUrl")
            .field("url", &masked_url(url))
            .field("headers", &headers)
            .field("ca_file", ca_file)
            .field("any_redirects", any_redirects)
            .finish()
    }
}

/// How the pod API is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestServer {
    /// Where.
    pub address: ManifestAddress,
    /// Certificate and key; `None`: plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The authorities whose client certificates are let in.
    pub client_ca_file: Option<PathBuf>,
    /// The bearer tokens that are let in.
    pub token_file: Option<PathBuf>,
    /// Whether every user of the machine is let in.
    pub anonymous: bool,
}

/// Where the pod API is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A unix socket; absolute.
    Unix(PathBuf),
}

impl ManifestAddress {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return (is_clean_absolute(path) && !path.ends_with('/')).then(|| Self::Unix(path.into()));
        }
        let address = match text.rsplit_once(':')? {
            ("localhost", port) => (Ipv4Addr::LOCALHOST, port.parse().ok()?).into(),
            // As Go reads it.
            ("", port) => (Ipv6Addr::UNSPECIFIED, port.parse().ok()?).into(),
            _ => text.parse().ok()?,
        };
        Some(Self::Tcp(address))
    }

    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl Check<'_> {
    pub(super) fn manifest_url(
        &mut self,
        config: &KubeletConfiguration,
        flags: &KubeletFlags,
    ) -> Option<ManifestUrl> {
        const REDIRECTS: &str = "--manifest-url-redirects";
        const SAME_HOST: &str = "same-host";
        let (url, ca_file) = (&config.static_pod_url, &flags.manifest_url_ca_file);
        let redirects = &flags.manifest_url_redirects;
        if ![SAME_HOST, "any"].contains(&redirects.as_str()) {
            self.fail(REDIRECTS, redirects, "must be same-host or any");
        }
        if url.is_empty() {
            let needed = "needs --manifest-url or staticPodURL";
            if !ca_file.is_empty() {
                self.fail("--manifest-url-ca-file", ca_file, needed);
            }
            if redirects == "any" {
                self.fail(REDIRECTS, redirects, needed);
            }
            return None;
        }
        let headers = config.static_pod_url_header.iter();
        let headers = headers.flat_map(|(name, values)| values.iter().map(|v| (name.clone(), v.clone())));
        Some(ManifestUrl {
            url: url.clone(),
            headers: headers.collect(),
            ca_file: non_empty(ca_file),
            any_redirects: redirects != SAME_HOST,
        })
    }

    /// What strangers could reach without a secret is refused.
    pub(super) fn manifest_server(&mut self, flags: &KubeletFlags) -> Option<ManifestServer> {
        const ADDRESS: &str = "--manifest-server-address";
        const ANONYMOUS: &str = "--manifest-server-anonymous";
        const CERT: &str = "--manifest-server-tls-cert-file";
        const KEY: &str = "--manifest-server-tls-private-key-file";
        const CLIENT_CA: &str = "--manifest-server-client-ca-file";
        const TOKENS: &str = "--manifest-server-token-file";
        let (text, anonymous) = (&flags.manifest_server_address, flags.manifest_server_anonymous);
        let files = [
            (CERT, &flags.manifest_server_tls_cert_file),
            (KEY, &flags.manifest_server_tls_private_key_file),
            (CLIENT_CA, &flags.manifest_server_client_ca_file),
            (TOKENS, &flags.manifest_server_token_file),
        ];
        if text.is_empty() {
            for (flag, file) in files.into_iter().filter(|(_, file)| !file.is_empty()) {
                self.fail(flag, file, &format!("needs {ADDRESS}"));
            }
            if anonymous {
                self.fail(ANONYMOUS, &"true", &format!("needs {ADDRESS}"));
            }
            return None;
        }
        let [cert, key, client_ca_file, token_file] = files.map(|(_, file)| non_empty(file));
        let Some(address) = ManifestAddress::parse(text) else {
            self.fail(ADDRESS, text, "must be IP:PORT, localhost:PORT or unix:/PATH");
            return None;
        };
        let tls = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(cert), None) => {
                self.fail(CERT, &cert, &format!("needs {KEY}"));
                return None;
            }
            (None, Some(key)) => {
                self.fail(KEY, &key, &format!("needs {CERT}"));
                return None;
            }
        };
        let is_unix = matches!(address, ManifestAddress::Unix(_));
        if is_unix && (tls.is_some() || client_ca_file.is_some()) {
            let rule = format!("is a unix socket, which has no TLS: leave out {CERT}, {KEY} and {CLIENT_CA}");
            self.fail(ADDRESS, text, &rule);
        } else if let (Some(ca), None) = (&client_ca_file, &tls) {
            self.fail(CLIENT_CA, ca, &format!("needs {CERT} and {KEY}"));
        } else if !is_unix {
            let asks = client_ca_file.is_some() || token_file.is_some();
            if !address.is_local() && (tls.is_none() || !asks) {
                let rule = format!(
                    "can be reached from other machines, so it needs {CERT}, {KEY}, and {TOKENS} or {CLIENT_CA}; \
                     without them use unix:/PATH"
                );
                self.fail(ADDRESS, text, &rule);
            } else if !asks && !anonymous {
                let rule = format!(
                    "can be reached by every user of this machine, so it needs {TOKENS} or {CLIENT_CA}, or \
                     {ANONYMOUS} to let them all in; better use unix:/PATH, which is root's alone"
                );
                self.fail(ADDRESS, text, &rule);
            }
        }
        Some(ManifestServer { address, tls, client_ca_file, token_file, anonymous })
    }
}

#[cfg(test)]
mod tests {
    use crate::load::CommandLine;
    use crate::parse::parse;
    use crate::settings::{ManifestAddress, Settings};
    use crate::table::AGENT;
    use crate::testing::{Folder, load};
    use crate::validate::Facts;

    fn settings(line: &[&str]) -> Result<Settings, String> {
        let effective = load(&Folder::default(), line).unwrap();
        Settings::new(&effective, &Facts::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_manifest_url_arrives_with_its_headers_and_shows_nothing_secret() {
        let line = [
            "--manifest-url=https://user:hunter2@pods.example/node?key=hunter2",
            "--manifest-url-header=Authorization:Bearer hunter2,X-A:1",
            "--manifest-url-header=X-A:2",
            "--manifest-url-ca-file=/etc/ca.pem",
            "--http-check-frequency=5s",
        ];
        let settings = settings(&line).unwrap();
        assert_eq!(settings.http_check_frequency.as_secs(), 5);
        let url = settings.manifest_url.clone().unwrap();
        assert_eq!(url.url, "https://user:hunter2@pods.example/node?key=hunter2");
        let headers: Vec<_> = url.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(headers, [("Authorization", "Bearer hunter2"), ("X-A", "1"), ("X-A", "2")]);
        assert_eq!((&url.ca_file, url.any_redirects), (&Some("/etc/ca.pem".into()), false));
        let any = self::settings(&[line[0], "--manifest-url-redirects=any"]).unwrap();
        assert!(any.manifest_url.unwrap().any_redirects);
        assert!(settings.warnings.iter().all(|w| w.contains("is deprecated")), "{:?}", settings.warnings);

        let effective = load(&Folder::default(), &line).unwrap();
        for shown in [format!("{settings:?}"), crate::render(&effective)] {
            assert!(shown.contains("<masked>@pods.example") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn errors_about_the_manifest_url_show_nothing_secret() {
        for (line, error) in [
            (
                &["--manifest-url=ftp://u:hunter2@x"][..],
                "staticPodURL \"ftp://<masked>@x\" must begin with http",
            ),
            (&["--manifest-url=u:hunter2@x"], "staticPodURL \"<masked>@x\" must begin with http"),
            (&["--manifest-url=http:///pods"], "staticPodURL \"http:///pods\" must name a server"),
            (
                &["--manifest-url=http://x", "--manifest-url-header=A B:hunter2"],
                "staticPodURLHeader.A B \"<masked>\" must have the name of an HTTP header",
            ),
            (
                &["--manifest-url=http://x", "--manifest-url-header=A:hunter2\r\nB: hunter2"],
                "staticPodURLHeader.A \"<masked>\" must not have control characters",
            ),
            (
                &["--manifest-url=http://x", "--manifest-url-redirects=all"],
                "--manifest-url-redirects \"all\" must be same-host or any",
            ),
            (&["--manifest-url-redirects=any"], "--manifest-url-redirects \"any\" needs --manifest-url"),
            (&["--manifest-url-ca-file=/ca"], "--manifest-url-ca-file \"/ca\" needs --manifest-url"),
        ] {
            let got = settings(line).unwrap_err();
            assert!(got.contains(error) && !got.contains("hunter2"), "{line:?}: {got}");
        }
        let malformed = parse(AGENT, ["--manifest-url-header=hunter2".to_owned()]);
        let got = malformed.err().unwrap().to_string();
        assert!(got.contains("<masked>") && !got.contains("hunter2"), "{got}");

        // The form that comes to mind first, and is wrong.
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let text = format!("{head}staticPodURLHeader: {{Authorization: Bearer hunter2}}\n");
        let folder = Folder::new([("/c", text.as_str())]);
        let line = CommandLine(parse(AGENT, ["--config=/c".to_owned()]).unwrap());
        let got = line.load(&folder).err().unwrap().to_string();
        assert!(got.contains("staticPodURLHeader") && got.contains("expected a list of texts"), "{got}");
        assert!(!got.contains("hunter2"), "{got}");
    }

    #[test]
    fn the_pod_api_is_served_where_only_those_who_may_can_reach_it() {
        let [cert, key] = ["--manifest-server-tls-cert-file=/c", "--manifest-server-tls-private-key-file=/k"];
        let anonymous = "--manifest-server-anonymous";
        let [ca, tokens] = ["--manifest-server-client-ca-file=/ca", "--manifest-server-token-file=/t"];
        for (address, files, error) in [
            ("unix:/run/pods.sock", &[][..], ""),
            ("unix:///run/pods.sock", &[tokens], ""),
            ("127.0.0.1:8080", &[tokens], ""),
            ("127.0.0.1:8080", &[anonymous], ""),
            ("127.0.0.1:8080", &[], "can be reached by every user of this machine"),
            ("127.0.0.1:8080", &[cert, key], "can be reached by every user of this machine"),
            ("localhost:0", &[], "can be reached by every user of this machine"),
            ("[::1]:8080", &[cert, key, ca], ""),
            ("[::ffff:127.0.0.1]:80", &[anonymous], ""),
            (":8080", &[anonymous], "can be reached from other machines"),
            ("", &[anonymous], "--manifest-server-anonymous \"true\" needs --manifest-server-address"),
            ("0.0.0.0:8080", &[cert, key, tokens], ""),
            (":8080", &[cert, key, ca], ""),
            (":8080", &[], "can be reached from other machines"),
            ("192.0.2.1:8080", &[tokens], "can be reached from other machines"),
            ("192.0.2.1:8080", &[cert, key], "can be reached from other machines"),
            ("127.0.0.1:8080", &[ca], "--manifest-server-client-ca-file \"/ca\" needs --manifest-server-tls"),
            (
                "127.0.0.1:8080",
                &[cert],
                "--manifest-server-tls-cert-file \"/c\" needs --manifest-server-tls-private",
            ),
            (
                "127.0.0.1:8080",
                &[key],
                "--manifest-server-tls-private-key-file \"/k\" needs --manifest-server-tls-cert",
            ),
            ("unix:/run/pods.sock", &[cert, key], "is a unix socket, which has no TLS"),
            ("unix:run/pods.sock", &[], "must be IP:PORT, localhost:PORT or unix:/PATH"),
            ("example.com:80", &[], "must be IP:PORT"),
            ("127.0.0.1", &[], "must be IP:PORT"),
            ("", &[tokens], "--manifest-server-token-file \"/t\" needs --manifest-server-address"),
        ] {
            let address = format!("--manifest-server-address={address}");
            let line: Vec<_> = files.iter().copied().chain([address.as_str()]).collect();
            match settings(&line) {
                Ok(settings) => assert!(settings.manifest_server.is_some() && error.is_empty(), "{line:?}"),
                Err(got) => assert!(!error.is_empty() && got.contains(error), "{line:?}: {got}"),
            }
        }
        let server = settings(&["--manifest-server-address=unix:///run/pods.sock"]).unwrap().manifest_server;
        assert_eq!(server.unwrap().address, ManifestAddress::Unix("/run/pods.sock".into()));
    }
}
