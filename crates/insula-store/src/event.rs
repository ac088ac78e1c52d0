//! Events in their order, for watchers, and the last reported state of each VPS.
//!
//! An event's number is the cursor of a watcher. Numbers grow and are never reused, not even after
//! all events were pruned or the agent was restarted. Events are pruned only from the beginning, so
//! there are no gaps that a watcher could miss.

use insula_types::{Event, EventBody, EventRecord, TenantName, VpsId, VpsState};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::StoreError;
use crate::column::{from_json, from_word, parsed, to_json, to_word};
use crate::database::{Change, Store};
use crate::selection::Selection;

/// Selects events. The default selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only events about this VPS.
    pub vps: Option<VpsId>,
    /// Only events about VPSes that belonged to this tenant at the time.
    pub tenant: Option<TenantName>,
    /// Only events of these kinds ([`EventBody::KINDS`]). Empty selects all kinds.
    pub kinds: Vec<String>,
}

impl Store {
    /// Keeps new events, in their order.
    pub fn append_events(&self, events: &[Event]) -> Result<(), StoreError> {
        self.write("store events", |change| events.iter().try_for_each(|event| append_event(change, event)))
    }

    /// Up to `count` events with numbers above `after`, oldest first.
    pub fn events(
        &self,
        after: u64,
        count: u32,
        filter: &EventFilter,
    ) -> Result<Vec<EventRecord>, StoreError> {
        let (sql, selection) = query(after, count, filter);
        self.read("list events", |db| {
            db.prepare_cached(&sql)?.query_map(selection.values(), event_record)?.collect()
        })
    }

    /// The number of the oldest event that is kept. `None` if there is none.
    pub fn first_event(&self) -> Result<Option<u64>, StoreError> {
        self.read("find the oldest event", |db| {
            let first: Option<i64> = db.query_row("SELECT min(sequence) FROM event", [], |row| row.get(0))?;
            Ok(first.map(i64::cast_unsigned))
        })
    }

    /// Removes all events before the first one that is not older than this time, in milliseconds
    /// since 1970, UTC. Returns how many were removed.
    pub fn prune_events(&self, before_ms: i64) -> Result<usize, StoreError> {
        self.write("prune events", |change| {
            let kept = "SELECT sequence FROM event WHERE at_ms >= ?1 ORDER BY sequence LIMIT 1";
            let first: Option<i64> = change.query_row(kept, [before_ms], |row| row.get(0)).optional()?;
            change.execute("DELETE FROM event WHERE sequence < coalesce(?1, sequence + 1)", [first])
        })
    }

    /// The last reported state of each VPS that exists.
    pub fn last_states(&self) -> Result<Vec<(VpsId, VpsState)>, StoreError> {
        self.read("list states", |db| {
            db.prepare_cached("SELECT vps, state FROM last_state")?
                .query_map([], |row| Ok((parsed(row, "vps")?, from_word(row, "state")?)))?
                .collect()
        })
    }
}

/// Appends an event within a change.
pub(crate) fn append_event(change: &Change<'_>, event: &Event) -> rusqlite::Result<()> {
    let vps = event.subject.as_ref().map(|subject| subject.vps.to_string());
    let tenant = event.subject.as_ref().and_then(|subject| subject.tenant.as_ref());
    change
        .prepare_cached("INSERT INTO event (at_ms, kind, vps, tenant, event) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            event.at_ms,
            event.body.kind(),
            vps,
            tenant.map(TenantName::as_str),
            to_json(event)
        ])?;
    change.note_event(change.last_insert_rowid().cast_unsigned());
    if let EventBody::VpsState { state, .. } = &event.body {
        let kept = "INSERT OR REPLACE INTO last_state (vps, state) SELECT id, ?2 FROM vps WHERE id = ?1";
        change.prepare_cached(kept)?.execute(params![vps, to_word(state)])?;
    }
    Ok(())
}

/// The number of the newest event that ever was (<https://sqlite.org/autoinc.html>).
pub(crate) fn last_event(db: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'event'";
    let last: Option<i64> = db.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(last.unwrap_or(0).cast_unsigned())
}

fn query(after: u64, count: u32, filter: &EventFilter) -> (String, Selection) {
    let mut selection = Selection::default();
    selection.and("sequence > ?", i64::try_from(after).unwrap_or(i64::MAX));
    selection.and_if_any("vps = ?", filter.vps.map(|vps| vps.to_string()));
    selection.and_if_any("tenant = ?", filter.tenant.as_ref().map(TenantName::to_string));
    let kinds = Some(&filter.kinds).filter(|kinds| !kinds.is_empty());
    selection.and_if_any("kind IN (SELECT value FROM json_each(?))", kinds.map(to_json));
    (selection.query("sequence, event", "event", "sequence", count), selection)
}

fn event_record(row: &Row<'_>) -> rusqlite::Result<EventRecord> {
    let sequence: i64 = row.get("sequence")?;
    Ok(EventRecord { sequence: sequence.cast_unsigned(), event: from_json(row, "event")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{operation, store, tenant, told, vps};
    use insula_types::{ClientName, OperationKind, Role};
    use std::sync::mpsc;

    fn sequences(store: &Store, after: u64, filter: &EventFilter) -> Vec<u64> {
        store.events(after, 100, filter).unwrap().iter().map(|record| record.sequence).collect()
    }

    fn access(at_ms: i64) -> Event {
        let client: ClientName = "whmcs".parse().unwrap();
        let change = insula_types::AccessChange::TokenCreated;
        let body = EventBody::Access { change, client, role: Role::Billing, requester: "root".to_owned() };
        Event { at_ms, subject: None, body }
    }

    #[test]
    fn a_watcher_gets_what_it_asked_for_from_where_it_stopped() {
        let (_directory, store) = store();
        let (web1, web2) = (vps("web1", "10.0.0.2", 65_536), vps("web2", "10.0.0.3", 131_072));
        let web2 = insula_types::VpsSpec { tenant: Some(tenant("acme")), ..web2 };
        let events = [
            told(&web1, VpsState::Starting, 1),
            told(&web2, VpsState::Starting, 2),
            access(3),
            told(&web1, VpsState::Ready, 4),
        ];
        store.append_events(&events).unwrap();
        let all = EventFilter::default();
        let records = store.events(0, 100, &all).unwrap();
        assert_eq!(records.iter().map(|record| record.event.clone()).collect::<Vec<_>>(), events);
        assert_eq!(sequences(&store, 0, &all), [1, 2, 3, 4]);
        assert_eq!(sequences(&store, 2, &all), [3, 4]);
        assert_eq!(sequences(&store, u64::MAX, &all), [] as [u64; 0]);
        let of_web1 = EventFilter { vps: Some(web1.id), ..all.clone() };
        assert_eq!(sequences(&store, 0, &of_web1), [1, 4]);
        assert_eq!(sequences(&store, 0, &EventFilter { tenant: Some(tenant("acme")), ..all.clone() }), [2]);
        assert_eq!(
            sequences(&store, 0, &EventFilter { kinds: vec!["access".to_owned()], ..all.clone() }),
            [3]
        );
        let two = vec!["access".to_owned(), "vps_state".to_owned()];
        assert_eq!(sequences(&store, 1, &EventFilter { kinds: two, ..of_web1 }), [4]);
        assert_eq!(store.events(1, 2, &all).unwrap().len(), 2);
    }

    #[test]
    fn numbers_are_never_used_again() {
        let (directory, store) = store();
        let path = directory.path().join("insula.db");
        assert_eq!((store.first_event().unwrap(), store.last_event()), (None, 0));
        store.append_events(&[access(10), access(20), access(15), access(30)]).unwrap();
        assert_eq!(store.prune_events(20).unwrap(), 1);
        assert_eq!(
            (store.first_event().unwrap(), store.last_event()),
            (Some(2), 4),
            "what is kept has no gap"
        );
        assert_eq!(store.prune_events(31).unwrap(), 3);
        assert_eq!((store.first_event().unwrap(), store.last_event()), (None, 4));
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.last_event(), 4);
        store.append_events(&[access(40)]).unwrap();
        assert_eq!((store.first_event().unwrap(), store.last_event()), (Some(5), 5));
    }

    #[test]
    fn a_listener_is_told_behind_each_commit_that_has_events() {
        let (_directory, store) = store();
        let (sender, told) = mpsc::channel();
        store.on_event(Box::new(move |newest| sender.send(newest).unwrap()));
        store.append_events(&[access(1), access(2)]).unwrap();
        store.put_setting("key", "value").unwrap();
        store.append_events(&[]).unwrap();
        let stop = operation(OperationKind::StopVps);
        store.insert_operation(&stop).unwrap();
        assert!(store.insert_operation(&stop).is_err(), "its id is taken");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(store.last_event(), 3);
    }

    #[test]
    fn the_last_state_stays_when_events_go_and_goes_with_the_vps() {
        let (_directory, store) = store();
        let web1 = vps("web1", "10.0.0.2", 65_536);
        let create = operation(OperationKind::CreateVps);
        store.append_events(&[told(&web1, VpsState::Creating, 1)]).unwrap();
        assert_eq!(store.last_states().unwrap(), [], "it is not there yet");
        store.insert_vps(&web1, &create).unwrap();
        store.append_events(&[told(&web1, VpsState::Starting, 2), told(&web1, VpsState::Ready, 3)]).unwrap();
        store.prune_events(100).unwrap();
        assert_eq!(store.last_states().unwrap(), [(web1.id, VpsState::Ready)]);
        store.delete_vps(&web1.id, &create).unwrap();
        store.append_events(&[told(&web1, VpsState::Deleting, 4)]).unwrap();
        assert_eq!(store.last_states().unwrap(), []);
    }

    #[test]
    fn lists_use_their_indexes() {
        let (_directory, store) = store();
        let web1 = vps("web1", "10.0.0.2", 65_536).id;
        let acme = tenant("acme");
        for filter in [
            EventFilter::default(),
            EventFilter { vps: Some(web1), ..EventFilter::default() },
            EventFilter { tenant: Some(acme.clone()), ..EventFilter::default() },
            EventFilter { vps: Some(web1), tenant: Some(acme), kinds: vec!["limit".to_owned()] },
        ] {
            let (sql, selection) = query(5, 10, &filter);
            crate::samples::assert_uses_indexes(&store, &sql, &selection);
        }
    }
}
