//! Lists containers, as `crictl ps` does.
//!
//! `crictl-ps [--all] [ENDPOINT]`; the endpoint defaults to containerd's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use cri_client::Client;
use cri_client::v1::{ContainerFilter, ContainerState, ContainerStateValue, ListContainersRequest};

const CONTAINERD: &str = "unix:///run/containerd/containerd.sock";

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "printing is what it is for")]
async fn main() -> Result<()> {
    let (flags, endpoints): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|arg| arg == "--all");
    let endpoint = endpoints.first().map_or(CONTAINERD, String::as_str);
    let runtime = Client::builder(endpoint)?.request_timeout(Duration::from_secs(5)).build();
    runtime.version().await.context("nothing to list")?;

    let running = ContainerStateValue { state: ContainerState::ContainerRunning.into() };
    let state = flags.is_empty().then_some(running);
    let filter = Some(ContainerFilter { state, ..Default::default() });
    let mut containers = runtime.list_containers(ListContainersRequest { filter }).await?.containers;
    containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));

    println!("{:<13}  {:<8}  {:<7}  {:<24}  {:<7}  POD", "CONTAINER", "STATE", "AGE", "NAME", "ATTEMPT");
    for container in containers {
        let state = container.state().as_str_name().trim_start_matches("CONTAINER_").to_lowercase();
        let age = age(container.created_at);
        let metadata = container.metadata.unwrap_or_default();
        let pod = container.labels.get("io.kubernetes.pod.name").map_or("", String::as_str);
        let (id, name, attempt) = (short(&container.id), metadata.name, metadata.attempt);
        println!("{id:<13}  {state:<8}  {age:<7}  {name:<24}  {attempt:<7}  {pod}");
    }
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// Time since an instant in nanoseconds since the epoch, in its largest unit.
fn age(created_at: i64) -> String {
    let created = UNIX_EPOCH + Duration::from_nanos(created_at.try_into().unwrap_or(0));
    match SystemTime::now().duration_since(created).unwrap_or_default().as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}
