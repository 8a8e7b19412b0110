//! Prints the pods that an API server has for a node, and each change:
//! `cargo run -p podsource --features api --example api -- NODE`, with `KUBECONFIG` as for kubectl.

use std::error::Error;
use std::process::ExitCode;

use kube::{Client, Config};
use kube_model::pod;
use podsource::api::{Settings, spawn};
use tokio_util::sync::CancellationToken;

#[tokio::main]
#[expect(clippy::print_stderr, reason = "an example shows what went wrong")]
async fn main() -> ExitCode {
    let Some(node) = std::env::args_os().nth(1).and_then(|name| name.into_string().ok()) else {
        eprintln!("usage: api NODE");
        return ExitCode::FAILURE;
    };
    match watch(node).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it sees")]
async fn watch(node_name: String) -> Result<(), Box<dyn Error>> {
    let config = Config::infer().await?;
    let endpoint = config.cluster_url.to_string().into();
    let client = Client::try_from(config)?;
    let mut source = spawn(Settings { client, endpoint, node_name, reached: None }, CancellationToken::new());
    while source.changed().await.is_ok() {
        let state = source.borrow_and_update().clone();
        println!(
            "{} pods, {} problems, list complete: {}",
            state.pods.len(),
            state.problems.len(),
            state.seen
        );
        for pod in &state.pods {
            let (uid, key) = pod::identity(pod);
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("-");
            let deleted = if pod.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
            println!("  {key} {uid} {phase}{deleted}");
        }
        for problem in &state.problems {
            println!("  {problem}");
        }
    }
    Ok(())
}
