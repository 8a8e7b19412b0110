//! Watches a folder of manifests (or one file) and prints each change:
//! `cargo run -p podsource --example watch -- DIR`.

use std::process::ExitCode;

use kube_model::pod;
use podsource::file::{Settings, spawn};
use tokio_util::sync::CancellationToken;

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it sees")]
async fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: watch DIR");
        return ExitCode::FAILURE;
    };
    let mut source = spawn(Settings::new(path, "node1"), CancellationToken::new());
    while source.changed().await.is_ok() {
        let state = source.borrow_and_update().clone();
        println!("{} pods, {} problems", state.pods.len(), state.problems.len());
        for pod in &state.pods {
            let (uid, key) = pod::identity(pod);
            println!("  {key} {uid}");
        }
        for problem in &state.problems {
            println!("  {problem}");
        }
    }
    ExitCode::SUCCESS
}
