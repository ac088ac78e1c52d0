//! Calls of the agent's methods, and the operations that they start.

use insula_api::{ApiError, Reason, v1};
use tonic::Status;
use v1::operation::State;

use crate::host::ScratchHost;

/// Calls a method of a host's agent: `call!(host, vps.get_vps(request))`.
#[macro_export]
macro_rules! call {
    ($host:expr, $service:ident.$method:ident($request:expr)) => {{
        let mut service = $host.client().$service();
        $host.block_on(service.$method($request)).map(|answer| answer.into_inner())
    }};
}

/// Calls a method that starts an operation. Returns the operation, which must succeed.
#[macro_export]
macro_rules! done {
    ($host:expr, $service:ident.$method:ident($request:expr)) => {{
        let answer = $crate::call!($host, $service.$method($request));
        $host.succeeded(answer.unwrap_or_else(|status| panic!("{status}")).operation)
    }};
}

impl ScratchHost {
    /// Waits until an operation has ended.
    #[track_caller]
    pub fn over(&self, operation: Option<v1::Operation>) -> v1::Operation {
        let id = operation.expect("an answer with an operation").id;
        let request = v1::WaitOperationRequest { id, timeout: None };
        let answer = call!(self, operations.wait_operation(request));
        answer.unwrap_or_else(|status| panic!("{status}")).operation.expect("an operation")
    }

    /// Waits until an operation has ended, which must have succeeded.
    #[track_caller]
    pub fn succeeded(&self, operation: Option<v1::Operation>) -> v1::Operation {
        let operation = self.over(operation);
        assert_eq!(operation.state(), State::Succeeded, "{operation:#?}");
        operation
    }
}

/// Why a call was refused or an operation failed: a reason of the table of errors.
#[track_caller]
pub fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> Reason {
    let status = result.expect_err("it was to be refused");
    ApiError::from(&status).reason().unwrap_or_else(|| panic!("no reason of ours: {status:?}"))
}

/// Why an operation failed.
#[track_caller]
pub fn failure(operation: &v1::Operation) -> Reason {
    assert_eq!(operation.state(), State::Failed, "{operation:#?}");
    let error = operation.error.as_ref().map(ApiError::from);
    error.and_then(|error| error.reason()).unwrap_or_else(|| panic!("no reason of ours: {operation:#?}"))
}
