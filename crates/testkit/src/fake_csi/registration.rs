//! The socket that the driver makes itself known by.

use std::path::PathBuf;
use std::sync::Arc;

use node_proto::pluginregistration::v1::registration_server::Registration as Service;
use node_proto::pluginregistration::v1::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use tonic::{Request, Response, Status};

use super::{Shared, lock};

pub(super) struct Registration {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: PathBuf,
}

#[tonic::async_trait]
impl Service for Registration {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        let options = &self.shared.options;
        Ok(Response::new(PluginInfo {
            r#type: options.kind.clone(),
            name: options.name.clone(),
            endpoint: self.endpoint.to_string_lossy().into_owned(),
            supported_versions: options.versions.clone(),
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        lock(&self.shared.statuses).push(request.into_inner());
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
