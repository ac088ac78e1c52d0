//! `SnapshotService`: snapshots.

use insula_api::convert::{parse, parse_optional};
use insula_api::v1;
use tonic::{Request, Response, Status};

use crate::services::{Caller, Shared};
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::snapshot_service_server::SnapshotService for Shared {
    async fn create_snapshot(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Answer<v1::CreateSnapshotResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let name = parse_optional("snapshot", &request.snapshot)?;
            engine.create_snapshot(&asked, &handle, name).await.map_err(status)
        })
        .await
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Answer<v1::ListSnapshotsResponse> {
        let (caller, name) = (Caller::of(&request)?, &request.get_ref().vps);
        let handle = caller.find(self.engine.vps(name), name)?;
        let snapshots = handle.snapshots().iter().map(Into::into).collect();
        Ok(Response::new(v1::ListSnapshotsResponse { snapshots }))
    }

    async fn restore_snapshot(
        &self,
        request: Request<v1::RestoreSnapshotRequest>,
    ) -> Answer<v1::RestoreSnapshotResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let name = parse("snapshot", &request.snapshot)?;
            engine.restore_snapshot(&asked, &handle, name).await.map_err(status)
        })
        .await
    }

    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Answer<v1::DeleteSnapshotResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let name = parse("snapshot", &request.snapshot)?;
            engine.delete_snapshot(&asked, &handle, name).await.map_err(status)
        })
        .await
    }
}
