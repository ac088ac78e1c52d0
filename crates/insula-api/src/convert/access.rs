//! Conversions of clients, roles and entries of the audit log.

use insula_types::{AuditEntry, AuditLine, ClientRecord, Role};

use super::field::timestamp_ms;
use crate::v1;

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::SuperAdmin => Self::SuperAdmin,
            Role::Operator => Self::Operator,
            Role::Billing => Self::Billing,
            Role::Tenant => Self::Tenant,
            Role::Viewer => Self::Viewer,
        }
    }
}

/// Converts the role of a message. `None` where it is unspecified.
pub fn role(role: v1::Role) -> Option<Role> {
    Role::ALL.into_iter().find(|known| v1::Role::from(*known) == role)
}

impl From<&ClientRecord> for v1::AccessClient {
    fn from(client: &ClientRecord) -> Self {
        let expires_at_ms = match client.enrolled_at_ms {
            Some(_) => client.certificates.iter().map(|certificate| certificate.expires_at_ms).max(),
            None => Some(client.token_expires_at_ms),
        };
        Self {
            id: client.id.to_string(),
            name: client.name.to_string(),
            role: v1::Role::from(client.role).into(),
            tenant: client.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
            create_time: Some(timestamp_ms(client.created_at_ms)),
            enroll_time: client.enrolled_at_ms.map(timestamp_ms),
            expire_time: expires_at_ms.map(timestamp_ms),
            revoke_time: client.revoked_at_ms.map(timestamp_ms),
        }
    }
}

impl From<&AuditLine> for v1::AuditEntry {
    fn from(line: &AuditLine) -> Self {
        let AuditEntry { at_ms, requester, action, object, object_name, result, request_id, operation } =
            &line.entry;
        Self {
            sequence: line.sequence,
            time: Some(timestamp_ms(*at_ms)),
            requester: requester.name.clone(),
            role: requester.role.to_string(),
            peer: requester.peer.clone(),
            action: action.clone(),
            object: object.clone(),
            object_name: object_name.clone(),
            result: result.clone(),
            request_id: request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            operation: operation.as_ref().map(ToString::to_string).unwrap_or_default(),
            hash: line.hash.clone(),
        }
    }
}
