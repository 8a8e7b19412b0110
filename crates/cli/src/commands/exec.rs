//! `node-agent exec`: the remote command protocol of Kubernetes, version 4 (upstream
//! `staging/src/k8s.io/client-go/tools/remotecommand`), which ends with a `Status` that says how the command did.

use std::io;

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use super::terminal::{self, RawTerminal};
use super::{CommandError, Target, block_on, target};
use crate::client::Client;
use server::streams::{FromStream, Session, ToStream};

/// The version in which a command's end is a `Status`.
const PROTOCOL: &str = "v4.channel.k8s.io";

/// Bytes of input at once.
const BLOCK: usize = 8 * 1024;

/// What `node-agent exec` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct ExecRequest<'a> {
    /// The pod.
    pub pod: Target<'a>,
    /// The container; `None` chooses as kubectl does.
    pub container: Option<&'a str>,
    /// Whether our stdin is that of the command.
    pub stdin: bool,
    /// Whether our terminal is that of the command. It needs stdin.
    pub tty: bool,
    /// The program and its arguments.
    pub command: &'a [String],
}

/// Runs a command in a container, on this process's own stdin, stdout and stderr. Answers with the code to exit with:
/// the command's own, or of a signal that ended us 128 and its number.
///
/// # Errors
/// When no agent answers, the container is not known or does not run, or the command cannot be run to its end.
pub fn exec(request: ExecRequest<'_>) -> Result<u8, CommandError> {
    block_on(async {
        let client = Client::new(request.pod.root_dir);
        let snapshot = client.snapshot().await?;
        let pod = target::pod(&snapshot, &request.pod)?;
        let (container, note) = target::container(pod, request.container)?;
        target::check_runs(pod, &container)?;
        if let Some(note) = note {
            say(&note).await?;
        }
        let tty = request.tty && request.stdin && terminal::is_terminal();
        if request.tty && request.stdin && !tty {
            say("Unable to use a TTY - input is not a terminal or the right kind of file").await?;
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(request.command.iter().map(|word| ("command", word)));
        query.append_pair("output", "1");
        for (name, wanted) in [("input", request.stdin), ("error", !tty), ("tty", tty)] {
            if wanted {
                query.append_pair(name, "1");
            }
        }
        let path = format!("/exec/{}/{container}?{}", target::shown(pod), query.finish());
        let mut session = client.upgrade(&path, PROTOCOL).await?;
        match stream(&mut session, request.stdin, tty).await {
            // Whoever read our output has seen enough.
            Err(error) if error.is_closed_pipe() => Ok(0),
            Ok(code) if code != 0 => {
                say(&format!("command terminated with exit code {code}")).await?;
                Ok(code)
            }
            done => done,
        }
    })
}

async fn say(text: &str) -> io::Result<()> {
    let mut err = tokio::io::stderr();
    err.write_all(format!("{text}\n").as_bytes()).await?;
    err.flush().await
}

/// Carries the command's streams until it ends.
async fn stream(session: &mut Session, stdin: bool, tty: bool) -> Result<u8, CommandError> {
    let lost = |_| CommandError::Lost;
    let (_, mut ended) = session.open(&[("streamtype", "error")]).await.map_err(lost)?;
    let input = match stdin {
        true => Some(session.open(&[("streamtype", "stdin")]).await.map_err(lost)?.0),
        false => None,
    };
    let (_, output) = session.open(&[("streamtype", "stdout")]).await.map_err(lost)?;
    let errors = match tty {
        false => Some(session.open(&[("streamtype", "stderr")]).await.map_err(lost)?.1),
        true => None,
    };
    let sizes = match tty {
        true => Some(session.open(&[("streamtype", "resize")]).await.map_err(lost)?.0),
        false => None,
    };
    let raw = if tty { Some(RawTerminal::enter().map_err(CommandError::Terminal)?) } else { None };
    let outputs = async {
        tokio::try_join!(copy_out(output, tokio::io::stdout()), async {
            match errors {
                Some(errors) => copy_out(errors, tokio::io::stderr()).await,
                None => Ok(()),
            }
        })?;
        let mut status = Vec::new();
        while let Some(piece) = ended.recv().await {
            status.extend_from_slice(&piece);
        }
        exit_code(&status)
    };
    let inputs = async {
        let input = async {
            match input {
                Some(input) => copy_in(tokio::io::stdin(), &input).await,
                None => Ok(()),
            }
        };
        let sizes = async {
            match sizes {
                Some(sizes) => send_sizes(&sizes).await,
                None => Ok(()),
            }
        };
        // That nothing more can be sent does not end the command; what became of it shows in its output.
        let _gone = tokio::join!(input, sizes);
        std::future::pending::<()>().await;
    };
    // Without a terminal of ours to put right, a signal may end us as it ends anybody.
    let signal = async {
        match &raw {
            Some(_) => terminated().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        code = outputs => code,
        () = inputs => Err(CommandError::Lost),
        signal = signal => signal.map_err(CommandError::Terminal),
    }
}

async fn copy_out(mut from: FromStream, mut to: impl AsyncWrite + Unpin) -> Result<(), CommandError> {
    while let Some(piece) = from.recv().await {
        to.write_all(&piece).await?;
        to.flush().await?;
    }
    Ok(())
}

/// The end of our input is that of the command's.
async fn copy_in(mut from: impl AsyncRead + Unpin, to: &ToStream) -> io::Result<()> {
    let mut bytes = vec![0; BLOCK];
    loop {
        match from.read(&mut bytes).await? {
            0 => return to.finish().await,
            read => to.send(&bytes[..read]).await?,
        }
    }
}

/// Tells of the terminal's size at first and whenever it changes.
async fn send_sizes(to: &ToStream) -> io::Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    loop {
        if let Some(size) = terminal::size() {
            to.send(size.as_bytes()).await?;
        }
        if changes.recv().await.is_none() {
            return Ok(());
        }
    }
}

/// Ends with a signal that asks us to; answers the code to exit with.
async fn terminated() -> io::Result<u8> {
    let (mut hangup, mut interrupt, mut terminate) =
        (signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(128
        + tokio::select! {
            _ = hangup.recv() => 1,
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
        })
}

/// The exit code that the runtime's last word has.
fn exit_code(status: &[u8]) -> Result<u8, CommandError> {
    if status.is_empty() {
        return Err(CommandError::Lost);
    }
    let Ok(status) = serde_json::from_slice::<Status>(status) else {
        return Err(CommandError::Failed(String::from_utf8_lossy(status).trim().to_owned()));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = codes.next().and_then(|cause| cause.message.as_deref()?.parse::<i32>().ok());
    match code {
        // What a process cannot exit with is a failure all the same.
        Some(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        None => Err(CommandError::Failed(
            status.message.unwrap_or_else(|| "the runtime does not say how the command ended".to_owned()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_the_runtime_is_the_exit_code() {
        let failed = |code: &str| {
            format!(
                r#"{{"metadata":{{}},"status":"Failure","message":"command terminated with non-zero exit code","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
            )
        };
        for (status, expected) in [
            (r#"{"metadata":{},"status":"Success"}"#.to_owned(), Ok(0)),
            (failed("3"), Ok(3)),
            (failed("300"), Ok(255)),
            (failed("x"), Err("command terminated with non-zero exit code")),
            (
                r#"{"status":"Failure","message":"error executing command","reason":"InternalError"}"#
                    .to_owned(),
                Err("error executing command"),
            ),
            (r#"{"status":"Failure"}"#.to_owned(), Err("the runtime does not say how the command ended")),
            ("no such thing\n".to_owned(), Err("no such thing")),
            (String::new(), Err("lost the connection to the container")),
        ] {
            let code = exit_code(status.as_bytes()).map_err(|error| error.to_string());
            assert_eq!(code, expected.map_err(str::to_owned), "{status}");
        }
    }
}
