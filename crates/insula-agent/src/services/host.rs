//! `HostService`: the host and its abilities.

use insula_api::convert::timestamp;
use insula_api::v1;
use tonic::{Request, Response, Status};

use crate::services::Shared;

#[tonic::async_trait]
impl v1::host_service_server::HostService for Shared {
    async fn get_host(
        &self,
        _request: Request<v1::GetHostRequest>,
    ) -> Result<Response<v1::GetHostResponse>, Status> {
        let uname = rustix::system::uname();
        let vpses = self.engine.vpses();
        let running = vpses.iter().filter(|view| view.state.is_alive()).count();
        let host = v1::Host {
            id: self.engine.host_id().to_string(),
            name: uname.nodename().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            cgroup_mode: self.engine.cgroup_mode().to_owned(),
            apparmor: self.engine.apparmor().to_owned(),
            agent_start_time: Some(timestamp(self.engine.started_at())),
            vps_count: u32::try_from(vpses.len()).unwrap_or(u32::MAX),
            running_count: u32::try_from(running).unwrap_or(u32::MAX),
        };
        Ok(Response::new(v1::GetHostResponse { host: Some(host) }))
    }
}
