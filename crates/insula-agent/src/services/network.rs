//! `NetworkService`: networks.

use insula_api::v1;
use insula_engine::NetworkView;
use tonic::{Request, Response, Status};

use crate::services::Shared;
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::network_service_server::NetworkService for Shared {
    async fn get_network(&self, request: Request<v1::GetNetworkRequest>) -> Answer<v1::GetNetworkResponse> {
        let name = self.engine.network(&request.get_ref().network).map_err(status)?.name.clone();
        let networks = self.engine.networks().await.map_err(status)?;
        let found = networks.iter().find(|network| network.spec.name == name).map(message);
        Ok(Response::new(v1::GetNetworkResponse { network: found }))
    }

    async fn list_networks(
        &self,
        _request: Request<v1::ListNetworksRequest>,
    ) -> Answer<v1::ListNetworksResponse> {
        let networks = self.engine.networks().await.map_err(status)?;
        Ok(Response::new(v1::ListNetworksResponse { networks: networks.iter().map(message).collect() }))
    }
}

fn message(network: &NetworkView) -> v1::Network {
    v1::Network {
        name: network.spec.name.to_string(),
        bridge: network.spec.attachment.bridge().map(ToString::to_string).unwrap_or_default(),
        subnet: network.spec.subnet.to_string(),
        gateway: network.spec.gateway().to_string(),
        assigned_addresses: network.assigned,
        assignable_addresses: network.assignable,
    }
}
