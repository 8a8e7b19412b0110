//! The client against a runtime whose faults are on demand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::time::{Duration, Instant};

use cri_client::{Client, Code, ErrorKind, v1::*};
use testkit::fake_cri::{Code as Wire, FakeCri, Fault};

const SOON: Duration = Duration::from_millis(500);
const PATIENT: Duration = Duration::from_secs(30);

fn client(runtime: &FakeCri, request_timeout: Duration) -> Client {
    Client::builder(&runtime.endpoint()).unwrap().request_timeout(request_timeout).build()
}

fn sandbox(name: &str) -> RunPodSandboxRequest {
    let metadata = PodSandboxMetadata { name: name.into(), uid: format!("{name}-uid"), ..Default::default() };
    let labels = [("app".to_owned(), name.to_owned())].into();
    let config = PodSandboxConfig { metadata: Some(metadata), labels, ..Default::default() };
    RunPodSandboxRequest { config: Some(config), ..Default::default() }
}

async fn image(client: &Client) -> ImageSpec {
    let image = ImageSpec { image: "registry.example/web:1".into(), ..Default::default() };
    let request = PullImageRequest { image: Some(image), ..Default::default() };
    let image = client.pull_image(request).await.unwrap().image_ref;
    ImageSpec { image, ..Default::default() }
}

/// Calls until somebody answers again: the pause between attempts to connect is at most 3 s.
async fn answers_again(client: &Client) {
    let deadline = Instant::now() + PATIENT;
    while let Err(error) = client.version().await {
        assert!(matches!(error.kind(), ErrorKind::Unavailable { .. }), "{error}");
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_container_lives_from_sandbox_to_removal() {
    let runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime, PATIENT);
    let pod_sandbox_id = client.run_pod_sandbox(sandbox("web")).await.unwrap().pod_sandbox_id;
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "app".into(), attempt: 0 }),
        image: Some(image(&client).await),
        ..Default::default()
    };
    let create = CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(config),
        ..Default::default()
    };
    let container_id = client.create_container(create).await.unwrap().container_id;
    client.start_container(StartContainerRequest { container_id: container_id.clone() }).await.unwrap();

    let running = ContainerStateValue { state: ContainerState::ContainerRunning.into() };
    let filter = ContainerFilter { state: Some(running), ..Default::default() };
    let listed = client.list_containers(ListContainersRequest { filter: Some(filter) }).await.unwrap();
    assert_eq!(listed.containers.len(), 1);
    assert_eq!(listed.containers[0].pod_sandbox_id, pod_sandbox_id);

    let exec = ExecSyncRequest { container_id: container_id.clone(), timeout: 1, ..Default::default() };
    assert_eq!(client.exec_sync(exec).await.unwrap().exit_code, 0);
    let stop = StopContainerRequest { container_id: container_id.clone(), timeout: 30 };
    client.stop_container(stop).await.unwrap();
    let status = ContainerStatusRequest { container_id, verbose: false };
    let status = client.container_status(status).await.unwrap().status.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 143));

    client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
    assert!(runtime.containers().is_empty() && runtime.sandboxes().is_empty());
    assert_eq!(runtime.methods()[..2], ["RunPodSandbox", "PullImage"]);
}

#[tokio::test]
async fn a_list_in_parts_comes_back_whole() {
    let runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime, PATIENT);
    for name in ["a", "b", "c", "d", "e"] {
        client.run_pod_sandbox(sandbox(name)).await.unwrap();
    }
    let whole = client.stream_pod_sandboxes(StreamPodSandboxesRequest::default()).await.unwrap();
    let list = client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap();
    assert_eq!(whole.len(), 5);
    assert_eq!(whole, list.items);
}

#[tokio::test]
async fn a_hung_call_ends_at_its_deadline_and_others_go_on() {
    let runtime = FakeCri::start().await.unwrap();
    runtime.fault(Fault::Hang, |_: &ListContainersRequest| true);
    runtime.fault(Fault::Hang, |_: &RunPodSandboxRequest| true);
    let client = client(&runtime, SOON);

    let error = client.list_containers(ListContainersRequest::default()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DeadlineExceeded { after, .. } if *after >= SOON), "{error}");
    assert!(error.is_retryable());
    assert_eq!(error.method(), "ListContainers");
    assert!(error.to_string().contains(&runtime.endpoint()), "{error}");

    let start = Instant::now();
    let error = client.run_pod_sandbox(sandbox("web")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DeadlineExceeded { .. }), "{error}");
    assert!(start.elapsed() >= SOON * 2, "a sandbox has twice as long");
    // On a busy machine an answer may be late for so short a deadline.
    let mut version = client.version().await;
    while start.elapsed() < PATIENT
        && matches!(&version, Err(error) if matches!(error.kind(), ErrorKind::DeadlineExceeded { .. }))
    {
        version = client.version().await;
    }
    version.unwrap();
}

#[tokio::test]
async fn a_pull_outlives_the_request_timeout() {
    let runtime = FakeCri::start().await.unwrap();
    runtime.fault(Fault::Slow(SOON * 3), |_: &PullImageRequest| true);
    let client = client(&runtime, SOON);
    assert!(image(&client).await.image.starts_with("sha256:"));
}

#[tokio::test]
async fn dropping_a_call_cancels_it() {
    let runtime = FakeCri::start().await.unwrap();
    runtime.fault(Fault::Hang, |_: &PullImageRequest| true);
    let client = client(&runtime, PATIENT);
    let pull = tokio::spawn({
        let client = client.clone();
        async move { image(&client).await }
    });
    runtime.wait_for("the pull has arrived", |r| r.methods() == ["PullImage"]).await;
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    // The cancellation went first on the same connection, so the hung handler is gone before the fault is.
    client.version().await.unwrap();
    runtime.clear_faults();
    let images = client.list_images(ListImagesRequest::default()).await.unwrap().images;
    assert_eq!(images, [], "a cancelled pull must not finish");
}

#[tokio::test]
async fn failures_keep_their_kind_and_the_runtimes_whole_message() {
    let runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime, PATIENT);
    let long = format!("failed to start: {} end", "x".repeat(100_000));

    let status = ContainerStatusRequest { container_id: "none".into(), verbose: false };
    let error = client.container_status(status).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(error.message().contains("\"none\""), "{error}");

    let error = client.attach(AttachRequest::default()).await.unwrap_err();
    assert!(error.is_unimplemented() && !error.is_retryable(), "{error}");

    for (wire, code) in [
        (Wire::Unknown, Code::Unknown),
        (Wire::Internal, Code::Internal),
        (Wire::Cancelled, Code::Canceled),
        (Wire::FailedPrecondition, Code::FailedPrecondition),
    ] {
        runtime.fault_once(Fault::Fail(wire, long.clone()), |_: &StartContainerRequest| true);
        let error = client.start_container(StartContainerRequest::default()).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Runtime { code, message: long.clone() });
    }
}

#[tokio::test]
async fn a_large_answer_fits() {
    let runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime, PATIENT);
    let mut large = sandbox("large");
    let annotation = ("note".to_owned(), "x".repeat(8 << 20));
    large.config.as_mut().unwrap().annotations.extend([annotation]);
    client.run_pod_sandbox(large).await.unwrap();
    let list = client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap();
    assert_eq!(list.items[0].annotations["note"].len(), 8 << 20);
}

#[tokio::test]
async fn each_call_is_told_of_with_its_outcome() {
    let runtime = FakeCri::start().await.unwrap();
    let (outcomes, mut heard) = tokio::sync::mpsc::channel(2);
    let observe =
        move |method, took: Duration, failed| outcomes.try_send((method, took < PATIENT, failed)).unwrap();
    let client = Client::builder(&runtime.endpoint()).unwrap().observer(observe).build();
    client.list_images(ListImagesRequest::default()).await.unwrap();
    let unknown = StartContainerRequest { container_id: "unknown".to_owned() };
    client.start_container(unknown).await.unwrap_err();
    assert_eq!(heard.recv().await, Some(("ListImages", true, false)));
    assert_eq!(heard.recv().await, Some(("StartContainer", true, true)));
}

#[tokio::test]
async fn without_a_runtime_calls_fail_at_once_and_name_the_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.sock");
    let client = Client::builder(path.to_str().unwrap()).unwrap().build();
    let start = Instant::now();
    for _ in 0..50 {
        let error = client.status(StatusRequest::default()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.message().starts_with("cannot connect: No such file"), "{error}");
        assert!(!error.message().contains("transport error"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_restarted_runtime_is_found_again() {
    let mut runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime, PATIENT);
    client.run_pod_sandbox(sandbox("web")).await.unwrap();

    runtime.stop().await;
    let error = client.version().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable { .. }), "{error}");

    runtime.start_again().await.unwrap();
    answers_again(&client).await;
    let list = client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap();
    assert_eq!(list.items.len(), 1);
}

#[tokio::test]
async fn a_call_whose_connection_breaks_is_unavailable() {
    let runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime, PATIENT);
    runtime.fault_once(Fault::Disconnect, |_: &StopContainerRequest| true);
    let error = client.stop_container(StopContainerRequest::default()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable { .. }), "{error:?}");
    answers_again(&client).await;
}

#[tokio::test]
async fn what_is_no_cri_v1_runtime_is_refused_by_the_handshake() {
    let runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime, PATIENT);
    assert_eq!(client.version().await.unwrap().runtime_api_version, "v1");
    assert_eq!(runtime.calls_of::<VersionRequest>()[0].version, "0.1.0");

    let unknown = "unknown service runtime.v1.RuntimeService";
    runtime.fault_once(Fault::Fail(Wire::Unimplemented, unknown.into()), |_: &VersionRequest| true);
    let error = client.version().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Incompatible { .. }), "{error:?}");
    assert!(error.to_string().contains("no CRI v1 runtime"), "{error}");
    assert!(error.to_string().contains(unknown), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn images_may_have_an_endpoint_of_their_own() {
    let (runtime, images) = (FakeCri::start().await.unwrap(), FakeCri::start().await.unwrap());
    let builder = Client::builder(&runtime.endpoint()).unwrap();
    let client = builder.image_endpoint(&images.endpoint()).unwrap().build();
    image(&client).await;
    client.version().await.unwrap();
    assert_eq!(images.methods(), ["PullImage"]);
    assert_eq!(runtime.methods(), ["Version"]);

    images.fault(Fault::Fail(Wire::Unknown, "disk full".into()), |_: &ImageFsInfoRequest| true);
    let error = client.image_fs_info(ImageFsInfoRequest {}).await.unwrap_err();
    assert_eq!(error.endpoint().to_string(), images.endpoint());
}

#[tokio::test]
async fn a_waiting_call_is_small_in_its_callers_task() {
    let runtime = FakeCri::start().await.unwrap();
    let client = client(&runtime, PATIENT);
    let size = size_of_val(&client.create_container(CreateContainerRequest::default()));
    assert!(size < 1 << 10, "{size} bytes");
}

/// A runtime is reached by whatever the connector gives: TCP, or a pipe within the process.
#[tokio::test]
async fn a_connector_of_ones_own_reaches_the_runtime_and_names_it_in_errors() {
    let runtime = FakeCri::start().await.unwrap();
    let socket = runtime.endpoint().trim_start_matches("unix://").to_owned();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let path = socket.clone();
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = tokio::net::UnixStream::connect(&path).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
        }
    });
    let tcp = Client::connector(format!("tcp://{address}"), move || tokio::net::TcpStream::connect(address))
        .build();
    tcp.version().await.unwrap();

    let in_process = Client::connector("in-process", move || {
        let (here, mut there) = tokio::io::duplex(64 << 10);
        let path = socket.clone();
        tokio::spawn(async move {
            let mut runtime = tokio::net::UnixStream::connect(path).await.unwrap();
            tokio::io::copy_bidirectional(&mut there, &mut runtime).await
        });
        async { Ok(here) }
    });
    in_process.build().run_pod_sandbox(sandbox("web")).await.unwrap();

    let nobody = Client::connector("nobody", || async {
        Err::<tokio::io::DuplexStream, _>(std::io::Error::other("no way"))
    });
    let error = nobody.build().version().await.unwrap_err();
    assert_eq!(error.to_string(), "Version on nobody: runtime unavailable: cannot connect: no way");
}
