//! Where the agent serves, and with which certificate.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testkit::env::{Run, binary, output};

use crate::fake::FakeNode;
use crate::node::eventually;
use crate::process::NOBODY;

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures/tls", name].iter().collect()
}

/// The code of the answer.
fn curl(url: &str) -> Result<String, String> {
    let mut curl = Command::new("curl");
    output(curl.args([
        "-sSk",
        "--max-time",
        "30",
        "--write-out",
        "%{http_code}",
        "--output",
        "/dev/null",
        url,
    ]))
    .map_err(|error| error.to_string())
}

#[test]
fn the_default_address_is_of_both_families_and_certificates_are_taken_as_go_takes_them() {
    let run = Run::new().unwrap();
    let kubeconfig = run.dir().join("kubeconfig");
    fs::write(&kubeconfig, NOBODY).unwrap();
    let pair = run.dir().join("pair.pem");
    // The key first, with the parameters of its curve, text, and the line ends of another system.
    let text =
        ["p256-sec1-with-parameters.key", "p256.crt"].map(|name| fs::read_to_string(fixture(name)).unwrap());
    fs::write(&pair, format!("made by hand\n{}", text.concat()).replace('\n', "\r\n")).unwrap();
    let (port, read_only) = (run.free_port().unwrap(), run.free_port().unwrap());
    let args = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--port={port}"),
        format!("--read-only-port={read_only}"),
        format!("--tls-cert-file={}", pair.display()),
        format!("--tls-private-key-file={}", pair.display()),
        "-v=1".to_owned(),
    ];
    let node = FakeNode::of(&run, &binary().unwrap(), &args.each_ref().map(String::as_str));
    for host in ["127.0.0.1", "[::1]"] {
        assert_eq!(curl(&format!("https://{host}:{port}/healthz")), Ok("200".to_owned()), "{host}");
        assert_eq!(curl(&format!("http://{host}:{read_only}/pods")), Ok("200".to_owned()), "{host}");
    }
    let logged = |text: &str| {
        eventually(text, || {
            // Files are looked at when somebody comes.
            curl(&format!("https://127.0.0.1:{port}/healthz"))?;
            let log = fs::read_to_string(node.agent.log()).unwrap();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    };
    fs::copy(fixture("rsa.crt"), &pair).unwrap();
    logged("tls: found a certificate rather than a key in the PEM for the private key");
    fs::write(
        &pair,
        ["rsa.crt", "rsa-pkcs1.key"].map(|name| fs::read_to_string(fixture(name)).unwrap()).concat(),
    )
    .unwrap();
    logged("Took over changed TLS files");
}
