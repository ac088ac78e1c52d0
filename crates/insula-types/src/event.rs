//! What happens on a host, as watchers are told.

use serde::{Deserialize, Serialize};

use crate::{
    ClientName, OperationId, OperationKind, OperationState, Role, TenantName, VpsId, VpsName, VpsState,
};

/// Something that happened on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened: milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// The VPS that it is about.
    pub subject: Option<EventSubject>,
    /// What happened.
    pub body: EventBody,
}

/// The VPS that an event is about, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSubject {
    /// Its id.
    pub vps: VpsId,
    /// Its name.
    pub name: VpsName,
    /// The tenant that owns it.
    pub tenant: Option<TenantName>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    /// The state of a VPS has changed.
    VpsState {
        /// The new state.
        state: VpsState,
        /// The state before; `None` for a new VPS.
        previous: Option<VpsState>,
    },
    /// An operation was accepted, or is over.
    Operation {
        /// The operation's id.
        operation: OperationId,
        /// The operation's kind.
        what: OperationKind,
        /// The operation's state.
        state: OperationState,
        /// Why it failed: the stable reason.
        reason: Option<String>,
        /// The name of the requester.
        requester: String,
    },
    /// A VPS has hit a limit.
    Limit {
        /// The limit that was hit.
        limit: LimitKind,
        /// How often it was hit since the last such event.
        count: u64,
    },
    /// The access of a client has changed.
    Access {
        /// How the access changed.
        change: AccessChange,
        /// The name of the client.
        client: ClientName,
        /// The client's role.
        role: Role,
        /// The name of the requester.
        requester: String,
    },
}

impl EventBody {
    /// The kinds, as watchers name them.
    pub const KINDS: [&'static str; 4] = ["vps_state", "operation", "limit", "access"];

    /// Its kind, one of [`Self::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::VpsState { .. } => "vps_state",
            Self::Operation { .. } => "operation",
            Self::Limit { .. } => "limit",
            Self::Access { .. } => "access",
        }
    }
}

/// A limit that a VPS can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// The kernel killed a process because memory ran out.
    Memory,
    /// A process could not be created.
    Processes,
}

/// A change of which clients may use the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessChange {
    /// A token for a new client was created.
    TokenCreated,
    /// A client has enrolled with its token.
    ClientEnrolled,
    /// A client has a new certificate.
    CertificateRenewed,
    /// A client or a token was revoked.
    Revoked,
}

/// An event with its place in the order of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Grows with each event, and is never used again: the cursor.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_the_word_of_the_json() {
        let body = EventBody::Limit { limit: LimitKind::Memory, count: 1 };
        assert_eq!(serde_json::to_value(&body).unwrap()["kind"], body.kind());
        let body = EventBody::VpsState { state: VpsState::Ready, previous: None };
        assert_eq!(serde_json::to_value(&body).unwrap()["kind"], body.kind());
        assert!(EventBody::KINDS.contains(&body.kind()));
    }
}
