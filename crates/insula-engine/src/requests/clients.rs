//! Clients of the API: letting them in, and taking their access away. The clients themselves are [`crate::host::clients`].

use std::time::Duration;

use insula_store::Store;
use insula_types::{
    AccessChange, ClientCertificate, ClientId, ClientName, ClientRecord, EnrollmentToken, OperationKind,
    OperationRecord, Reason, Requester, Role, TenantName,
};

use crate::host::clients::{event, milliseconds};
use crate::model::asked::Asked;
use crate::{Engine, EngineError, now_ms};

/// How long a token can be used where nothing else is said.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long at most.
const MAX_TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A client about to be let in.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// What it is called.
    pub name: ClientName,
    /// What it may do.
    pub role: Role,
    /// Whose VPSes alone it may touch: with the role of a tenant, and only there.
    pub tenant: Option<TenantName>,
    /// How long its token can be used.
    pub token_life: Option<Duration>,
}

impl NewClient {
    fn check(&self) -> Result<(), EngineError> {
        let life = self.token_life.unwrap_or(TOKEN_LIFE);
        let taken = [Requester::root().name, Requester::agent().name];
        match (self.role, &self.tenant) {
            _ if taken.iter().any(|name| name == self.name.as_str()) => {
                Err(EngineError::invalid("name", format!("{} is not a client's name", self.name)))
            }
            (Role::Tenant, None) => Err(EngineError::invalid("tenant", "the role tenant needs a tenant")),
            (role, Some(_)) if role != Role::Tenant => {
                Err(EngineError::invalid("tenant", format!("the role {role} is not limited to a tenant")))
            }
            _ if life.is_zero() || life > MAX_TOKEN_LIFE => {
                Err(EngineError::invalid("time_to_live", "it must be more than nothing and at most 30 days"))
            }
            _ => Ok(()),
        }
    }

    fn record(self) -> ClientRecord {
        let now = now_ms();
        ClientRecord {
            id: ClientId::new(),
            name: self.name,
            role: self.role,
            tenant: self.tenant,
            created_at_ms: now,
            token_expires_at_ms: now.saturating_add(milliseconds(self.token_life.unwrap_or(TOKEN_LIFE))),
            enrolled_at_ms: None,
            revoked_at_ms: None,
            certificates: vec![],
        }
    }
}

impl Engine {
    /// The requester behind a connection with this certificate. `None` if the certificate is unknown, or no longer valid.
    pub fn requester_of(&self, fingerprint: &str, peer: &str) -> Option<Requester> {
        self.clients.requester_of(fingerprint, peer)
    }

    /// Until the certificate is no longer valid: its client was revoked, or it has expired.
    pub fn access_ended(&self, fingerprint: String) -> impl Future<Output = ()> + Send + 'static {
        self.clients.clone().access_ended(fingerprint)
    }

    /// All clients, and tokens that wait for theirs, by name.
    pub fn clients(&self, show_revoked: bool) -> Vec<ClientRecord> {
        self.clients.all(show_revoked)
    }

    /// Makes a client that waits for somebody with its token.
    pub async fn create_client(
        &self,
        asked: &Asked,
        new: NewClient,
    ) -> Result<(OperationRecord, ClientRecord), EngineError> {
        new.check()?;
        let record = self.once(asked, || self.insert_client(asked, new)).await?;
        let client = record.target.parse().ok().and_then(|id| self.clients.by_id(&id));
        let client = client.ok_or_else(|| EngineError::new(Reason::ClientNotFound, "the client is gone"))?;
        Ok((record, client))
    }

    async fn insert_client(&self, asked: &Asked, new: NewClient) -> Result<OperationRecord, EngineError> {
        let _changing = self.clients.changing.lock().await;
        if self.clients.has_name(&new.name) {
            let message = format!("a client {:?} already exists", new.name.as_str());
            return Err(EngineError::new(Reason::ClientExists, message)
                .hint("revoke it first, or choose another name"));
        }
        let client = new.record();
        let (kept, event) = (client.clone(), event(&client, AccessChange::TokenCreated, &asked.requester));
        let write =
            move |store: &Store, operation: &OperationRecord| store.insert_client(&kept, operation, &event);
        let (id, name) = (client.id.to_string(), client.name.clone());
        let record = self.at_once(asked, OperationKind::CreateAccessToken, id, name.as_str(), write).await?;
        self.clients.put(client);
        Ok(record)
    }

    /// The secret of a client's token. It is the same whenever it is asked for.
    pub fn token_secret(&self, client: &ClientId) -> [u8; 32] {
        self.clients.token_secret(client)
    }

    /// Enrolls the holder of the token, with a certificate that `issue` makes for the public key; `key` is the key's hash.
    /// The same token with the same key again is answered with the same certificate.
    pub async fn enroll_client(
        &self,
        token: &EnrollmentToken,
        key: &str,
        peer: &str,
        issue: impl FnOnce(&ClientRecord) -> Result<ClientCertificate, EngineError>,
    ) -> Result<(ClientRecord, ClientCertificate), EngineError> {
        self.clients.enroll(token, key, peer, issue).await
    }

    /// A new certificate for a client. With the key of its newest one, if that is young, that one again: a retry.
    pub async fn renew_certificate(
        &self,
        who: &Requester,
        key: &str,
        issue: impl FnOnce(&ClientRecord) -> Result<ClientCertificate, EngineError>,
    ) -> Result<ClientCertificate, EngineError> {
        self.clients.renew(who, key, issue).await
    }

    /// Takes the access of a client away, or its token, by name or id. It is known at once: calls of the client that are
    /// open end ([`Self::access_ended`]), and new ones are refused.
    pub async fn revoke_client(&self, asked: &Asked, client: &str) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let _changing = self.clients.changing.lock().await;
            let mut client = self.clients.active(client)?;
            let event = event(&client, AccessChange::Revoked, &asked.requester);
            let (id, at_ms) = (client.id, event.at_ms);
            let write = move |store: &Store, operation: &OperationRecord| {
                store.revoke_client(&id, at_ms, operation, &event)
            };
            let (kind, name) = (OperationKind::RevokeClient, client.name.clone());
            let record = self.at_once(asked, kind, id.to_string(), name.as_str(), write).await?;
            client.revoked_at_ms = Some(at_ms);
            self.clients.put(client);
            self.clients.tell_revocation();
            Ok(record)
        })
        .await
    }
}
