//! The few questions that the harness itself asks the runtime; what is tested uses `cri-client`.

use std::path::Path;
use std::time::Duration;

use node_proto::cri::v1::image_service_client::ImageServiceClient;
use node_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use node_proto::cri::v1::{ImageSpec, ImageStatusRequest, ListPodSandboxRequest, StatusRequest};
use tonic::transport::{Channel, Endpoint};

/// Whether the runtime serves, its network is ready and it knows the images; else what is missing.
pub(crate) fn ready(socket: &Path, images: &[&str]) -> Result<(), String> {
    // A thread of its own: the caller may be inside an async test.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(|e| e.to_string())?.block_on(ask(socket, images))
            })
            .join()
            .unwrap_or_else(|_| Err("the question panicked".to_owned()))
    })
}

async fn ask(socket: &Path, images: &[&str]) -> Result<(), String> {
    let said = |status: tonic::Status| status.message().to_owned();
    let channel = connect(socket).await?;
    let mut runtime = RuntimeServiceClient::new(channel.clone());
    let status = runtime.status(StatusRequest::default()).await.map_err(said)?.into_inner().status;
    // Other conditions, such as a use of deprecated settings, do not keep pods from starting.
    let needed = |name: &str| ["RuntimeReady", "NetworkReady"].contains(&name);
    let conditions = status.unwrap_or_default().conditions;
    if let Some(condition) = conditions.iter().find(|c| needed(&c.r#type) && !c.status) {
        return Err(format!("{}: {} {}", condition.r#type, condition.reason, condition.message));
    }
    // Answers only once the service has recovered its state.
    runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.map_err(said)?;
    for name in images {
        let spec = ImageSpec { image: (*name).to_owned(), ..ImageSpec::default() };
        let request = ImageStatusRequest { image: Some(spec), verbose: false };
        let answer = ImageServiceClient::new(channel.clone()).image_status(request).await.map_err(said)?;
        if answer.into_inner().image.is_none() {
            return Err(format!("no image {name} yet"));
        }
    }
    Ok(())
}

async fn connect(socket: &Path) -> Result<Channel, String> {
    Endpoint::from_shared(format!("unix://{}", socket.display()))
        .map_err(|e| e.to_string())?
        .timeout(Duration::from_secs(5))
        .connect()
        .await
        .map_err(|e| format!("no connection to {}: {e}", socket.display()))
}
