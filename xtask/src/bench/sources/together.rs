//! All sources in one process at rest: each may wake up once a period, and the push API and the mux not at all.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use testkit::env::{target_dir, usage};

use super::super::agent::more_switches;
use super::super::report::Report;
use super::{Source, create, manifest, millis, pod_name, release_example};
use crate::ui;

/// Pods of each source.
const PODS: usize = 100;
/// How often file and URL are read, and how many of these periods are watched.
const PERIOD: Duration = Duration::from_secs(3);
const PERIODS: u32 = 4;
/// Sources that have a period: file and URL.
const PERIODIC: u32 = 2;
/// How often it is looked whether anything ran.
const MOMENT: Duration = Duration::from_millis(20);
/// What runs again within this time is still the same wake-up: tokio looks at a timer once a little before it is due,
/// by at most 64 ms. (It looks at those that are far away every 4 s, too; that counts.)
const SAME: Duration = Duration::from_millis(80);

pub(super) fn run(report: &mut Report) -> Result<()> {
    let program = release_example("podsource", "all", "http,push")?;
    let root = tempfile::tempdir_in(target_dir()).context("cannot create a folder")?;
    let (folder, store) = (root.path().join("manifests"), root.path().join("store"));
    fs::create_dir(&folder)?;
    for number in 0..PODS {
        fs::write(folder.join(pod_name(number)), manifest(&pod_name(number)))?;
    }
    let url = format!("http://{}/pods", serve(document())?);

    ui::step(&format!("all sources together: {} s at rest", (PERIOD * PERIODS).as_secs()));
    let seconds = PERIOD.as_secs().to_string();
    let args = [&folder, Path::new(&url), Path::new("127.0.0.1:0"), &store, Path::new(&seconds)];
    let source = Source::start(&program, &args)?;
    let mut connection = BufReader::new(TcpStream::connect(source.after("listening on ")?)?);
    for number in 0..PODS {
        create(&mut connection, &manifest(&format!("pushed-{}", pod_name(number))))?;
    }
    source.wait(&format!("{} pods", 3 * PODS))?;
    // Young files are read again until the clock of the file system has gone on.
    thread::sleep(super::OLD_ENOUGH + PERIOD);

    let id = source.process.id();
    let first = usage(id)?;
    let (mut last, mut ran, mut wakeups) = (first.clone(), None::<Instant>, 0_u32);
    let end = Instant::now() + PERIOD * PERIODS;
    while Instant::now() < end {
        thread::sleep(MOMENT);
        let now = usage(id)?;
        if more_switches(&last, &now) > 0 {
            wakeups += u32::from(ran.is_none_or(|ran| ran.elapsed() > SAME));
            ran = Some(Instant::now());
        }
        last = now;
    }
    let most = f64::from(PERIODIC * PERIODS);
    let what = format!("all together: wake-ups in {PERIODS} periods of {PERIODIC} sources");
    report.add("allWakeups", &what, f64::from(wakeups), "").budget(most);
    let cpu = millis(last.cpu.saturating_sub(first.cpu)) / f64::from(PERIODS);
    report.add("allCheck", "all together: CPU of one period without a change", cpu, "ms");
    let resident = last.resident as f64 / 1024.0 / 1024.0;
    report.add("allResident", &format!("all together: resident with {} pods", 3 * PODS), resident, "MiB");
    Ok(())
}

/// A list of pods for the URL.
fn document() -> String {
    let item = |number| {
        format!("- {}", manifest(&format!("served-{}", pod_name(number))).trim_end().replace('\n', "\n  "))
    };
    let items: Vec<String> = (0..PODS).map(item).collect();
    format!("apiVersion: v1\nkind: PodList\nitems:\n{}\n", items.join("\n"))
}

/// Serves the document to whoever does not have it yet, for as long as the program runs. The answer is the address.
fn serve(document: String) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let address = listener.local_addr()?.to_string();
    let whole =
        format!("HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: {}\r\n\r\n{document}", document.len());
    thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            // A client that goes away has had what it wanted.
            let _ = answer(stream, &whole);
        }
    });
    Ok(address)
}

/// Answers the requests of one connection.
fn answer(stream: TcpStream, whole: &str) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut known) = (String::new(), false);
    while stream.read_line(&mut line)? > 0 {
        known |= line.to_ascii_lowercase().starts_with("if-none-match:");
        if line == "\r\n" {
            let unchanged = "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n";
            stream.get_mut().write_all(if known { unchanged } else { whole }.as_bytes())?;
            known = false;
        }
        line.clear();
    }
    Ok(())
}
