//! Requests that change something: the caller, the id that makes a retry safe, and requests that
//! are only validated.

use insula_api::convert::parse_optional;
use insula_api::v1;
use insula_engine::{Asked, Engine};
use insula_types::OperationRecord;
use prost::{Message, Name};
use tonic::{Request, Response, Status};

use super::{Caller, Shared};
use crate::status::status;

/// A request that changes something.
pub trait Mutation: Message + Name + Clone + Send + 'static {
    /// The message of the response.
    type Answer;

    /// The client's id for the request, which makes a retry safe.
    fn request_id(&self) -> &str;
    /// The etag that the client has seen. Empty if it does not care.
    fn etag(&self) -> &str {
        ""
    }
    /// Whether the request is only validated, and nothing is done.
    fn validate_only(&self) -> bool {
        false
    }
    /// The response with this operation.
    fn answer(operation: v1::Operation) -> Self::Answer;
}

/// `Method: fields` implements [`Mutation`] for `v1::MethodRequest`, which has these fields besides
/// its request id, and whose response `v1::MethodResponse` has an operation.
macro_rules! mutations {
    ($($request:ident, $response:ident: $($field:ident)*;)*) => {$(
        impl Mutation for v1::$request {
            type Answer = v1::$response;

            fn request_id(&self) -> &str {
                &self.request_id
            }

            $(mutations!(@field $field);)*

            fn answer(operation: v1::Operation) -> Self::Answer {
                v1::$response { operation: Some(operation) }
            }
        }
    )*};
    (@field etag) => {
        fn etag(&self) -> &str {
            &self.etag
        }
    };
    (@field validate_only) => {
        fn validate_only(&self) -> bool {
            self.validate_only
        }
    };
}

mutations! {
    CreateVpsRequest, CreateVpsResponse: validate_only;
    CloneVpsRequest, CloneVpsResponse: validate_only;
    UpdateVpsRequest, UpdateVpsResponse: etag validate_only;
    RenameVpsRequest, RenameVpsResponse: etag validate_only;
    DeleteVpsRequest, DeleteVpsResponse: etag validate_only;
    UndeleteVpsRequest, UndeleteVpsResponse: validate_only;
    RebuildVpsRequest, RebuildVpsResponse: etag validate_only;
    StartVpsRequest, StartVpsResponse: validate_only;
    StopVpsRequest, StopVpsResponse: validate_only;
    RestartVpsRequest, RestartVpsResponse: validate_only;
    PauseVpsRequest, PauseVpsResponse: validate_only;
    ResumeVpsRequest, ResumeVpsResponse: validate_only;
    SuspendVpsRequest, SuspendVpsResponse: etag validate_only;
    UnsuspendVpsRequest, UnsuspendVpsResponse: etag validate_only;
    SetVpsPasswordRequest, SetVpsPasswordResponse: validate_only;
    ChangeVpsSshKeysRequest, ChangeVpsSshKeysResponse: validate_only;
    CreateSnapshotRequest, CreateSnapshotResponse: validate_only;
    RestoreSnapshotRequest, RestoreSnapshotResponse: validate_only;
    DeleteSnapshotRequest, DeleteSnapshotResponse: validate_only;
    BuildImageRequest, BuildImageResponse:;
    SetImageAliasRequest, SetImageAliasResponse:;
    DeleteImageAliasRequest, DeleteImageAliasResponse:;
    DeleteImageRequest, DeleteImageResponse:;
    CreateProfileRequest, CreateProfileResponse: validate_only;
    DeleteProfileRequest, DeleteProfileResponse: etag validate_only;
}

impl Mutation for v1::UpdateProfileRequest {
    type Answer = v1::UpdateProfileResponse;

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn etag(&self) -> &str {
        self.profile.as_ref().map_or("", |profile| &profile.etag)
    }

    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn answer(operation: v1::Operation) -> Self::Answer {
        v1::UpdateProfileResponse { operation: Some(operation) }
    }
}

/// The caller and its request, with everything that makes a retry equal to the first try.
pub fn asked<M: Mutation>(request: &Request<M>) -> Result<Asked, Status> {
    let message = request.get_ref();
    let mut body = M::full_name().into_bytes();
    body.extend(message.encode_to_vec());
    Ok(Asked {
        requester: Caller::of(request)?.requester,
        request_id: parse_optional("request_id", message.request_id())?,
        body,
        etag: Some(message.etag().to_owned()).filter(|etag| !etag.is_empty()),
        validate_only: message.validate_only(),
    })
}

impl Shared {
    /// Acts on a request. A retry is answered with the result of the first try, even if the object
    /// of the request no longer exists. The guard in front of all services sees to it that the work
    /// goes on when the client goes away.
    pub async fn mutate<M, F>(
        &self,
        request: Request<M>,
        act: impl FnOnce(Engine, Caller, Asked, M) -> F,
    ) -> Result<Response<M::Answer>, Status>
    where
        M: Mutation,
        F: Future<Output = Result<OperationRecord, Status>>,
    {
        let (caller, asked) = (Caller::of(&request)?, asked(&request)?);
        let engine = &self.engine;
        let record = match engine.asked_before(&asked).await.map_err(status)? {
            Some(record) => record,
            None => match act(engine.clone(), caller, asked.clone(), request.into_inner()).await {
                // The first try may have been in progress then, and may have removed the object
                // that this one looked for.
                Err(error) => engine.asked_before(&asked).await.ok().flatten().ok_or(error)?,
                Ok(record) => record,
            },
        };
        let mut operation =
            v1::Operation { host: engine.host_id().to_string(), ..v1::Operation::from(&record) };
        if asked.validate_only {
            operation.id.clear();
            operation.state = v1::operation::State::Succeeded.into();
            operation.message = "the request is valid".to_owned();
        }
        Ok(Response::new(M::answer(operation)))
    }
}
