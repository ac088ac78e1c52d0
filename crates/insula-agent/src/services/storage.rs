//! `StorageService`: storage pools.

use insula_api::v1;
use insula_engine::PoolView;
use tonic::{Request, Response, Status};

use crate::services::Shared;
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::storage_service_server::StorageService for Shared {
    async fn get_pool(&self, request: Request<v1::GetPoolRequest>) -> Answer<v1::GetPoolResponse> {
        let pool = self.engine.pool_view(&request.get_ref().pool).await.map_err(status)?;
        Ok(Response::new(v1::GetPoolResponse { pool: Some(message(&pool)) }))
    }

    async fn list_pools(&self, _request: Request<v1::ListPoolsRequest>) -> Answer<v1::ListPoolsResponse> {
        let pools = self.engine.pool_views().await.map_err(status)?;
        Ok(Response::new(v1::ListPoolsResponse { pools: pools.iter().map(message).collect() }))
    }
}

fn message(pool: &PoolView) -> v1::Pool {
    v1::Pool {
        name: pool.name.to_string(),
        driver: pool.driver.to_owned(),
        path: pool.path.display().to_string(),
        total_bytes: pool.total.bytes(),
        used_bytes: pool.used.bytes(),
        free_bytes: pool.free.bytes(),
        quota: pool.quota.to_owned(),
    }
}
