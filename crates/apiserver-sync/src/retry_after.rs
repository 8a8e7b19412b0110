//! When the server wants to be asked again.

use std::error::Error;
use std::iter::successors;
use std::time::Duration;

/// Longer than this nobody is kept waiting, whatever the server says.
const LONGEST: Duration = Duration::from_secs(30);

/// How long the server wants to be left alone (`Retry-After`); zero where it says nothing.
pub(crate) fn retry_after(error: &(dyn Error + 'static)) -> Duration {
    let status = successors(Some(error), |error| (*error).source()).find_map(|error| {
        let Some(kube::Error::Api(status)) = error.downcast_ref() else { return None };
        Some(status)
    });
    let seconds = status.and_then(|status| status.details.as_ref()).map_or(0, |d| d.retry_after_seconds);
    Duration::from_secs(seconds.into()).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_server_says_when_it_wants_to_be_asked_again() {
        for (details, seconds) in
            [(json!({"retryAfterSeconds": 5}), 5), (json!({"retryAfterSeconds": 3600}), 30), (json!(null), 0)]
        {
            let status = json!({"status": "Failure", "message": "m", "reason": "TooManyRequests", "code": 429,
                "details": details});
            let error = || kube::Error::Api(serde_json::from_value(status.clone()).unwrap());
            assert_eq!(retry_after(&error()).as_secs(), seconds, "{status}");
            assert_eq!(
                retry_after(&watcher::Error::InitialListFailed(error())).as_secs(),
                seconds,
                "{status}"
            );
        }
        assert_eq!(retry_after(&kube::Error::TlsRequired), Duration::ZERO);
    }
}
