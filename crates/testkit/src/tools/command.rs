//! Running programs to their end.

use std::process::{Command, Stdio};

use super::Error;

/// Runs the program with no standard input and returns what it printed on stdout.
///
/// # Errors
/// When it cannot be started or does not end with status 0; the message holds the command line and all output.
pub fn output(command: &mut Command) -> Result<String, Error> {
    capture(command).map(|(stdout, _)| stdout)
}

/// As [`output`], with what it printed on stderr after it.
#[cfg(feature = "nodes")]
pub(crate) fn both_streams(command: &mut Command) -> Result<String, Error> {
    capture(command).map(|(stdout, stderr)| stdout + &stderr)
}

fn capture(command: &mut Command) -> Result<(String, String), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(|source| Error::Spawn { program, source })?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() {
        return Ok((stdout, stderr));
    }
    Err(Error::Failed {
        command: line(command),
        status: done.status.to_string(),
        output: format!("{stdout}{stderr}").trim_end().to_owned(),
    })
}

/// Runs the program with the caller's own stdout and stderr.
///
/// # Errors
/// When it cannot be started or does not end with status 0.
pub fn succeed(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().map_err(|source| Error::Spawn { program, source })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Status { command: line(command), status: status.to_string() })
}

/// The command line as a person would type it.
fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
