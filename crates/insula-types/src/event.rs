//! Events of a host, as the agent sends them to watchers.

use serde::{Deserialize, Serialize};

use crate::{
    ClientName, OperationId, OperationKind, OperationState, Role, TenantName, VpsId, VpsName, VpsState,
};

/// Something that happened on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, in milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// The VPS that the event is about.
    pub subject: Option<EventSubject>,
    /// What happened.
    pub body: EventBody,
}

/// The VPS that an event is about, as it was when the event happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSubject {
    /// The VPS's id.
    pub vps: VpsId,
    /// The VPS's name.
    pub name: VpsName,
    /// The tenant that owns the VPS.
    pub tenant: Option<TenantName>,
}

/// What happened in an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    /// The state of a VPS has changed.
    VpsState {
        /// The new state.
        state: VpsState,
        /// The state before. `None` when the VPS is new.
        previous: Option<VpsState>,
    },
    /// An operation was accepted or has ended.
    Operation {
        /// The operation's id.
        operation: OperationId,
        /// The operation's kind.
        what: OperationKind,
        /// The operation's state.
        state: OperationState,
        /// The stable reason why the operation failed.
        reason: Option<String>,
        /// The name of the caller that asked for the operation.
        requester: String,
    },
    /// A VPS has hit a limit.
    Limit {
        /// The limit.
        limit: LimitKind,
        /// How often the VPS has hit it since the last event about it.
        count: u64,
    },
    /// Somebody's access to the API has changed.
    Access {
        /// What has changed.
        change: AccessChange,
        /// The client whose access has changed.
        client: ClientName,
        /// The client's role.
        role: Role,
        /// The name of the caller that changed it.
        requester: String,
    },
}

impl EventBody {
    /// The names of all kinds, by which watchers choose.
    pub const KINDS: [&'static str; 4] = ["vps_state", "operation", "limit", "access"];

    /// The name of this change's kind, one of [`Self::KINDS`].
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
    /// The kernel refused to create a process.
    Processes,
}

/// How a client's access to the API has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessChange {
    /// A token for a new client was created.
    TokenCreated,
    /// A client enrolled with its token.
    ClientEnrolled,
    /// A client received a new certificate.
    CertificateRenewed,
    /// A client or a token was revoked.
    Revoked,
}

/// An event with its place in the order of all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// The event's number, which grows with each event and is never reused: the cursor of a
    /// watcher.
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
