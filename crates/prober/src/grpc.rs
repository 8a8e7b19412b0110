//! gRPC probes: `grpc.health.v1.Health/Check` in plain text; `SERVING` is a success and everything else a failure
//! (upstream `pkg/probe/grpc`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::USER_AGENT;
use crate::attempt::Verdict;
use crate::dial::dial;
use crate::error::chain;

/// Asks for the health of `service` (empty: of the whole server). `limit` covers connecting and the call.
pub async fn probe(ip: IpAddr, port: u16, service: &str, limit: Duration) -> Verdict {
    let address = SocketAddr::new(ip, port).to_string();
    let deadline = Instant::now() + limit;
    let channel = match timeout_at(deadline, connect(ip, port, &address)).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(e)) => {
            return Verdict::Failure(format!(
                "error: failed to connect service at {address:?}: {}",
                chain(&*e)
            ));
        }
        Err(_) => {
            return Verdict::Failure(format!(
                "timeout: failed to connect service {address:?} within {limit:?}: context deadline exceeded"
            ));
        }
    };
    let request = HealthCheckRequest { service: service.to_owned() };
    match timeout_at(deadline, HealthClient::new(channel).check(request)).await {
        Err(_) => Verdict::Failure(format!("timeout: health rpc did not complete within {limit:?}")),
        Ok(Err(status)) => Verdict::Failure(describe(&status, limit)),
        Ok(Ok(answer)) => judge(answer.into_inner().status()),
    }
}

fn judge(status: ServingStatus) -> Verdict {
    match status {
        ServingStatus::Serving => Verdict::Success,
        other => Verdict::Failure(format!("service unhealthy (responded with {:?})", other.as_str_name())),
    }
}

fn describe(status: &Status, limit: Duration) -> String {
    match status.code() {
        Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        ),
        Code::DeadlineExceeded => format!("timeout: health rpc did not complete within {limit:?}"),
        code => {
            format!("error: health rpc probe failed: rpc error: code = {code:?} desc = {}", status.message())
        }
    }
}

type ConnectError = Box<dyn std::error::Error + Send + Sync>;

async fn connect(ip: IpAddr, port: u16, address: &str) -> Result<Channel, ConnectError> {
    let mut stream = Some(TokioIo::new(dial(&ip.to_string(), port).await?));
    let once = tower::service_fn(move |_| {
        let stream: Option<TokioIo<TcpStream>> = stream.take();
        // A probe is one connection: when it breaks, the probe has failed.
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.user_agent(USER_AGENT)?;
    Ok(endpoint.connect_with_connector(once).await?)
}

#[cfg(test)]
mod tests;
