//! How long each call may take: one pure rule per request, those of the kubelet.
//!
//! `request_timeout` is the kubelet's `runtimeRequestTimeout`.

use std::time::Duration;

use crate::v1::{self, CheckpointContainerRequest, ExecSyncRequest, PullImageRequest};
use crate::v1::{RunPodSandboxRequest, StopContainerRequest};

/// More than any call takes, and small enough for every clock and for the wire.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The time that the runtime has for a request.
pub(crate) trait Deadline {
    /// From sending to the whole answer; `None` for as long as it takes.
    fn deadline(&self, request_timeout: Duration) -> Option<Duration> {
        Some(request_timeout)
    }
}

/// Seconds of a message, where negative ones mean nothing.
fn seconds(n: i64) -> Duration {
    Duration::from_secs(n.try_into().unwrap_or(0))
}

/// `base` after `n` seconds of the message's own.
fn plus(n: i64, base: Duration) -> Option<Duration> {
    Some(seconds(n).saturating_add(base).min(LONGEST))
}

/// A sandbox takes longest to start: images, network plugins.
impl Deadline for RunPodSandboxRequest {
    fn deadline(&self, request_timeout: Duration) -> Option<Duration> {
        Some(request_timeout.saturating_mul(2).min(LONGEST))
    }
}

/// The grace period comes first.
impl Deadline for StopContainerRequest {
    fn deadline(&self, request_timeout: Duration) -> Option<Duration> {
        plus(self.timeout, request_timeout)
    }
}

/// A command without a timeout may run for ever.
impl Deadline for ExecSyncRequest {
    fn deadline(&self, request_timeout: Duration) -> Option<Duration> {
        if self.timeout > 0 { plus(self.timeout, request_timeout) } else { None }
    }
}

/// At least the request timeout.
impl Deadline for CheckpointContainerRequest {
    fn deadline(&self, request_timeout: Duration) -> Option<Duration> {
        Some(seconds(self.timeout).max(request_timeout).min(LONGEST))
    }
}

/// As slow as the registry: the caller cancels by dropping the call.
impl Deadline for PullImageRequest {
    fn deadline(&self, _: Duration) -> Option<Duration> {
        None
    }
}

macro_rules! request_timeout {
    ($($request:ident)*) => { $(impl Deadline for v1::$request {})* };
}

request_timeout! {
    VersionRequest StopPodSandboxRequest RemovePodSandboxRequest PodSandboxStatusRequest ListPodSandboxRequest
    StreamPodSandboxesRequest CreateContainerRequest StartContainerRequest RemoveContainerRequest
    ListContainersRequest StreamContainersRequest ContainerStatusRequest UpdateContainerResourcesRequest
    ReopenContainerLogRequest ExecRequest AttachRequest PortForwardRequest ContainerStatsRequest
    ListContainerStatsRequest StreamContainerStatsRequest PodSandboxStatsRequest ListPodSandboxStatsRequest
    StreamPodSandboxStatsRequest UpdateRuntimeConfigRequest StatusRequest ListMetricDescriptorsRequest
    ListPodSandboxMetricsRequest StreamPodSandboxMetricsRequest RuntimeConfigRequest
    UpdatePodSandboxResourcesRequest ListImagesRequest StreamImagesRequest ImageStatusRequest
    RemoveImageRequest ImageFsInfoRequest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::*;

    const TIMEOUT: Duration = Duration::from_secs(120);

    /// The recorded kubelet ran with the default timeout; what it sends is a little less than its rule by the
    /// time that has passed, and a "no deadline" shows as an absurd one.
    #[test]
    fn every_recorded_call_of_the_kubelet_had_the_same_deadline() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/pods");
        let mut compared = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let recording: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for call in recording["cri"].as_array().into_iter().flatten() {
                let Some(recorded) = call["deadline_s"].as_f64() else { continue };
                let seconds = |value: &serde_json::Value| {
                    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
                };
                let timeout = seconds(&call["request"]["timeout"]);
                let ours = match call["call"].as_str().unwrap() {
                    "RunPodSandbox" => RunPodSandboxRequest::default().deadline(TIMEOUT),
                    "StopPodSandbox" => StopPodSandboxRequest::default().deadline(TIMEOUT),
                    "RemovePodSandbox" => RemovePodSandboxRequest::default().deadline(TIMEOUT),
                    "CreateContainer" => CreateContainerRequest::default().deadline(TIMEOUT),
                    "StartContainer" => StartContainerRequest::default().deadline(TIMEOUT),
                    "StopContainer" => {
                        StopContainerRequest { timeout, ..Default::default() }.deadline(TIMEOUT)
                    }
                    "RemoveContainer" => RemoveContainerRequest::default().deadline(TIMEOUT),
                    "ExecSync" => ExecSyncRequest { timeout, ..Default::default() }.deadline(TIMEOUT),
                    other => panic!("{}: a recorded call without a case here: {other}", path.display()),
                };
                let ours = ours.map_or(f64::MAX, |d| d.as_secs_f64());
                let agrees = (ours - recorded).abs() < 0.5 || (recorded > 1e9 && ours > 1e9);
                assert!(agrees, "{}: recorded {recorded} s, ours {ours} s: {call}", path.display());
                compared += 1;
            }
        }
        assert!(compared > 300, "only {compared} calls found in {folder}");
    }

    #[test]
    fn pulls_have_no_deadline_and_absurd_timeouts_do_not_overflow() {
        assert_eq!(PullImageRequest::default().deadline(TIMEOUT), None);
        let stop = StopContainerRequest { timeout: i64::MAX, ..Default::default() };
        assert_eq!(stop.deadline(TIMEOUT), Some(LONGEST));
        let stop = StopContainerRequest { timeout: -5, ..Default::default() };
        assert_eq!(stop.deadline(TIMEOUT), Some(TIMEOUT));
        let checkpoint = CheckpointContainerRequest { timeout: 500, ..Default::default() };
        assert_eq!(checkpoint.deadline(TIMEOUT), Some(Duration::from_secs(500)));
    }
}
