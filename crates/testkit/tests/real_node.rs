//! The environment itself: both containerd lines really run a pod, survive kill -9, and leave nothing behind.
//! Needs root; `cargo xtask test` turns the feature on that this file requires.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use node_proto::cri::v1::image_service_client::ImageServiceClient;
use node_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use node_proto::cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ImageSpec,
    LinuxPodSandboxConfig, ListContainersRequest, ListImagesRequest, PodSandboxConfig, PodSandboxMetadata,
    PodSandboxStatusRequest, RunPodSandboxRequest, StartContainerRequest,
};
use testkit::env::{BUSYBOX, Containerd, Line, PAUSE, Run, clean};
use tonic::transport::{Channel, Endpoint};

async fn connect(containerd: &Containerd) -> Channel {
    Endpoint::from_shared(containerd.endpoint()).unwrap().connect().await.unwrap()
}

/// Starts one pod with a busybox web server and returns its address.
async fn start_web_pod(channel: Channel, cgroup: &str) -> (String, String) {
    let mut runtime = RuntimeServiceClient::new(channel);
    let sandbox = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "web".to_owned(),
            uid: "web-uid".to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: cgroup.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let request = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
    let pod_sandbox_id = runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "app".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
        command: vec!["httpd".to_owned(), "-f".to_owned(), "-h".to_owned(), "/www".to_owned()],
        ..Default::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(container),
        sandbox_config: Some(sandbox),
    };
    let container_id = runtime.create_container(request).await.unwrap().into_inner().container_id;
    runtime.start_container(StartContainerRequest { container_id: container_id.clone() }).await.unwrap();
    let request = PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
    let status = runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    (container_id, status.network.unwrap().ip)
}

/// A GET as a probe sends it, repeated until the server is up.
fn get(ip: &str) -> String {
    use std::io::{Read, Write};
    testkit::env::until(&format!("the web server on {ip} answers"), Duration::from_secs(60), || {
        let answer = || -> std::io::Result<String> {
            let mut stream = std::net::TcpStream::connect((ip, 80))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        answer().map_err(|e| e.to_string())
    })
    .unwrap()
}

/// What the machine has of a run, apart from processes.
fn traces(name: &str, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|l| l.contains(name)).map(str::to_owned));
    let cgroups = Command::new("find").args(["/sys/fs/cgroup", "-name", name]).output().unwrap();
    found.extend(String::from_utf8_lossy(&cgroups.stdout).lines().map(str::to_owned));
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let args = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&args).replace('\0', " ");
        if args.contains(name) {
            found.push(args);
        }
    }
    let results = std::fs::read_dir("/var/lib/cni/results").into_iter().flatten().filter_map(Result::ok);
    found.extend(results.map(|e| e.path().display().to_string()).filter(|path| path.contains(name)));
    for path in [dir, &Path::new("/sys/class/net").join(name)] {
        if path.exists() {
            found.push(path.display().to_string());
        }
    }
    found
}

async fn a_pod_runs_survives_and_leaves_nothing(line: Line) {
    let run = Run::new().unwrap();
    let mut containerd = Containerd::start(&run, line).unwrap();
    let channel = connect(&containerd).await;
    let listed =
        ImageServiceClient::new(channel.clone()).list_images(ListImagesRequest::default()).await.unwrap();
    let names: HashMap<String, u64> = listed
        .into_inner()
        .images
        .into_iter()
        .flat_map(|image| image.repo_tags.into_iter().map(move |tag| (tag, image.size)))
        .collect();
    assert!(names.contains_key(PAUSE) && names.contains_key(BUSYBOX), "{names:?}");

    let (container_id, ip) = start_web_pod(channel, &format!("/{}/pod1", run.name())).await;
    assert!(get(&ip).contains("It runs."));

    containerd.kill9();
    assert!(get(&ip).contains("It runs."), "the pod goes on without containerd");
    containerd.start_again().unwrap();
    let mut runtime = RuntimeServiceClient::new(connect(&containerd).await);
    let listed =
        runtime.list_containers(ListContainersRequest::default()).await.unwrap().into_inner().containers;
    assert_eq!(listed.iter().map(|c| &c.id).collect::<Vec<_>>(), [&container_id]);
    let request =
        ExecSyncRequest { container_id, cmd: vec!["ls".to_owned(), "/www".to_owned()], timeout: 60 };
    assert_eq!(runtime.exec_sync(request).await.unwrap().into_inner().stdout, b"index.html\n");

    let (name, dir) = (run.name().to_owned(), run.dir().to_owned());
    assert!(traces(&name, &dir).len() > 4, "the pod has left traces to look for");
    drop(containerd);
    drop(run);
    assert_eq!(traces(&name, &dir), Vec::<String>::new());
}

#[tokio::test]
async fn a_pod_on_containerd_1_6_survives_a_crash_of_containerd_and_is_cleaned_up() {
    a_pod_runs_survives_and_leaves_nothing(Line::V1_6).await;
}

#[tokio::test]
async fn a_pod_on_containerd_2_1_survives_a_crash_of_containerd_and_is_cleaned_up() {
    a_pod_runs_survives_and_leaves_nothing(Line::V2_1).await;
}

#[tokio::test]
async fn a_kept_run_goes_on_until_it_is_cleaned_by_its_folder() {
    let run = Run::new().unwrap();
    let containerd = Containerd::start(&run, Line::V2_1).unwrap();
    let (_, ip) = start_web_pod(connect(&containerd).await, &format!("/{}/pod1", run.name())).await;
    let (name, dir) = (run.name().to_owned(), run.dir().to_owned());
    run.keep().unwrap();
    drop(containerd);
    drop(run);
    assert!(get(&ip).contains("It runs."));
    clean(&dir).unwrap();
    assert_eq!(traces(&name, &dir), Vec::<String>::new());
}
