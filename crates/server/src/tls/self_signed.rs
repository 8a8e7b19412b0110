//! A serving certificate of our own, for a server that was given none (upstream `cmd/kubelet/app/server.go`
//! `InitializeTLS`).

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kube_model::Timestamp;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::TlsError;

/// How long it is valid, as the kubelet's.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Clocks of clients may be late.
const BACKDATED: Duration = Duration::from_secs(3600);

/// The files of the pair in `folder`, made if there are none.
pub(super) fn pair(folder: &Path, host_name: &str, now: Timestamp) -> Result<(PathBuf, PathBuf), TlsError> {
    let certificate = folder.join("kubelet.crt");
    let key = folder.join("kubelet.key");
    match (File::open(&certificate), File::open(&key)) {
        (Ok(_), Ok(_)) => {}
        (Ok(_), Err(source)) => return Err(TlsError::HalfAPair { path: key, source }),
        (Err(source), Ok(_)) => return Err(TlsError::HalfAPair { path: certificate, source }),
        (Err(_), Err(_)) => {
            let (made, made_key) = make(host_name, now)
                .map_err(|source| TlsError::Make { host_name: host_name.to_owned(), source })?;
            // Nobody else may replace the pair, whatever the umask.
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(|source| TlsError::Write { path: folder.to_owned(), source })?;
            write(&key, made_key.as_bytes(), 0o600)?;
            if let Err(error) = write(&certificate, made.as_bytes(), 0o644) {
                // Half a pair would stop the next start.
                let _best_effort = fs::remove_file(&key);
                return Err(error);
            }
        }
    }
    Ok((certificate, key))
}

fn make(host_name: &str, now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec![host_name.to_owned()])?;
    let now = SystemTime::from(now);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + VALIDITY).into();
    params.distinguished_name.push(DnType::CommonName, host_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Whole or not at all, and never readable for more than `mode` says.
fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), TlsError> {
    let temporary = path.with_extension("tmp");
    let written = (|| -> io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| TlsError::Write { path: path.to_owned(), source })
}
