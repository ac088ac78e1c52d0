//! Sample data that the tests keep in a database.

use insula_types::{
    AuditEntry, DesiredPower, Event, EventBody, EventSubject, Features, Fingerprint, HostId, IdRange,
    InitKind, Labels, Limits, MacAddress, Nic, OperationId, OperationKind, OperationRecord, OperationState,
    Placement, Progress, Requester, Supervision, TenantName, VpsId, VpsSpec, VpsState,
};

use crate::Store;
use crate::selection::Selection;

pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("insula.db")).unwrap();
    (directory, store)
}

pub(crate) fn vps(name: &str, address: &str, start: u32) -> VpsSpec {
    let id = VpsId::new();
    VpsSpec {
        id,
        name: name.parse().unwrap(),
        hostname: name.to_owned(),
        image: Fingerprint::from_bytes([7; 32]),
        init: InitKind::Systemd,
        profile: "small".parse().unwrap(),
        limits: Limits::default(),
        own_limits: Limits::default(),
        features: Features::default(),
        own_features: None,
        supervision: Supervision::default(),
        own_supervision: Supervision::default(),
        nics: vec![Nic {
            name: "eth0".parse().unwrap(),
            network: "default".parse().unwrap(),
            mac: MacAddress::of(&id, 0),
            default_route: true,
        }],
        ssh_keys: vec![],
        power: DesiredPower::Off,
        created_at: 1,
        tenant: None,
        labels: Labels::default(),
        delete_protection: false,
        suspension: None,
        trash: None,
        revision: 0,
        placement: Placement {
            host_id: HostId::new(),
            epoch: Placement::FIRST_EPOCH,
            pool: "default".parse().unwrap(),
            ids: IdRange { start, length: IdRange::DEFAULT_LENGTH },
            addresses: [("eth0".parse().unwrap(), vec![address.parse().unwrap()])].into(),
        },
    }
}

pub(crate) fn operation(kind: OperationKind) -> OperationRecord {
    OperationRecord {
        id: OperationId::new(),
        kind,
        target: "target".to_owned(),
        target_name: "name".to_owned(),
        request: "{}".to_owned(),
        state: OperationState::Running,
        step: 0,
        progress: Progress::default(),
        error: None,
        steps: vec!["clone".to_owned(), "launch".to_owned()],
        step_names: vec![],
        outputs: Default::default(),
        notes: vec![],
        requester: Requester::root(),
        request_id: None,
        digest: "00ff".to_owned(),
        tenant: None,
        created_at_ms: 1,
        updated_at_ms: 1,
    }
}

/// An event that reports a state of a VPS.
pub(crate) fn told(vps: &VpsSpec, state: VpsState, at_ms: i64) -> Event {
    let subject = EventSubject { vps: vps.id, name: vps.name.clone(), tenant: vps.tenant.clone() };
    Event { at_ms, subject: Some(subject), body: EventBody::VpsState { state, previous: None } }
}

pub(crate) fn entry(at_ms: i64, requester: &str, object: &str) -> AuditEntry {
    AuditEntry {
        at_ms,
        requester: Requester { name: requester.to_owned(), ..Requester::root() },
        action: "GetVps".to_owned(),
        object: object.to_owned(),
        object_name: "web1".to_owned(),
        result: "PERMISSION_DENIED".to_owned(),
        request_id: None,
        operation: None,
    }
}

pub(crate) fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

/// Asserts that SQLite's plan walks no whole table and sorts nothing. The words of plans:
/// <https://sqlite.org/eqp.html>.
pub(crate) fn assert_uses_indexes(store: &Store, sql: &str, selection: &Selection) {
    let database = store.lock();
    let mut statement = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let plan: Vec<String> = statement
        .query_map(selection.values(), |row| row.get("detail"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let is_slow = |step: &String| {
        step.contains("TEMP B-TREE") || (step.starts_with("SCAN ") && !step.contains("json_each"))
    };
    assert!(!plan.is_empty() && !plan.iter().any(is_slow), "{sql}\n{plan:#?}");
}
