//! Exec probes: a command in the container; exit code 0 is a success.
//!
//! The command itself runs behind [`Exec`], because it goes through the container runtime.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use kube_model::core::{Container, ExecAction};
use kube_model::expansion::{Budget, TooLong, expand};

use crate::OUTPUT_CAP;
use crate::attempt::{HandlerError, Verdict};

/// Runs commands in containers.
pub trait Exec: Send + Sync + 'static {
    /// Runs `command` (no shell) and waits for its end. Must itself end soon after `timeout`, also when the runtime
    /// hangs; dropping the future gives the command up.
    fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> impl Future<Output = Result<ExecOutput, ExecError>> + Send;
}

/// A command that ran to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub exit_code: i32,
    /// Standard output and standard error; what is beyond 10 KiB is not used.
    pub output: Vec<u8>,
}

/// A command that did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// It was still running at the timeout: the probe fails.
    #[error("the command timed out")]
    Timeout,
    /// It could not be run, in the runtime's words: neither success nor failure.
    #[error("{0}")]
    Other(String),
}

/// Runs an exec probe once.
pub(crate) async fn probe<E: Exec>(
    exec: &E,
    action: &ExecAction,
    container: &Container,
    container_id: &str,
    timeout: Duration,
) -> Result<Verdict, HandlerError> {
    let command = command(action, container)
        .map_err(|error| HandlerError::Exec(format!("exec.command of the probe: {error}")))?;
    let shown = command.join(" ");
    match exec.exec(container_id, command, timeout).await {
        Ok(ended) if ended.exit_code == 0 => Ok(Verdict::Success),
        Ok(mut ended) => {
            ended.output.truncate(OUTPUT_CAP);
            Ok(Verdict::Failure(String::from_utf8_lossy(&ended.output).into_owned()))
        }
        Err(ExecError::Timeout) => Ok(Verdict::Failure(format!("command {shown:?} timed out"))),
        Err(ExecError::Other(message)) => Err(HandlerError::Exec(message)),
    }
}

/// The command with `$(NAME)` replaced from the container's `env`, whose `valueFrom` entries are unknown here and
/// count as empty; a name that is not in `env` stays as it is, `$$` is one dollar sign
/// (upstream `ExpandContainerCommandOnlyStatic`).
fn command(action: &ExecAction, container: &Container) -> Result<Vec<String>, TooLong> {
    let words = || action.command.iter().flatten();
    // Most commands refer to nothing.
    let env = container.env.iter().flatten().filter(|_| words().any(|word| word.contains('$')));
    let values: BTreeMap<_, _> =
        env.map(|e| (e.name.as_str(), e.value.as_deref().unwrap_or_default())).collect();
    let mut budget = Budget::default();
    words()
        .map(|word| expand(word, &mut budget, |name| values.get(name).copied().map(Cow::Borrowed)))
        .collect()
}

#[cfg(test)]
mod tests {
    use kube_model::core::EnvVar;

    use super::*;

    struct Answer(Result<ExecOutput, ExecError>);

    impl Exec for Answer {
        async fn exec(&self, id: &str, command: Vec<String>, _: Duration) -> Result<ExecOutput, ExecError> {
            assert_eq!((id, command.join(" ").as_str()), ("c1", "cat /tmp/ok"));
            self.0.clone()
        }
    }

    async fn run(answer: Result<ExecOutput, ExecError>) -> Result<Verdict, HandlerError> {
        let action = ExecAction { command: Some(vec!["cat".into(), "/tmp/ok".into()]) };
        probe(&Answer(answer), &action, &Container::default(), "c1", Duration::from_secs(1)).await
    }

    #[tokio::test]
    async fn exit_codes_decide_and_only_a_command_that_cannot_run_is_an_error() {
        let ended = |exit_code, output: &[u8]| Ok(ExecOutput { exit_code, output: output.to_vec() });
        assert_eq!(run(ended(0, b"noise")).await, Ok(Verdict::Success));
        assert_eq!(run(ended(1, b"no file")).await, Ok(Verdict::Failure("no file".into())));
        assert_eq!(run(ended(-1, b"\xff")).await, Ok(Verdict::Failure("\u{fffd}".into())));
        let late = Verdict::Failure("command \"cat /tmp/ok\" timed out".into());
        assert_eq!(run(Err(ExecError::Timeout)).await, Ok(late));
        let broken = ExecError::Other("container is gone".into());
        assert_eq!(run(Err(broken)).await, Err(HandlerError::Exec("container is gone".into())));
    }

    #[tokio::test]
    async fn output_is_capped() {
        let huge = ExecOutput { exit_code: 1, output: vec![b'x'; 3 * OUTPUT_CAP] };
        let Ok(Verdict::Failure(text)) = run(Ok(huge)).await else { panic!("exit code 1 did not fail") };
        assert_eq!(text.len(), OUTPUT_CAP);
    }

    #[test]
    fn commands_expand_from_static_env_only() {
        let env = |name: &str, value: Option<&str>| EnvVar {
            name: name.into(),
            value: value.map(Into::into),
            ..Default::default()
        };
        let container = Container {
            env: Some(vec![env("A", Some("old")), env("A", Some("x y")), env("FROM", None)]),
            ..Default::default()
        };
        let cases = [
            ("$(A)", "x y"),
            ("<$(FROM)>", "<>"),
            ("$(NOPE)", "$(NOPE)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("é$(A)é", "éx yé"),
            ("", ""),
        ];
        for (given, expected) in cases {
            let action = ExecAction { command: Some(vec![given.into()]) };
            assert_eq!(command(&action, &container), Ok(vec![expected.into()]), "{given}");
        }
        let long = "y".repeat(kube_model::expansion::MAX_BYTES / 2);
        let container = Container { env: Some(vec![env("A", Some(&long))]), ..Default::default() };
        let command = |text: &str| command(&ExecAction { command: Some(vec![text.into()]) }, &container);
        assert_eq!(command("$(A)").map(|words| words[0].len()), Ok(long.len()));
        assert_eq!(command("$(A)$(A)$(A)"), Err(TooLong));
    }
}
