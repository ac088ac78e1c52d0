//! Clients of the API, and the certificates that identify them. No secrets of clients are kept
//! here.

use insula_types::{
    AuditEntry, ClientCertificate, ClientId, ClientRecord, Event, OperationRecord, TenantName,
};
use rusqlite::{Connection, Row, params};

use crate::StoreError;
use crate::audit::append_entry;
use crate::column::{from_word, parsed, parsed_if_any, to_word};
use crate::database::{Change, Store};
use crate::error::is_one;
use crate::event::append_event;
use crate::operation::insert_operation;

impl Store {
    /// All clients, oldest first, including those whose tokens are unused and those that were
    /// revoked. Certificates that had expired when another was added are left out.
    pub fn clients(&self) -> Result<Vec<ClientRecord>, StoreError> {
        self.read("list clients", |db| {
            let mut clients: Vec<ClientRecord> = db
                .prepare_cached("SELECT * FROM client ORDER BY id")?
                .query_map([], client)?
                .collect::<Result<_, _>>()?;
            for client in &mut clients {
                client.certificates = certificates(db, &client.id)?;
            }
            Ok(clients)
        })
    }

    /// Keeps a new client, whose token is unused, together with the operation that creates it and
    /// its event.
    ///
    /// # Errors
    /// [`StoreError::Taken`] with `operation.requester, operation.request_id`, or with
    /// `client.name` if another client that has not been revoked has the name.
    pub fn insert_client(
        &self,
        client: &ClientRecord,
        operation: &OperationRecord,
        event: &Event,
    ) -> Result<(), StoreError> {
        self.write("store a new client", |change| {
            insert_operation(change, operation)?;
            change.execute(
                "INSERT INTO client (id, name, role, tenant, created_at_ms, token_expires_at_ms, enrolled_at_ms, \
                 revoked_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    client.id.to_string(),
                    client.name.as_str(),
                    to_word(&client.role),
                    client.tenant.as_ref().map(TenantName::as_str),
                    client.created_at_ms,
                    client.token_expires_at_ms,
                    client.enrolled_at_ms,
                    client.revoked_at_ms,
                ],
            )?;
            client.certificates.iter().try_for_each(|own| insert_certificate(change, &client.id, own))?;
            append_event(change, event)
        })
    }

    /// Notes that a client has used its token, which works once, and keeps the client's
    /// certificate.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is no such client, its token has been used, or it was
    /// revoked. Nothing is kept then.
    pub fn enroll_client(
        &self,
        client: &ClientId,
        certificate: &ClientCertificate,
        at_ms: i64,
        entry: &AuditEntry,
        event: &Event,
    ) -> Result<(), StoreError> {
        self.write("enroll a client", |change| {
            let sql = "UPDATE client SET enrolled_at_ms = ?2 \
                       WHERE id = ?1 AND enrolled_at_ms IS NULL AND revoked_at_ms IS NULL";
            is_one(change.execute(sql, params![client.to_string(), at_ms])?)?;
            insert_certificate(change, client, certificate)?;
            append_entry(change, entry)?;
            append_event(change, event)
        })
    }

    /// Keeps another certificate of a client, and removes those that have expired by the time of
    /// the audit entry.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is no such client, it has not enrolled, or it was revoked.
    /// Nothing is kept then.
    pub fn add_certificate(
        &self,
        client: &ClientId,
        certificate: &ClientCertificate,
        entry: &AuditEntry,
        event: &Event,
    ) -> Result<(), StoreError> {
        self.write("store a client's new certificate", |change| {
            let id = client.to_string();
            let enrolled = "SELECT 1 FROM client \
                            WHERE id = ?1 AND enrolled_at_ms IS NOT NULL AND revoked_at_ms IS NULL";
            is_one(change.prepare_cached(enrolled)?.exists([&id])?.into())?;
            let expired = "DELETE FROM client_certificate WHERE client = ?1 AND expires_at_ms <= ?2";
            change.execute(expired, params![id, entry.at_ms])?;
            insert_certificate(change, client, certificate)?;
            append_entry(change, entry)?;
            append_event(change, event)
        })
    }

    /// Revokes a client, or its token, together with keeping the operation that does so and its
    /// event. A client that was revoked before keeps the time of that.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is no such client. Nothing is kept then.
    pub fn revoke_client(
        &self,
        client: &ClientId,
        at_ms: i64,
        operation: &OperationRecord,
        event: &Event,
    ) -> Result<(), StoreError> {
        self.write("revoke a client", |change| {
            insert_operation(change, operation)?;
            let sql = "UPDATE client SET revoked_at_ms = coalesce(revoked_at_ms, ?2) WHERE id = ?1";
            is_one(change.execute(sql, params![client.to_string(), at_ms])?)?;
            append_event(change, event)
        })
    }
}

fn insert_certificate(
    change: &Change<'_>,
    client: &ClientId,
    certificate: &ClientCertificate,
) -> rusqlite::Result<()> {
    let ClientCertificate { fingerprint, key, pem, expires_at_ms } = certificate;
    let row = params![fingerprint, client.to_string(), key, pem, expires_at_ms];
    let sql = "INSERT INTO client_certificate (fingerprint, client, key, pem, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    change.execute(sql, row).map(drop)
}

fn certificates(db: &Connection, client: &ClientId) -> rusqlite::Result<Vec<ClientCertificate>> {
    let sql = "SELECT * FROM client_certificate WHERE client = ?1 ORDER BY expires_at_ms";
    db.prepare_cached(sql)?.query_map([client.to_string()], certificate)?.collect()
}

fn certificate(row: &Row<'_>) -> rusqlite::Result<ClientCertificate> {
    Ok(ClientCertificate {
        fingerprint: row.get("fingerprint")?,
        key: row.get("key")?,
        pem: row.get("pem")?,
        expires_at_ms: row.get("expires_at_ms")?,
    })
}

fn client(row: &Row<'_>) -> rusqlite::Result<ClientRecord> {
    Ok(ClientRecord {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        role: from_word(row, "role")?,
        tenant: parsed_if_any(row, "tenant")?,
        created_at_ms: row.get("created_at_ms")?,
        token_expires_at_ms: row.get("token_expires_at_ms")?,
        enrolled_at_ms: row.get("enrolled_at_ms")?,
        revoked_at_ms: row.get("revoked_at_ms")?,
        certificates: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{entry, operation, store};
    use insula_types::{AccessChange, EventBody, OperationKind, RequestId, Role};

    fn waiting(name: &str) -> ClientRecord {
        ClientRecord {
            id: ClientId::new(),
            name: name.parse().unwrap(),
            role: Role::Tenant,
            tenant: Some("acme".parse().unwrap()),
            created_at_ms: 1,
            token_expires_at_ms: 100,
            enrolled_at_ms: None,
            revoked_at_ms: None,
            certificates: vec![],
        }
    }

    fn event(change: AccessChange, client: &ClientRecord) -> Event {
        let (client, role, requester) = (client.name.clone(), client.role, "root".to_owned());
        Event { at_ms: 1, subject: None, body: EventBody::Access { change, client, role, requester } }
    }

    fn certificate(fingerprint: &str, expires_at_ms: i64) -> ClientCertificate {
        let (fingerprint, key, pem) = (fingerprint.to_owned(), "key".to_owned(), "pem".to_owned());
        ClientCertificate { fingerprint, key, pem, expires_at_ms }
    }

    fn insert(store: &Store, client: &ClientRecord) -> Result<(), StoreError> {
        let create = operation(OperationKind::CreateAccessToken);
        store.insert_client(client, &create, &event(AccessChange::TokenCreated, client))
    }

    /// The numbers of audit entries and events, which a refused change must not alter.
    fn told(store: &Store) -> (u64, u64) {
        (store.verify_audit().unwrap().entries, store.last_event())
    }

    #[test]
    fn a_client_enrols_once_and_is_renewed_until_it_is_revoked() {
        let (_directory, store) = store();
        let mut whmcs = waiting("whmcs");
        insert(&store, &whmcs).unwrap();
        assert_eq!(store.clients().unwrap(), [whmcs.clone()]);
        let enroll = |fingerprint| {
            let event = event(AccessChange::ClientEnrolled, &whmcs);
            store.enroll_client(
                &whmcs.id,
                &certificate(fingerprint, 500),
                50,
                &entry(50, "whmcs", ""),
                &event,
            )
        };
        let renew = |fingerprint, expires_at_ms, at_ms| {
            let event = event(AccessChange::CertificateRenewed, &whmcs);
            let certificate = certificate(fingerprint, expires_at_ms);
            store.add_certificate(&whmcs.id, &certificate, &entry(at_ms, "whmcs", ""), &event)
        };
        let revoke = |at_ms| {
            let revoke = operation(OperationKind::RevokeClient);
            store.revoke_client(&whmcs.id, at_ms, &revoke, &event(AccessChange::Revoked, &whmcs))
        };
        assert!(matches!(renew("aa", 500, 40), Err(StoreError::Missing { .. })), "it has not enrolled");
        enroll("bb").unwrap();
        let before = told(&store);
        assert!(matches!(enroll("cc"), Err(StoreError::Missing { .. })), "a token works once");
        assert_eq!(told(&store), before);
        renew("dd", 900, 400).unwrap();
        renew("ee", 1000, 600).unwrap();
        revoke(700).unwrap();
        revoke(800).unwrap();
        let before = told(&store);
        assert!(matches!(renew("ff", 2000, 900), Err(StoreError::Missing { .. })));
        assert_eq!(told(&store), before);

        whmcs.enrolled_at_ms = Some(50);
        whmcs.revoked_at_ms = Some(700);
        whmcs.certificates = vec![certificate("dd", 900), certificate("ee", 1000)];
        assert_eq!(store.clients().unwrap(), [whmcs]);
    }

    #[test]
    fn a_name_is_free_again_once_its_client_was_revoked() {
        let (_directory, store) = store();
        let first = waiting("whmcs");
        insert(&store, &first).unwrap();
        let before = told(&store);
        let error = insert(&store, &waiting("whmcs")).unwrap_err();
        assert!(matches!(&error, StoreError::Taken { what, .. } if what == "client.name"), "{error}");
        assert_eq!(told(&store), before);
        let revoke = operation(OperationKind::RevokeClient);
        store.revoke_client(&first.id, 5, &revoke, &event(AccessChange::Revoked, &first)).unwrap();
        insert(&store, &waiting("whmcs")).unwrap();
    }

    #[test]
    fn a_repeated_request_is_told_from_a_taken_name() {
        let (_directory, store) = store();
        let request_id: Option<RequestId> = Some("1".parse().unwrap());
        for taken in [None, Some("operation.requester, operation.request_id")] {
            let client = waiting("whmcs");
            let mut create = operation(OperationKind::CreateAccessToken);
            create.request_id.clone_from(&request_id);
            let result = store.insert_client(&client, &create, &event(AccessChange::TokenCreated, &client));
            let what = result.err().and_then(|error| match error {
                StoreError::Taken { what, .. } => Some(what),
                _ => None,
            });
            assert_eq!(what.as_deref(), taken);
        }
    }
}
