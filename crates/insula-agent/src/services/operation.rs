//! `OperationService`: operations, and waiting for them.

use std::pin::Pin;

use futures::Stream;
use insula_api::convert::{duration, parse};
use insula_api::v1;
use insula_engine::OperationFilter;
use insula_types::{HostId, OperationId, OperationRecord, VpsId};
use tonic::{Request, Response, Status};

use crate::services::page::{Page, Size};
use crate::services::{Caller, Shared, agent_ends, operation};
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;

impl Shared {
    /// Finds an operation that the caller may see.
    async fn operation(&self, caller: &Caller, id: OperationId) -> Result<OperationRecord, Status> {
        let record = self.engine.operation(id).await.map_err(status)?;
        caller.find_operation(id, record)
    }

    /// The target of operations about a VPS. A VPS that has been removed for good is known only by
    /// its id.
    fn target(&self, caller: &Caller, name: &str) -> Result<String, Status> {
        match (caller.find(self.engine.vps_or_deleted(name), name), name.parse::<VpsId>()) {
            (Ok(handle), _) => Ok(handle.id.to_string()),
            (Err(_), Ok(id)) => Ok(id.to_string()),
            (Err(error), Err(_)) => Err(error),
        }
    }
}

#[tonic::async_trait]
impl v1::operation_service_server::OperationService for Shared {
    type WatchOperationStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchOperationResponse, Status>> + Send>>;

    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Answer<v1::GetOperationResponse> {
        let caller = Caller::of(&request)?;
        let id = parse("id", &request.get_ref().id)?;
        let record = self.operation(&caller, id).await?;
        Ok(Response::new(v1::GetOperationResponse { operation: operation(&record, self.engine.host_id()) }))
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Answer<v1::ListOperationsResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let target = match &*request.vps {
            "" => None,
            name => Some(self.target(&caller, name)?),
        };
        let size = Size { usual: 50, most: 1000 };
        let page = Page::<OperationId>::read(request.page_size, &request.page_token, size)?;
        let filter = OperationFilter {
            before: page.after,
            count: page.count(),
            target,
            tenant: caller.within().cloned(),
            unfinished: request.unfinished,
        };
        let mut operations = self.engine.operations(filter).await.map_err(status)?;
        let next_page_token = page.cut(&mut operations, |record| record.id);
        let host = self.engine.host_id();
        let operations = operations.iter().filter_map(|record| operation(record, host)).collect();
        Ok(Response::new(v1::ListOperationsResponse { operations, next_page_token }))
    }

    async fn wait_operation(
        &self,
        request: Request<v1::WaitOperationRequest>,
    ) -> Answer<v1::WaitOperationResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = parse("id", &request.id)?;
        self.operation(&caller, id).await?;
        let timeout = request.timeout.map(|timeout| duration("timeout", timeout)).transpose()?;
        let record = tokio::select! {
            record = self.engine.wait_operation(id, timeout) => record.map_err(status)?,
            () = self.ended() => return Err(agent_ends()),
        };
        Ok(Response::new(v1::WaitOperationResponse { operation: operation(&record, self.engine.host_id()) }))
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Answer<v1::CancelOperationResponse> {
        let caller = Caller::of(&request)?;
        let id = parse("id", &request.get_ref().id)?;
        self.operation(&caller, id).await?;
        let record = self.engine.cancel_operation(&caller.requester, id).await.map_err(status)?;
        Ok(Response::new(v1::CancelOperationResponse {
            operation: operation(&record, self.engine.host_id()),
        }))
    }

    async fn watch_operation(
        &self,
        request: Request<v1::WatchOperationRequest>,
    ) -> Answer<Self::WatchOperationStream> {
        let caller = Caller::of(&request)?;
        let id: OperationId = parse("id", &request.get_ref().id)?;
        let record = self.operation(&caller, id).await?;
        let host = self.engine.host_id();
        let Some(mut watch) = self.engine.watch_operation(&id) else {
            return Ok(Response::new(Box::pin(futures::stream::iter([Ok(message(&record, host))]))));
        };
        let ended = self.ended();
        let stream = async_stream::stream! {
            tokio::pin!(ended);
            loop {
                let record = watch.borrow_and_update().clone();
                yield Ok(message(&record, host));
                if record.state.is_final() {
                    break;
                }
                tokio::select! {
                    changed = watch.changed() => if changed.is_err() { break },
                    () = &mut ended => {
                        yield Err(agent_ends());
                        break;
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }
}

fn message(record: &OperationRecord, host: HostId) -> v1::WatchOperationResponse {
    v1::WatchOperationResponse { operation: operation(record, host) }
}
