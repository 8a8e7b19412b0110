use std::sync::Mutex;

use super::*;

/// A place to write to that a test can read.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `log` logs, with `LINE` for line numbers.
fn logged(format: Format, verbosity: u32, log: impl FnOnce(&Verbosity)) -> String {
    let verbosity = Verbosity::new(verbosity);
    logged_with(format, &verbosity, || log(&verbosity))
}

fn logged_with(format: Format, verbosity: &Verbosity, log: impl FnOnce()) -> String {
    let buffer = Buffer::default();
    let now = || "2026-11-23T13:42:53.123456789Z".parse().unwrap();
    let writer = buffer.clone();
    let subscriber =
        subscriber(Lines { format, journal: false, pid: 1234, now }, verbosity, move || writer.clone());
    tracing::subscriber::with_default(subscriber, log);
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    let mut parts = text.split("tests.rs:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("tests.rs:LINE");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

#[derive(Debug, thiserror::Error)]
#[error("asking the runtime")]
struct Outer(#[source] io::Error);

fn some_events(_: &Verbosity) {
    let _span = tracing::info_span!("pod", pod = "default/web", uid = %"abc").entered();
    tracing::info!(restarts = 3, ready = true, load = 0.5, took = ?std::time::Duration::from_secs(5), "Pod started");
    tracing::warn!(path = "/a \"b\"", "line one\nline\ttwo \u{1b}[31m");
    let error = Outer(io::Error::other("broken"));
    tracing::error!(err = &error as &dyn std::error::Error, "No runtime");
}

#[test]
fn text_looks_like_klogs() {
    assert_eq!(
        logged(Format::Text, 0, some_events),
        concat!(
            "I1123 13:42:53.123456    1234 tests.rs:LINE] \"Pod started\" pod=\"default/web\" uid=\"abc\" \
             restarts=3 ready=true load=0.5 took=\"5s\"\n",
            "W1123 13:42:53.123456    1234 tests.rs:LINE] \"line one\\nline\\ttwo \\u{1b}[31m\" \
             pod=\"default/web\" uid=\"abc\" path=\"/a \\\"b\\\"\"\n",
            "E1123 13:42:53.123456    1234 tests.rs:LINE] \"No runtime\" pod=\"default/web\" uid=\"abc\" \
             err=\"asking the runtime: broken\"\n",
        )
    );
}

#[test]
fn json_looks_like_component_bases() {
    let text = logged(Format::Json, 0, some_events);
    assert_eq!(
        text,
        concat!(
            r#"{"ts":1795441373123.456,"caller":"logging/tests.rs:LINE","msg":"Pod started","pod":"default/web","uid":"abc","v":0,"restarts":3,"ready":true,"load":0.5,"took":"5s"}"#,
            "\n",
            r#"{"ts":1795441373123.456,"caller":"logging/tests.rs:LINE","msg":"line one\nline\ttwo \u001b[31m","pod":"default/web","uid":"abc","v":0,"path":"/a \"b\""}"#,
            "\n",
            r#"{"ts":1795441373123.456,"caller":"logging/tests.rs:LINE","msg":"No runtime","pod":"default/web","uid":"abc","err":"asking the runtime: broken"}"#,
            "\n",
        )
    );
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(&line.replace("LINE", "1")).unwrap();
    }
}

fn one_of_each() {
    tracing::info!("start");
    tracing::info!(target: "reload", "read anew");
    tracing::info!(target: "pod_workers::pod_status", "pod");
    tracing::info!(target: "kuberuntime::calls", "change");
    tracing::debug!("debug");
    tracing::trace!(target: "pod_workers::actor", "inputs");
    tracing::debug!(target: "hyper::client", "connection");
    tracing::debug!(target: "h2::client", "frame");
    tracing::trace!(target: "hyper::client", "libraries");
    tracing::trace!(target: "h2::client", "everything");
}

const EACH: [&str; 10] = [
    "start",
    "read anew",
    "pod",
    "change",
    "debug",
    "inputs",
    "connection",
    "frame",
    "libraries",
    "everything",
];

fn messages(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split('"').nth(1).unwrap_or_default()).collect()
}

#[test]
fn verbosity_decides_what_is_logged() {
    for verbosity in 0..12 {
        let text = logged(Format::Text, verbosity, |_| one_of_each());
        let most = EACH.len().min(verbosity as usize + 1);
        assert_eq!(messages(&text), EACH[..most], "-v={verbosity}");
    }
}

#[test]
fn verbosity_changes_while_the_process_runs() {
    let text = logged(Format::Text, 0, |verbosity| {
        one_of_each();
        verbosity.set(4);
        one_of_each();
        verbosity.set(0);
        one_of_each();
    });
    assert_eq!(messages(&text), [&EACH[..1], &EACH[..5], &EACH[..1]].concat());
}

#[test]
fn single_files_may_have_a_verbosity_of_their_own() {
    let of = |pattern: &str| {
        let verbosity = Verbosity::with(1, VModule(vec![(pattern.to_owned(), 5)]));
        messages(&logged_with(Format::Text, &verbosity, one_of_each)).len()
    };
    assert_eq!((of("tes*"), of("actor")), (6, 2));
}

#[test]
fn v_is_shown_in_json() {
    let text = logged(Format::Json, 9, |_| one_of_each());
    let levels: Vec<_> = text
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(&line.replace("LINE", "1")).unwrap();
            value["v"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(levels, (0..10).collect::<Vec<_>>());
}

#[test]
fn infinite_numbers_do_not_break_json() {
    let text = logged(Format::Json, 0, |_| tracing::info!(ratio = f64::INFINITY, "x"));
    assert!(text.ends_with(",\"ratio\":\"inf\"}\n"), "{text}");
}

#[test]
fn a_broken_stderr_is_survived() {
    struct Broken;
    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let subscriber = subscriber(Lines::new(Format::Text, false), &Verbosity::new(0), || Broken);
    tracing::subscriber::with_default(subscriber, || tracing::info!("nobody reads this"));
}
