//! A client that watches all events, and checks the audit log in the end.

use std::collections::BTreeMap;

use insula_api::{Client, v1};
use insula_testkit::{ScratchHost, call, eventually};
use v1::VpsState;
use v1::event::Payload;
use v1::operation::State;

/// The events seen so far.
#[derive(Debug)]
pub struct Watcher {
    cursor: String,
    events: Vec<v1::Event>,
}

impl Watcher {
    /// A watcher that starts with the first event.
    pub fn new() -> Self {
        Self { cursor: "0".into(), events: vec![] }
    }

    /// Watches until the connection breaks.
    pub async fn run(mut self, client: Client) -> Self {
        let request = v1::WatchEventsRequest { cursor: self.cursor.clone(), ..Default::default() };
        let Ok(answer) = client.events().watch_events(request).await else { return self };
        let mut stream = answer.into_inner();
        while let Ok(Some(answer)) = stream.message().await {
            self.cursor = answer.cursor;
            self.events.extend(answer.event);
        }
        self
    }

    /// Checks that every event came once and in order, and that the events agree with the present
    /// state.
    pub fn check(&self, host: &ScratchHost) {
        // The latest states may not have been written yet, and a VPS that boots becomes ready by
        // itself.
        let all = eventually("the last states are told", || {
            let all = all_events(host);
            let states = states(&all);
            let request = v1::ListVpsesRequest { show_deleted: true, ..Default::default() };
            let vpses = call!(host, vps.list_vpses(request)).unwrap().vpses;
            vpses.iter().all(|vps| states.get(&vps.id) == Some(&vps.state())).then_some(all)
        });
        let cursors: Vec<u64> = all.iter().map(|event| event.cursor.parse().unwrap()).collect();
        assert!(cursors.windows(2).all(|two| two[0] + 1 == two[1]), "a number is missing: {cursors:?}");
        for (seen, kept) in self.events.iter().zip(&all) {
            assert_eq!(seen, kept, "something was missed, or told twice");
        }
        assert!(all.len() >= self.events.len(), "{} of {}", self.events.len(), all.len());
        assert_eq!(self.events.last().map_or("0", |event| &event.cursor), self.cursor);
        check_operations(&all);
    }
}

/// The state of each VPS according to the events. Each event must name the state of the one before
/// it.
fn states(events: &[v1::Event]) -> BTreeMap<String, VpsState> {
    let mut states = BTreeMap::new();
    for event in events {
        if let Some(Payload::VpsState(told)) = &event.payload {
            let before = states.insert(event.vps.clone(), told.state()).unwrap_or(VpsState::Unspecified);
            assert_eq!(told.previous_state(), before, "{event:?}");
        }
    }
    states
}

/// Checks that each operation was accepted once and ended once, or ended at once.
fn check_operations(events: &[v1::Event]) {
    let mut told: BTreeMap<&str, Vec<State>> = BTreeMap::new();
    for event in events {
        if let Some(Payload::Operation(operation)) = &event.payload {
            told.entry(&operation.operation).or_default().push(operation.state());
        }
    }
    for (operation, states) in told {
        let is_whole = matches!(
            &*states,
            [State::Running | State::Queued, State::Succeeded | State::Failed] | [State::Succeeded]
        );
        assert!(is_whole, "operation {operation} was told as {states:?}");
    }
}

fn all_events(host: &ScratchHost) -> Vec<v1::Event> {
    let (mut events, mut page_token) = (vec![], String::new());
    loop {
        let request = v1::ListEventsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = call!(host, events.list_events(request)).unwrap();
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return events;
        }
    }
}

/// The operations of all requests, by the ids of the requests. All of them have ended.
pub fn all_operations(host: &ScratchHost) -> BTreeMap<String, v1::Operation> {
    let (mut operations, mut page_token) = (BTreeMap::new(), String::new());
    loop {
        let request = v1::ListOperationsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = call!(host, operations.list_operations(request)).unwrap();
        for operation in page.operations {
            assert!(matches!(operation.state(), State::Succeeded | State::Failed), "{operation:?}");
            let (id, request) = (operation.id.clone(), operation.request_id.clone());
            let other = operations.insert(if request.is_empty() { id } else { request }, operation);
            assert_eq!(other, None, "a request is done twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return operations;
        }
    }
}

/// Checks that the log is intact, and has the result of each operation once.
pub fn check_audit(host: &ScratchHost, operations: &BTreeMap<String, v1::Operation>) {
    let verified = call!(host, access.verify_audit_log(v1::VerifyAuditLogRequest {})).unwrap();
    assert_eq!(verified.broken_at, None);
    let (mut results, mut page_token, mut entries) = (BTreeMap::new(), String::new(), 0);
    loop {
        let request = v1::ListAuditEntriesRequest { page_size: 1000, page_token, ..Default::default() };
        let page = call!(host, access.list_audit_entries(request)).unwrap();
        entries += page.entries.len() as u64;
        for entry in page.entries {
            if entry.result != "ACCEPTED" {
                let other = results.insert(entry.operation.clone(), entry.result.clone());
                assert_eq!(other, None, "{entry:?} came out twice");
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(entries, verified.entries);
    // Operations that built the image for all tests may be older than the log.
    for operation in operations.values().filter(|operation| !operation.request_id.is_empty()) {
        let result = results.get(&operation.id).map(String::as_str);
        let is_success = operation.state() == State::Succeeded;
        assert_eq!(result == Some("SUCCEEDED"), is_success, "{result:?}: {operation:?}");
        assert!(result.is_some(), "nothing is in the log of {operation:?}");
    }
}
