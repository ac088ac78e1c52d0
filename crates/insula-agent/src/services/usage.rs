//! `UsageService`: what VPSes use.

use insula_api::convert::timestamp_ms;
use insula_api::v1;
use insula_engine::Usage;
use insula_types::ByteSize;
use tonic::{Request, Response, Status};

use crate::services::{Caller, Shared};
use crate::status::status;

#[tonic::async_trait]
impl v1::usage_service_server::UsageService for Shared {
    async fn get_usage(
        &self,
        request: Request<v1::GetUsageRequest>,
    ) -> Result<Response<v1::GetUsageResponse>, Status> {
        let (caller, name) = (Caller::of(&request)?, &request.get_ref().vps);
        let handle = caller.find(self.engine.vps(name), name)?;
        let usage = self.engine.usage(vec![handle]).await.map_err(status)?;
        Ok(Response::new(v1::GetUsageResponse { usage: usage.first().map(message) }))
    }

    async fn list_usage(
        &self,
        request: Request<v1::ListUsageRequest>,
    ) -> Result<Response<v1::ListUsageResponse>, Status> {
        let tenant = Caller::of(&request)?.within_or(&request.get_ref().tenant)?;
        let mut handles = self.engine.handles();
        handles.retain(|handle| tenant.is_none() || handle.spec().tenant == tenant);
        let usage = self.engine.usage(handles).await.map_err(status)?;
        Ok(Response::new(v1::ListUsageResponse { usage: usage.iter().map(message).collect() }))
    }
}

fn message(usage: &Usage) -> v1::VpsUsage {
    let limit = |limit: Option<ByteSize>| limit.map_or(0, ByteSize::bytes);
    v1::VpsUsage {
        vps: usage.spec.id.to_string(),
        vps_name: usage.spec.name.to_string(),
        tenant: usage.spec.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
        memory_bytes: usage.memory_bytes,
        memory_limit_bytes: limit(usage.spec.limits.memory),
        cpu_ns: usage.cpu_ns,
        processes: usage.processes,
        disk_bytes: usage.disk_bytes,
        disk_limit_bytes: limit(usage.spec.limits.disk),
        received_bytes: usage.received_bytes,
        sent_bytes: usage.sent_bytes,
        time: Some(timestamp_ms(usage.at_ms)),
    }
}
