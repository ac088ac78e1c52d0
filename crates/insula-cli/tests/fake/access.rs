//! The fake agent's `AccessService`: it knows the caller and the audit log, and creates tokens.

use insula_api::v1::access_service_server::AccessService;

use super::*;

#[tonic::async_trait]
impl AccessService for Fake {
    unasked! {
        enroll_client: EnrollClientRequest -> EnrollClientResponse;
        renew_certificate: RenewCertificateRequest -> RenewCertificateResponse;
        list_clients: ListClientsRequest -> ListClientsResponse;
        revoke_client: RevokeClientRequest -> RevokeClientResponse;
    }

    async fn get_caller(&self, _: Request<GetCallerRequest>) -> Answer<GetCallerResponse> {
        let (name, peer) = ("root".into(), "unix".into());
        let role = Role::SuperAdmin.into();
        Ok(Response::new(GetCallerResponse { name, role, peer, tenant: String::new() }))
    }

    async fn create_access_token(
        &self,
        request: Request<CreateAccessTokenRequest>,
    ) -> Answer<CreateAccessTokenResponse> {
        let request = request.into_inner();
        let client = AccessClient { name: request.name, role: request.role, ..Default::default() };
        let (operation, token) = (Some(operation("panel", 100)), "insula1-token".into());
        Ok(Response::new(CreateAccessTokenResponse { operation, token, client: Some(client) }))
    }

    async fn list_audit_entries(
        &self,
        _: Request<ListAuditEntriesRequest>,
    ) -> Answer<ListAuditEntriesResponse> {
        let entry = AuditEntry { sequence: 7, requester: "panel".into(), ..Default::default() };
        Ok(Response::new(ListAuditEntriesResponse { entries: vec![entry], ..Default::default() }))
    }

    async fn verify_audit_log(&self, _: Request<VerifyAuditLogRequest>) -> Answer<VerifyAuditLogResponse> {
        let (entries, head, broken_at) = (9, "abc".into(), Some(4));
        Ok(Response::new(VerifyAuditLogResponse { entries, head, broken_at }))
    }
}
