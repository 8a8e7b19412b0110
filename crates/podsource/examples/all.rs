//! A folder, a URL and the push API as one, in one process: what the sources of an agent cost together.
//! `cargo run -p podsource --features http,push --example all -- DIR URL ADDRESS PUSH_DIR [SECONDS]`.
//!
//! Prints what changes over all of them, and problems; everything is looked at every so many `SECONDS`.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use podsource::{Mux, file, http, push};
use tokio::sync::watch::channel;
use tokio_util::sync::CancellationToken;

const NODE: &str = "node1";

#[tokio::main]
#[expect(clippy::print_stderr, reason = "an example shows what it sees")]
async fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let args: Vec<String> = args.collect();
    let [dir, url, address, push_dir, rest @ ..] = &args[..] else {
        eprintln!("usage: all DIR URL ADDRESS PUSH_DIR [SECONDS]");
        return ExitCode::FAILURE;
    };
    let seconds = rest.first().and_then(|seconds| seconds.parse().ok());
    match run(dir, url, address, push_dir, seconds).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
            eprintln!("{error}{why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it sees")]
async fn run(
    dir: &str,
    url: &str,
    address: &str,
    push_dir: &str,
    seconds: Option<u64>,
) -> Result<(), Box<dyn Error>> {
    let cancel = CancellationToken::new();
    let period = |default| channel(seconds.map_or(default, Duration::from_secs)).1;
    let check_frequency = period(file::CHECK_FREQUENCY);
    let files =
        file::spawn(file::Settings { check_frequency, ..file::Settings::new(dir, NODE) }, cancel.clone());
    let check_frequency = period(http::CHECK_FREQUENCY);
    let document =
        http::spawn(http::Settings { check_frequency, ..http::Settings::new(url, NODE) }, cancel.clone())?;
    // Nothing is run of what comes, so anybody may push.
    let settings =
        push::Settings { anonymous: true, ..push::Settings::new(address.parse()?, NODE, push_dir) };
    let pushed = push::start(settings, cancel).await?;
    println!("listening on {}", pushed.address);

    let mut mux = Mux::new([files, document, pushed.state.clone()]);
    while let Some(changes) = mux.next().await {
        changes.iter().for_each(|change| println!("{change:?}"));
        mux.problems().for_each(|problem| println!("! {problem}"));
        if mux.pods().sources_ready() {
            println!("{} pods", mux.pods().pods().len());
        }
    }
    Ok(())
}
