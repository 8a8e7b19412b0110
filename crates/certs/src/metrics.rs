//! What is counted of certificates, by upstream's names (`pkg/kubelet/certificate/kubelet.go`, `cmd/kubelet/app/server.go`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::metrics::{Histogram, Kind, Text};
use kube_model::Timestamp;

use crate::template::Signer;

/// Upper bounds of how old a certificate was when it was replaced: a minute to four years.
const AGES: &[f64] = &[
    60.0,
    3600.0,
    14_400.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
    124_416_000.0,
];

/// The counters of one certificate.
#[derive(Debug)]
pub struct Metrics {
    signer: Signer,
    failures: AtomicU64,
    not_after: Mutex<Option<Timestamp>>,
    ages: Mutex<Histogram>,
}

impl Metrics {
    /// Nothing is counted yet.
    pub fn new(signer: Signer) -> Self {
        let ages = Mutex::new(Histogram::new(AGES));
        Self { signer, failures: AtomicU64::new(0), not_after: Mutex::default(), ages }
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn replaced(&self, age: Duration) {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner).observe(age.as_secs_f64());
    }

    pub(crate) fn held(&self, not_after: Option<Timestamp>) {
        *self.not_after.lock().unwrap_or_else(PoisonError::into_inner) = not_after;
    }

    /// Writes them, as of `now`.
    pub fn write(&self, out: &mut Text, now: Timestamp) {
        let (failures, ttl, of) = match self.signer {
            Signer::Client => (
                "kubelet_certificate_manager_client_expiration_renew_errors",
                "kubelet_certificate_manager_client_ttl_seconds",
                "client",
            ),
            Signer::Serving => (
                "kubelet_server_expiration_renew_errors",
                "kubelet_certificate_manager_server_ttl_seconds",
                "serving",
            ),
        };
        out.metric(failures, Kind::Counter, "[ALPHA] Counter of certificate renewal errors");
        out.sample(failures, &[], self.failures.load(Ordering::Relaxed));
        if self.signer == Signer::Serving {
            let name = "kubelet_certificate_manager_server_rotation_seconds";
            let help = "[ALPHA] Histogram of the number of seconds the previous certificate lived before being rotated";
            out.metric(name, Kind::Histogram, help);
            out.histogram(name, &[], &self.ages.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let help = format!(
            "[ALPHA] Gauge of the TTL (time-to-live) of the Kubelet's {of} certificate. The value is in seconds until \
             certificate expiry (negative if already expired). If {of} certificate is invalid or unused, the value will \
             be +INF"
        );
        out.metric(ttl, Kind::Gauge, &help);
        match *self.not_after.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(not_after) => out.sample(ttl, &[], not_after.duration_since(now).as_secs()),
            None => out.sample(ttl, &[], "+Inf"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_the_kubelets() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let serving = Metrics::new(Signer::Serving);
        let page = |metrics: &Metrics| {
            let mut out = Text::default();
            metrics.write(&mut out, at(100));
            out.finish()
        };
        assert!(page(&serving).contains("kubelet_certificate_manager_server_ttl_seconds +Inf\n"));
        serving.failed();
        serving.held(Some(at(70)));
        serving.replaced(Duration::from_secs(59));
        let text = page(&serving);
        for line in [
            "kubelet_server_expiration_renew_errors 1\n",
            "kubelet_certificate_manager_server_ttl_seconds -30\n",
            "kubelet_certificate_manager_server_rotation_seconds_bucket{le=\"60\"} 1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let client = page(&Metrics::new(Signer::Client));
        assert!(
            client.contains("kubelet_certificate_manager_client_expiration_renew_errors 0\n"),
            "{client}"
        );
        assert!(!client.contains("rotation"), "{client}");
    }
}
