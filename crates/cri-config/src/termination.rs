//! The termination message of a container: its termination log, or the end of its output.
//! Rule: upstream `pkg/kubelet/kuberuntime/kuberuntime_container.go`.

use std::path::PathBuf;

use kube_model::labels;
use node_proto::cri::v1::{ContainerState, ContainerStatus};

/// Bytes of a termination log that count, from its end.
pub const MAX_FILE_BYTES: usize = 4096;
/// How much to read from the end of a log: more than can be shown, for its lines hold time stamps as well.
pub const LOG_TAIL_BYTES: usize = 32 * 1024;
/// Lines of output that count, from the end.
const MAX_LOG_LINES: usize = 80;
/// Bytes of these lines that count, from the end.
const MAX_LOG_BYTES: usize = 2048;

/// The files that hold a container's termination message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The termination log, if it was mounted.
    pub file: Option<PathBuf>,
    /// The log, if it is to be read where the file holds nothing.
    pub log: Option<PathBuf>,
}

/// Where a container's termination message is; `None` while it has not ended.
pub fn sources(status: &ContainerStatus) -> Option<Sources> {
    if status.state() != ContainerState::ContainerExited {
        return None;
    }
    let annotation = |name: &str| status.annotations.get(name).map_or("", String::as_str);
    let path = annotation(labels::CONTAINER_TERMINATION_MESSAGE_PATH);
    let mount = status.mounts.iter().find(|m| !path.is_empty() && m.container_path == path);
    // What never ran has no log.
    let fall_back = annotation(labels::CONTAINER_TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError"
        && status.exit_code != 0
        && status.reason != "ContainerCannotRun";
    Some(Sources {
        file: mount.map(|m| m.host_path.clone().into()),
        log: (fall_back && !status.log_path.is_empty()).then(|| status.log_path.clone().into()),
    })
}

/// The message of an ended container: the runtime's, then the container's own. `file` is the end of the termination
/// log and `log` the end of the log (at least [`LOG_TAIL_BYTES`] of it), each `None` where there is none or
/// [`sources`] named none.
pub fn message(runtime: &str, file: Option<&[u8]>, log: Option<&[u8]>) -> String {
    let message = match file.filter(|f| !f.is_empty()) {
        Some(file) => lossy_tail(file, MAX_FILE_BYTES),
        None => log.map(log_text).unwrap_or_default(),
    };
    match (runtime.is_empty(), message.is_empty()) {
        (_, true) => runtime.to_owned(),
        (true, false) => message,
        (false, false) => format!("{runtime}: {message}"),
    }
}

/// The output in the end of a CRI log: what stands behind `<time> stdout|stderr P|F `. What is not of that
/// form, such as a first line that begins half-way, is no output.
fn log_text(log: &[u8]) -> String {
    let mut output: Vec<&[u8]> = Vec::new();
    for line in log.rsplit(|b| *b == b'\n').filter(|l| !l.is_empty()).take(MAX_LOG_LINES) {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (Some(_time), Some(b"stdout" | b"stderr"), Some(tag), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if tag.split(|b| *b == b':').next() != Some(b"P") {
            output.push(b"\n");
        }
        output.push(text);
    }
    output.reverse();
    lossy_tail(&output.concat(), MAX_LOG_BYTES)
}

fn lossy_tail(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(max)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_proto::cri::v1::Mount;

    #[test]
    fn the_file_wins_over_the_log_and_follows_the_runtimes_message() {
        let log = b"2024-01-01T00:00:00Z stdout F last words\n";
        for (runtime, file, log, want) in [
            ("", None, None, ""),
            ("oops", None, None, "oops"),
            ("", Some(&b"file"[..]), Some(&log[..]), "file"),
            ("oops", Some(b"file"), None, "oops: file"),
            ("oops", Some(b""), Some(log), "oops: last words\n"),
            ("", None, Some(log), "last words\n"),
            ("", Some(b"\xff!"), None, "\u{fffd}!"),
        ] {
            assert_eq!(message(runtime, file, log), want);
        }
    }

    #[test]
    fn only_the_end_of_a_long_text_counts() {
        let file = [vec![b'a'; 10], vec![b'b'; MAX_FILE_BYTES]].concat();
        assert_eq!(message("", Some(&file), None), "b".repeat(MAX_FILE_BYTES));
        let log: String = (0..200).map(|i| format!("2024-01-01T00:00:00Z stderr F {i:03}\n")).collect();
        let lines = message("", None, Some(log.as_bytes()));
        assert!(lines.starts_with("120\n") && lines.ends_with("199\n"), "{lines}");
        let long = format!("2024-01-01T00:00:00Z stdout F {}\n", "x".repeat(5000));
        assert_eq!(message("", None, Some(long.as_bytes())).len(), MAX_LOG_BYTES);
    }

    #[test]
    fn partial_lines_are_joined_and_broken_ones_left_out() {
        let log = b"ut F cut off\nt stdout P one \nt stdout P:x two \nt stdout F three\nt stderr F \nt stderr F end\n";
        assert_eq!(message("", None, Some(log)), "one two three\n\nend\n");
    }

    #[test]
    fn the_log_is_asked_only_where_policy_and_exit_say_so() {
        let status = |policy: &str, exit_code, reason: &str| ContainerStatus {
            state: ContainerState::ContainerExited.into(),
            exit_code,
            reason: reason.into(),
            log_path: "/l".into(),
            mounts: vec![Mount { container_path: "/t".into(), host_path: "/h".into(), ..Mount::default() }],
            annotations: [
                (labels::CONTAINER_TERMINATION_MESSAGE_PATH.to_owned(), "/t".to_owned()),
                (labels::CONTAINER_TERMINATION_MESSAGE_POLICY.to_owned(), policy.to_owned()),
            ]
            .into(),
            ..ContainerStatus::default()
        };
        let fall_back = "FallbackToLogsOnError";
        for (policy, exit, reason, log) in [
            ("File", 1, "Error", false),
            (fall_back, 0, "Completed", false),
            (fall_back, 1, "Error", true),
            (fall_back, 128, "ContainerCannotRun", false),
        ] {
            let want = Sources { file: Some("/h".into()), log: log.then(|| "/l".into()) };
            assert_eq!(sources(&status(policy, exit, reason)), Some(want), "{policy} {exit} {reason}");
        }
        let mut running = status(fall_back, 1, "");
        running.set_state(ContainerState::ContainerRunning);
        assert_eq!(sources(&running), None);
        let mut unmounted = status(fall_back, 1, "");
        unmounted.mounts.clear();
        assert_eq!(sources(&unmounted), Some(Sources { file: None, log: Some("/l".into()) }));
    }
}
