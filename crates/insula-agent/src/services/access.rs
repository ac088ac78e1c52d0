//! `AccessService`: clients, tokens and the audit log.

use insula_api::convert::{duration, parse, parse_optional, role};
use insula_api::{ApiError, Reason, v1};
use insula_engine::{AuditFilter, EngineError, NewClient};
use insula_types::{ClientCertificate, ClientRecord, EnrollmentToken};
use tonic::{Request, Response, Status};

use crate::pki::{CertificateRequest, Remote};
use crate::server::{PeerName, may_log_stranger};
use crate::services::mutation::{Mutation, asked};
use crate::services::page::{Page, Size};
use crate::services::{Caller, Shared, operation};
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::access_service_server::AccessService for Shared {
    async fn get_caller(&self, request: Request<v1::GetCallerRequest>) -> Answer<v1::GetCallerResponse> {
        let caller = Caller::of(&request)?.requester;
        Ok(Response::new(v1::GetCallerResponse {
            name: caller.name,
            role: v1::Role::from(caller.role).into(),
            tenant: caller.tenant.map(String::from).unwrap_or_default(),
            peer: caller.peer,
        }))
    }

    async fn create_access_token(
        &self,
        request: Request<v1::CreateAccessTokenRequest>,
    ) -> Answer<v1::CreateAccessTokenResponse> {
        let remote = self.remote()?;
        let asked = asked(&request)?;
        let new = new_client(request.into_inner())?;
        let (record, client) = self.engine.create_client(&asked, new).await.map_err(status)?;
        let token = EnrollmentToken {
            client: client.id,
            ca: remote.authority.fingerprint(),
            secret: self.engine.token_secret(&client.id),
            addresses: remote.addresses.clone(),
        };
        Ok(Response::new(v1::CreateAccessTokenResponse {
            operation: operation(&record, self.engine.host_id()),
            token: token.to_string(),
            client: Some((&client).into()),
        }))
    }

    async fn enroll_client(
        &self,
        request: Request<v1::EnrollClientRequest>,
    ) -> Answer<v1::EnrollClientResponse> {
        let remote = self.remote()?;
        let peer = request.extensions().get::<PeerName>().map(|peer| peer.0.clone()).unwrap_or_default();
        let v1::EnrollClientRequest { token, certificate_request } = request.into_inner();
        // The error does not repeat the text, which may be a token that was not copied completely.
        let token: EnrollmentToken =
            token.trim().parse().map_err(|error| ApiError::from_error(Reason::TokenRefused, &error))?;
        let wanted = certificate_request_of(&certificate_request)?;
        let key = wanted.key_fingerprint();
        let enrolled =
            self.engine.enroll_client(&token, &key, &peer, |client| issue(remote, client, wanted)).await;
        let (client, certificate) = enrolled
            .inspect_err(|error| {
                if may_log_stranger() {
                    tracing::info!(peer, client = %token.client, "no enrollment: {}", error.chain());
                }
            })
            .map_err(status)?;
        Ok(Response::new(v1::EnrollClientResponse {
            certificate: certificate.pem,
            ca_certificate: remote.authority.pem().to_owned(),
            client: Some((&client).into()),
        }))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Answer<v1::RenewCertificateResponse> {
        let remote = self.remote()?;
        let who = Caller::of(&request)?.requester;
        let wanted = certificate_request_of(&request.get_ref().certificate_request)?;
        let key = wanted.key_fingerprint();
        let renewed = self.engine.renew_certificate(&who, &key, |client| issue(remote, client, wanted)).await;
        Ok(Response::new(v1::RenewCertificateResponse {
            certificate: renewed.map_err(status)?.pem,
            ca_certificate: remote.authority.pem().to_owned(),
        }))
    }

    async fn list_clients(
        &self,
        request: Request<v1::ListClientsRequest>,
    ) -> Answer<v1::ListClientsResponse> {
        let clients = self.engine.clients(request.get_ref().show_revoked);
        let clients = clients.iter().map(Into::into).collect();
        Ok(Response::new(v1::ListClientsResponse { clients }))
    }

    async fn revoke_client(
        &self,
        request: Request<v1::RevokeClientRequest>,
    ) -> Answer<v1::RevokeClientResponse> {
        let asked = asked(&request)?;
        let client = &request.get_ref().client;
        let record = self.engine.revoke_client(&asked, client).await.map_err(status)?;
        Ok(Response::new(v1::RevokeClientResponse { operation: operation(&record, self.engine.host_id()) }))
    }

    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Answer<v1::ListAuditEntriesResponse> {
        let request = request.into_inner();
        let size = Size { usual: 100, most: 1000 };
        let page = Page::<u64>::read(request.page_size, &request.page_token, size)?;
        let filter = AuditFilter {
            before: page.after,
            count: page.count(),
            requester: Some(request.requester).filter(|name| !name.is_empty()),
            object: Some(request.object).filter(|object| !object.is_empty()),
        };
        let mut lines = self.engine.audit_entries(filter).await.map_err(status)?;
        let next_page_token = page.cut(&mut lines, |line| line.sequence);
        Ok(Response::new(v1::ListAuditEntriesResponse {
            entries: lines.iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn verify_audit_log(
        &self,
        _request: Request<v1::VerifyAuditLogRequest>,
    ) -> Answer<v1::VerifyAuditLogResponse> {
        let check = self.engine.verify_audit().await.map_err(status)?;
        Ok(Response::new(v1::VerifyAuditLogResponse {
            entries: check.entries,
            head: check.head,
            broken_at: check.broken_at,
        }))
    }
}

impl Mutation for v1::CreateAccessTokenRequest {
    type Answer = v1::CreateAccessTokenResponse;

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn answer(operation: v1::Operation) -> Self::Answer {
        v1::CreateAccessTokenResponse { operation: Some(operation), ..Default::default() }
    }
}

impl Mutation for v1::RevokeClientRequest {
    type Answer = v1::RevokeClientResponse;

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn answer(operation: v1::Operation) -> Self::Answer {
        v1::RevokeClientResponse { operation: Some(operation) }
    }
}

impl Shared {
    /// What is needed to create certificates and tokens.
    fn remote(&self) -> Result<&Remote, ApiError> {
        self.remote.as_deref().ok_or_else(|| {
            ApiError::new(Reason::FacilityMissing, "this agent does not listen on the network")
                .with_hint("set `listen` in agent.yaml, or start insulad with --listen ADDR:PORT")
        })
    }
}

fn new_client(request: v1::CreateAccessTokenRequest) -> Result<NewClient, ApiError> {
    let role = role(request.role());
    Ok(NewClient {
        name: parse("name", &request.name)?,
        role: role.ok_or_else(|| ApiError::invalid_field("role", "the role is missing or unknown"))?,
        tenant: parse_optional("tenant", &request.tenant)?,
        token_life: request.time_to_live.map(|time| duration("time_to_live", time)).transpose()?,
    })
}

fn certificate_request_of(pem: &str) -> Result<CertificateRequest, ApiError> {
    CertificateRequest::parse(pem).map_err(|wrong| {
        let rule = format!("expected a certificate signing request (PKCS #10) in PEM: {wrong}");
        ApiError::invalid_field("certificate_request", rule)
    })
}

fn issue(
    remote: &Remote,
    client: &ClientRecord,
    wanted: CertificateRequest,
) -> Result<ClientCertificate, EngineError> {
    let issued = remote.authority.issue_client(client, wanted, remote.certificate_life);
    issued.map_err(|error| EngineError::internal(format!("failed to enroll client {}", client.name), error))
}
