//! Turns errors of the engine into errors of the API.

use insula_api::{ApiError, Reason};
use insula_engine::EngineError;
use tonic::Status;

/// The error for a client: reason, chain, hint, and the invalid field.
pub fn api_error(error: &EngineError) -> ApiError {
    let mut found = ApiError::from_error(error.reason(), error);
    if let Some(field) = error.field() {
        found.fields = ApiError::invalid_field(field, error.chain()).fields;
    }
    if matches!(error.reason(), Reason::VpsNotRunning | Reason::VpsRunning | Reason::VpsPaused) {
        found = found.with_precondition("STATE", "vps", error.to_string());
    }
    match error.hint_text() {
        Some(hint) => found.with_hint(hint),
        None => found,
    }
}

/// The error for a client, as a gRPC status.
pub fn status(error: EngineError) -> Status {
    if error.reason() == Reason::Internal {
        tracing::error!("{}", error.chain());
    }
    api_error(&error).into()
}
