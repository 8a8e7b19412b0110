//! Watches a folder of manifests (or one file) and prints what changes:
//! `cargo run -p podsource --example watch -- DIR [CACHE_DIR [SECONDS]]`.
//!
//! `+` is a new pod, `~` a changed one, `-` one that is not wanted any more, `!` a problem. With `CACHE_DIR` the last
//! good versions of broken manifests outlive the program; everything is looked at every so many `SECONDS`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube_model::pod;
use podsource::file::{CHECK_FREQUENCY, Settings, spawn};
use tokio::sync::watch::channel;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it sees")]
async fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(path) = args.next() else {
        eprintln!("usage: watch DIR [CACHE_DIR [SECONDS]]");
        return ExitCode::FAILURE;
    };
    let cache_dir = args.next().map(PathBuf::from);
    let seconds = args.next().and_then(|seconds| seconds.to_str()?.parse().ok());
    let check_frequency = channel(seconds.map_or(CHECK_FREQUENCY, Duration::from_secs)).1;
    let settings = Settings { cache_dir, check_frequency, ..Settings::new(path, "node1") };

    let mut source = spawn(settings, CancellationToken::new());
    let (mut known, mut problems) = (BTreeMap::new(), Vec::new());
    while source.changed().await.is_ok() {
        let state = source.borrow_and_update().clone();
        println!("{} pods, {} problems", state.pods.len(), state.problems.len());
        let pods: BTreeMap<_, _> =
            state.pods.iter().map(|pod| (pod::identity(pod).1, Arc::clone(pod))).collect();
        for (key, pod) in &pods {
            match known.get(key) {
                None => println!("+ {key}"),
                Some(old) if Arc::ptr_eq(old, pod) => {}
                Some(_) => println!("~ {key}"),
            }
        }
        for key in known.keys().filter(|key| !pods.contains_key(key)) {
            println!("- {key}");
        }
        for problem in state.problems.iter().filter(|problem| !problems.contains(*problem)) {
            println!("! {problem}");
        }
        known = pods;
        problems.clone_from(&state.problems);
    }
    ExitCode::SUCCESS
}
