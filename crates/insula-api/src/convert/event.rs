//! Conversions of events.

use insula_types::{AccessChange, Event, EventBody, EventRecord, LimitKind};

use super::field::timestamp_ms;
use crate::v1;
use crate::v1::event::Payload;

impl From<&EventRecord> for v1::Event {
    fn from(record: &EventRecord) -> Self {
        let Event { at_ms, subject, body } = &record.event;
        let subject = subject.as_ref();
        Self {
            cursor: record.sequence.to_string(),
            host: String::new(), // the agent knows it, the record does not
            time: Some(timestamp_ms(*at_ms)),
            vps: subject.map(|subject| subject.vps.to_string()).unwrap_or_default(),
            vps_name: subject.map(|subject| subject.name.to_string()).unwrap_or_default(),
            tenant: subject
                .and_then(|subject| subject.tenant.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            payload: Some(payload(body)),
        }
    }
}

fn payload(body: &EventBody) -> Payload {
    match body {
        EventBody::VpsState { state, previous } => Payload::VpsState(v1::VpsStateEvent {
            state: v1::VpsState::from(*state).into(),
            previous_state: previous.map_or(v1::VpsState::Unspecified, Into::into).into(),
        }),
        EventBody::Operation { operation, what, state, reason, requester } => {
            Payload::Operation(v1::OperationEvent {
                operation: operation.to_string(),
                kind: what.to_string(),
                state: v1::operation::State::from(*state).into(),
                reason: reason.clone().unwrap_or_default(),
                requester: requester.clone(),
            })
        }
        EventBody::Limit { limit, count } => {
            Payload::Limit(v1::LimitEvent { limit: limit_of(*limit).into(), count: *count })
        }
        EventBody::Access { change, client, role, requester } => Payload::Access(v1::AccessEvent {
            change: change_of(*change).into(),
            client: client.to_string(),
            role: role.to_string(),
            requester: requester.clone(),
        }),
    }
}

fn limit_of(limit: LimitKind) -> v1::limit_event::Limit {
    match limit {
        LimitKind::Memory => v1::limit_event::Limit::Memory,
        LimitKind::Processes => v1::limit_event::Limit::Processes,
    }
}

fn change_of(change: AccessChange) -> v1::access_event::Change {
    use v1::access_event::Change;
    match change {
        AccessChange::TokenCreated => Change::TokenCreated,
        AccessChange::ClientEnrolled => Change::ClientEnrolled,
        AccessChange::CertificateRenewed => Change::CertificateRenewed,
        AccessChange::Revoked => Change::Revoked,
    }
}
