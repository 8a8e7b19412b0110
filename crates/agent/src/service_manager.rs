//! What the service manager that started the agent is told (sd_notify(3)): that it is ready, how it is, and, where a watchdog
//! asks for it, that it lives. Rules: upstream `cmd/kubelet/app/server.go`, `pkg/kubelet/watchdog/watchdog_linux.go`.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use kube_model::Monotonic;
use kube_model::view::RuntimeView;
use sd_notify::NotifyState;
use server::metrics::HealthChecks;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::run::Environment;

/// A watchdog's time has to be longer than this.
const SHORTEST: Duration = Duration::from_secs(1);

/// Why the watchdog that the unit asks for cannot be served (`WatchdogSec`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchdogError {
    /// It is no number of microseconds.
    #[error("configure watchdog: WATCHDOG_USEC {0:?} is no number of microseconds above 0")]
    Usec(OsString),
    /// It is no process.
    #[error("configure watchdog: WATCHDOG_PID {0:?} is no process ID")]
    Pid(OsString),
    /// The agent would be killed for a moment's load.
    #[error(
        "configure watchdog timeout too small: {0:?}; it must be more than 1 s (WatchdogSec of the unit)"
    )]
    TooShort(Duration),
}

/// Who started the agent, if it wants to hear of it.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    listens: bool,
    /// After how long without a word the agent is taken for dead.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says.
    pub(crate) fn of(environment: &Environment) -> Result<Self, WatchdogError> {
        let Environment { notify_socket, watchdog_usec, watchdog_pid, .. } = environment;
        let watchdog = watchdog(watchdog_usec.as_ref(), watchdog_pid.as_ref(), std::process::id())?;
        let listens = notify_socket.is_some();
        if watchdog.is_some() && !listens {
            tracing::warn!("a watchdog is asked for, but NOTIFY_SOCKET says nobody who would listen");
        }
        Ok(Self { listens, watchdog })
    }

    /// The agent does its work: units that come after it may start. Tells how it is, and that it lives as long as its checks
    /// find it well, until the future is dropped.
    pub(crate) async fn follow(
        self,
        checks: Arc<HealthChecks>,
        mut runtime: watch::Receiver<RuntimeView<Monotonic>>,
        mut cluster: watch::Receiver<Option<String>>,
    ) {
        if !self.listens {
            return;
        }
        let mut last = status(&runtime.borrow_and_update(), cluster.borrow_and_update().as_deref());
        tell(format!("READY=1\nSTATUS={last}")).await;
        let mut alive = self.watchdog.map(|within| tokio::time::interval(within / 2));
        if let Some(alive) = &mut alive {
            alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            let due = async {
                match &mut alive {
                    Some(alive) => alive.tick().await,
                    None => std::future::pending().await,
                }
            };
            // All arms are cancel safe.
            tokio::select! {
                _ = due => {
                    match checks.check() {
                        // Told from a thread for blocking work: that there is one is part of it.
                        Ok(()) => tell("WATCHDOG=1".to_owned()).await,
                        Err(error) => tracing::error!(error, "the watchdog is not told that all is well: it is not"),
                    }
                    continue;
                }
                changed = runtime.changed() => if changed.is_err() { return },
                // Without a cluster, or with a certificate that nobody renews, it never changes.
                Ok(()) = cluster.changed() => {}
            }
            let now = status(&runtime.borrow_and_update(), cluster.borrow_and_update().as_deref());
            if now != last {
                tell(format!("STATUS={now}")).await;
                last = now;
            }
        }
    }
}

/// The agent ends on purpose.
pub(crate) async fn stopping() {
    tell("STOPPING=1\nSTATUS=stopping, pods are left running".to_owned()).await;
}

/// What the unit's status shows, on one line. `waits` is what the node's way into the cluster waits for.
fn status(runtime: &RuntimeView<Monotonic>, waits: Option<&str>) -> String {
    let runtime = match (runtime.ready, runtime.answers) {
        (true, _) => format!("running pods with {} {}", runtime.name, runtime.version),
        (false, true) => format!("the container runtime is not ready: {}", one_line(&runtime.message)),
        (false, false) => format!("the container runtime cannot be used: {}", one_line(&runtime.message)),
    };
    match waits {
        Some(waits) => format!("{runtime}; not in the cluster: {}", one_line(waits)),
        None => runtime,
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

async fn tell(state: String) {
    let told = tokio::task::spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(&state)])).await;
    match told {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("the service manager cannot be told: {}", util::causes(&error)),
        // The agent is going down.
        Err(_) => {}
    }
}

/// How long the agent may be silent; `None`: as long as it likes.
fn watchdog(
    usec: Option<&OsString>,
    pid: Option<&OsString>,
    own: u32,
) -> Result<Option<Duration>, WatchdogError> {
    let Some(usec) = usec else { return Ok(None) };
    if let Some(pid) = pid {
        let parsed: Option<u32> = pid.to_str().and_then(|pid| pid.parse().ok());
        match parsed {
            Some(pid) if pid == own => {}
            // It is for another process, whose environment this one has inherited.
            Some(_) => return Ok(None),
            None => return Err(WatchdogError::Pid(pid.clone())),
        }
    }
    let parsed = usec.to_str().and_then(|usec| usec.parse().ok()).filter(|usec| *usec > 0);
    let within = Duration::from_micros(parsed.ok_or_else(|| WatchdogError::Usec(usec.clone()))?);
    if within <= SHORTEST { Err(WatchdogError::TooShort(within)) } else { Ok(Some(within)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_as_the_environment_says() {
        let asked = |usec: Option<&str>, pid: Option<&str>| {
            watchdog(usec.map(OsString::from).as_ref(), pid.map(OsString::from).as_ref(), 7)
        };
        for (usec, pid, expected) in [
            (None, None, Ok(None)),
            (None, Some("7"), Ok(None)),
            (Some("30000000"), None, Ok(Some(Duration::from_secs(30)))),
            (Some("30000000"), Some("7"), Ok(Some(Duration::from_secs(30)))),
            (Some("30000000"), Some("8"), Ok(None)),
            (Some("1000001"), None, Ok(Some(Duration::from_micros(1_000_001)))),
            (Some("1000000"), None, Err(WatchdogError::TooShort(SHORTEST))),
            (Some("0"), None, Err(WatchdogError::Usec("0".into()))),
            (Some("-1"), None, Err(WatchdogError::Usec("-1".into()))),
            (Some("soon"), None, Err(WatchdogError::Usec("soon".into()))),
            (Some("30000000"), Some("me"), Err(WatchdogError::Pid("me".into()))),
        ] {
            assert_eq!(asked(usec, pid), expected, "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn the_status_is_one_line_that_says_what_is_missing() {
        let view = |ready, answers, message: &str| RuntimeView {
            endpoint: "unix:///e".to_owned(),
            name: "containerd".to_owned(),
            version: "2.1".to_owned(),
            ready,
            answers,
            message: message.to_owned(),
            since: Monotonic::default(),
        };
        for (view, expected) in [
            (view(true, true, ""), "running pods with containerd 2.1"),
            (view(false, true, "no\nCNI"), "the container runtime is not ready: no CNI"),
            (view(false, false, "refused"), "the container runtime cannot be used: refused"),
        ] {
            assert_eq!(status(&view, None), expected);
        }
        let told = status(&view(true, true, ""), Some("no client certificate yet:\nit waits"));
        let expected =
            "running pods with containerd 2.1; not in the cluster: no client certificate yet: it waits";
        assert_eq!(told, expected);
    }
}
