//! What is counted of calls for `/metrics`. Names, labels and buckets are the kubelet's (upstream
//! `pkg/volume/util/metrics.go`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Family, Histogram, Text};

use crate::drivers::Drivers;
use crate::error::{Code, Error, name};

/// Upper bounds for calls, in seconds.
const CALLS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

/// All calls.
#[derive(Debug)]
pub(crate) struct Counted(Family<4, Histogram>);

impl Default for Counted {
    fn default() -> Self {
        Self(Family::of(
            "csi_operations_seconds",
            "[ALPHA] Container Storage Interface operation duration with gRPC error code status total",
            ["driver_name", "grpc_status_code", "method_name", "migrated"],
            || Histogram::new(CALLS),
        ))
    }
}

/// Those of one driver.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    driver: Arc<str>,
    counted: Arc<Counted>,
}

impl Calls {
    pub(crate) fn new(driver: &str, counted: Arc<Counted>) -> Self {
        Self { driver: driver.into(), counted }
    }

    /// One has ended.
    pub(crate) fn ended<T>(&self, method: &str, answer: &Result<T, Error>, took: Duration) {
        let code = name(answer.as_ref().map_or_else(Error::code, |_| Code::Ok));
        let labels = [
            Cow::from(self.driver.to_string()),
            code.into(),
            format!("/csi.v1.Node/{method}").into(),
            "false".into(),
        ];
        self.counted.0.change(labels, |all| all.observe(took.as_secs_f64()));
    }
}

impl Drivers {
    /// Writes how long drivers took to answer.
    pub fn write_metrics(&self, out: &mut Text) {
        self.counted.0.write(out);
    }
}
