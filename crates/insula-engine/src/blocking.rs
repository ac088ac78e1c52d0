//! Work that blocks, kept off the threads of tasks.

use crate::error::EngineError;

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(EngineError::internal(format!("failed to {doing}"), error)),
    }
}
