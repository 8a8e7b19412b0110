//! `node-agent logs`.

use std::io::Write;

use super::{CommandError, LogOptions, Target, block_on, target};
use crate::client::Client;

/// Writes the log of a container to `out`, as it comes, and to `err` which one that is when none was named. A reader of
/// `out` that went away is no error.
///
/// # Errors
/// When no agent answers, the pod or container is not known or has no log, or the output fails.
pub fn logs(
    pod: Target<'_>,
    container: Option<&str>,
    options: &LogOptions,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), CommandError> {
    let written = block_on(async {
        let client = Client::new(pod.root_dir);
        let snapshot = client.snapshot().await?;
        let pod = target::pod(&snapshot, &pod)?;
        let (container, note) = target::container(pod, container)?;
        if let Some(note) = note {
            writeln!(err, "{note}")?;
        }
        let path = format!("/containerLogs/{}/{container}?{}", target::shown(pod), options.query());
        let mut log = client.stream(&path).await?;
        while let Some(piece) = log.next().await? {
            out.write_all(&piece)?;
            out.flush()?;
        }
        Ok(())
    });
    match written {
        Err(error) if error.is_closed_pipe() => Ok(()),
        written => written,
    }
}
