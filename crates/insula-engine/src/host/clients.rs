//! Clients of the API over the network: how they enroll, and how their access ends. [`Clients`] owns them
//! in memory. How a client is let in or revoked on request is in [`crate::requests::clients`].
//!
//! ```text
//! token made ──> enrolled ──> revoked
//!     └── revoked, or expired ──^
//! ```
//!
//! A client is known by the SHA-256 of its certificate. All clients are in memory, as the database has them, so that a
//! call costs no query. A caller that changes one holds `changing`, and writes the database first and then the memory.
//! The secret of a token is kept nowhere: it is a keyed hash of the client's id. Certificates are made by the caller;
//! this file must not look into them, nor decide what a role may do.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use hmac::{Hmac, Mac};
use insula_types::{
    AccessChange, AuditEntry, ClientCertificate, ClientId, ClientName, ClientRecord, EnrollmentToken, Event,
    EventBody, Reason, Requester,
};
use sha2::Sha256;
use tokio::sync::watch;

use crate::host::database::Database;
use crate::{EngineError, now_ms};

/// How many certificates of one client may live at a time.
const MAX_CERTIFICATES: usize = 16;

/// All clients, in memory.
#[derive(Debug)]
pub(crate) struct Clients {
    store: Database,
    /// Of this host: what the tokens are made with.
    secret: [u8; 32],
    /// How long a new certificate is good.
    certificate_life: Duration,
    registry: RwLock<Registry>,
    /// Held while a client is made or changed.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Told when a client was revoked.
    revocations: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Registry {
    clients: BTreeMap<ClientId, ClientRecord>,
    /// The client of each certificate, by the certificate's fingerprint.
    holders: HashMap<String, ClientId>,
}

impl Registry {
    fn put(&mut self, client: ClientRecord) {
        for certificate in &client.certificates {
            self.holders.insert(certificate.fingerprint.clone(), client.id);
        }
        self.clients.insert(client.id, client);
    }

    fn by_name(&self, name: &str) -> Option<&ClientRecord> {
        let mut active = self.clients.values().filter(|client| client.revoked_at_ms.is_none());
        active.find(|client| client.name.as_str() == name)
    }

    /// The client whose certificate this is, while it is good; and until when.
    fn holder(&self, fingerprint: &str) -> Option<(&ClientRecord, i64)> {
        let client = self.clients.get(self.holders.get(fingerprint)?)?;
        let certificate = client.certificates.iter().find(|known| known.fingerprint == fingerprint)?;
        let good = client.revoked_at_ms.is_none() && now_ms() < certificate.expires_at_ms;
        good.then_some((client, certificate.expires_at_ms))
    }
}

impl Clients {
    /// The clients that the database has.
    pub(crate) fn load(store: Database, certificate_life: Duration) -> Result<Self, EngineError> {
        let mut registry = Registry::default();
        store.clients()?.into_iter().for_each(|client| registry.put(client));
        Ok(Self {
            secret: store.secret(),
            store,
            certificate_life,
            registry: RwLock::new(registry),
            changing: tokio::sync::Mutex::new(()),
            revocations: watch::Sender::new(()),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a client as it is in the database by now.
    pub(crate) fn put(&self, client: ClientRecord) {
        self.registry.write().unwrap_or_else(PoisonError::into_inner).put(client);
    }

    /// The requester behind a connection with this certificate. `None` if the certificate is unknown, or no longer valid.
    pub(crate) fn requester_of(&self, fingerprint: &str, peer: &str) -> Option<Requester> {
        let registry = self.read();
        let (client, _) = registry.holder(fingerprint)?;
        Some(requester(client, peer))
    }

    /// Until the certificate is no longer valid: its client was revoked, or it has expired.
    pub(crate) async fn access_ended(self: Arc<Self>, fingerprint: String) {
        let mut revocations = self.revocations.subscribe();
        loop {
            let until = self.read().holder(&fingerprint).map(|(_, until)| until);
            let Some(until) = until else { return };
            let left = Duration::from_millis((until - now_ms()).max(0).unsigned_abs());
            // Gone senders end with the engine, and then so do all calls.
            let _ = tokio::time::timeout(left, revocations.changed()).await;
        }
    }

    /// All clients, and tokens that wait for theirs, by name.
    pub(crate) fn all(&self, show_revoked: bool) -> Vec<ClientRecord> {
        let registry = self.read();
        let shown = registry.clients.values().filter(|client| show_revoked || client.revoked_at_ms.is_none());
        let mut clients: Vec<_> = shown.cloned().collect();
        clients.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        clients
    }

    /// The client of this id.
    pub(crate) fn by_id(&self, id: &ClientId) -> Option<ClientRecord> {
        self.read().clients.get(id).cloned()
    }

    /// Whether a client that has access, or a token for it, has this name.
    pub(crate) fn has_name(&self, name: &ClientName) -> bool {
        self.read().by_name(name.as_str()).is_some()
    }

    /// Ends the calls of a client that has been revoked.
    pub(crate) fn tell_revocation(&self) {
        self.revocations.send_replace(());
    }

    /// The client that somebody means by a name or an id, while it has access.
    pub(crate) fn active(&self, reference: &str) -> Result<ClientRecord, EngineError> {
        let registry = self.read();
        let by_id = reference.parse().ok().and_then(|id: ClientId| registry.clients.get(&id));
        let found = registry.by_name(reference).or(by_id).filter(|client| client.revoked_at_ms.is_none());
        found.cloned().ok_or_else(|| {
            let shown: String = reference.chars().take(80).collect();
            EngineError::new(Reason::ClientNotFound, format!("there is no client {shown:?}"))
        })
    }

    /// The secret of a client's token. It is the same whenever it is asked for.
    pub(crate) fn token_secret(&self, client: &ClientId) -> [u8; 32] {
        self.token_mac(client).finalize().into_bytes().into()
    }

    fn token_mac(&self, client: &ClientId) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("a key of any length will do");
        mac.update(b"insula enrollment token\0");
        mac.update(client.as_bytes());
        mac
    }

    /// Enrolls the holder of the token, with a certificate that `issue` makes for the public key; `key` is the key's hash.
    /// The same token with the same key again is answered with the same certificate.
    pub(crate) async fn enroll(
        &self,
        token: &EnrollmentToken,
        key: &str,
        peer: &str,
        issue: impl FnOnce(&ClientRecord) -> Result<ClientCertificate, EngineError>,
    ) -> Result<(ClientRecord, ClientCertificate), EngineError> {
        self.token_mac(&token.client).verify_slice(&token.secret).map_err(|_| token_refused())?;
        let _changing = self.changing.lock().await;
        let client = self.read().clients.get(&token.client).cloned().ok_or_else(token_refused)?;
        let waits = client.enrolled_at_ms.is_none() && now_ms() < client.token_expires_at_ms;
        let is_same = |known: &&ClientCertificate| known.key == key && now_ms() < known.expires_at_ms;
        let same = client.certificates.iter().rev().find(is_same);
        match same {
            _ if client.revoked_at_ms.is_some() => Err(token_refused()),
            Some(same) => Ok((client.clone(), same.clone())),
            None if !waits => Err(token_refused()),
            None => {
                let certificate = issue(&client)?;
                self.keep_enrollment(client, certificate, peer).await
            }
        }
    }

    async fn keep_enrollment(
        &self,
        mut client: ClientRecord,
        certificate: ClientCertificate,
        peer: &str,
    ) -> Result<(ClientRecord, ClientCertificate), EngineError> {
        let who = requester(&client, peer);
        let event = event(&client, AccessChange::ClientEnrolled, &who);
        let entry = entry(&client, "EnrollClient", who, event.at_ms);
        let (id, kept) = (client.id, certificate.clone());
        let at_ms = event.at_ms;
        self.store.run(move |store| store.enroll_client(&id, &kept, at_ms, &entry, &event)).await?;
        client.enrolled_at_ms = Some(at_ms);
        client.certificates.push(certificate.clone());
        self.put(client.clone());
        Ok((client, certificate))
    }

    /// A new certificate for a client. With the key of its newest one, if that is young, that one again: a retry.
    pub(crate) async fn renew(
        &self,
        who: &Requester,
        key: &str,
        issue: impl FnOnce(&ClientRecord) -> Result<ClientCertificate, EngineError>,
    ) -> Result<ClientCertificate, EngineError> {
        let _changing = self.changing.lock().await;
        let mut client = self.read().by_name(&who.name).cloned().ok_or_else(no_certificate)?;
        let young = now_ms().saturating_add(milliseconds(self.certificate_life) / 3 * 2);
        let newest = client.certificates.last();
        if let Some(same) = newest.filter(|newest| newest.key == key && newest.expires_at_ms > young) {
            return Ok(same.clone());
        }
        client.certificates.retain(|certificate| now_ms() < certificate.expires_at_ms);
        if client.certificates.len() >= MAX_CERTIFICATES {
            let message =
                format!("client {} has {MAX_CERTIFICATES} certificates that have not expired", client.name);
            return Err(EngineError::new(Reason::RateLimited, message)
                .hint("use the newest of them, or enroll as another client"));
        }
        let certificate = issue(&client)?;
        let event = event(&client, AccessChange::CertificateRenewed, who);
        let entry = entry(&client, "RenewCertificate", who.clone(), event.at_ms);
        let (id, kept) = (client.id, certificate.clone());
        self.store.run(move |store| store.add_certificate(&id, &kept, &entry, &event)).await?;
        client.certificates.push(certificate.clone());
        self.put(client);
        Ok(certificate)
    }
}

fn requester(client: &ClientRecord, peer: &str) -> Requester {
    Requester {
        name: client.name.to_string(),
        role: client.role,
        tenant: client.tenant.clone(),
        peer: peer.to_owned(),
    }
}

pub(crate) fn event(client: &ClientRecord, change: AccessChange, by: &Requester) -> Event {
    let body = EventBody::Access {
        change,
        client: client.name.clone(),
        role: client.role,
        requester: by.name.clone(),
    };
    Event { at_ms: now_ms(), subject: None, body }
}

fn entry(client: &ClientRecord, action: &str, requester: Requester, at_ms: i64) -> AuditEntry {
    AuditEntry {
        at_ms,
        requester,
        action: action.to_owned(),
        object: client.id.to_string(),
        object_name: client.name.to_string(),
        result: "SUCCEEDED".to_owned(),
        request_id: None,
        operation: None,
    }
}

/// One answer to all that may be wrong with a token, so that nothing is learned by trying.
fn token_refused() -> EngineError {
    EngineError::new(Reason::TokenRefused, "the token is wrong, was used or revoked, or has expired")
        .hint("ask for a new one: an administrator runs `insula access token create`")
}

fn no_certificate() -> EngineError {
    EngineError::new(Reason::ClientNotFound, "only a client that has enrolled has a certificate to renew")
}

pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
