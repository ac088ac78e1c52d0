//! Opens databases of every earlier version. Each new version of the schema adds a dump of the one
//! before it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use insula_types::{OperationKind, OperationState, Requester};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::*;
use crate::copies::copy_path;
use crate::samples::{operation, vps};
use crate::{EventFilter, OperationFilter, Store};

/// A database of each version that has been released, oldest first.
const DUMPS: [&str; 4] = [
    include_str!("../../fixtures/schema-1.sql"),
    include_str!("../../fixtures/schema-2.sql"),
    include_str!("../../fixtures/schema-3.sql"),
    include_str!("../../fixtures/schema-4.sql"),
];

/// The versions, and a database of each.
fn old_databases() -> impl Iterator<Item = (u32, tempfile::TempDir, PathBuf)> {
    (1..).zip(DUMPS).map(|(version, dump)| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("insula.db");
        Connection::open(&path).unwrap().execute_batch(dump).unwrap();
        (version, directory, path)
    })
}

fn reading(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn texts(db: &Connection, sql: &str) -> Vec<String> {
    db.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn tables(db: &Connection) -> Vec<String> {
    texts(db, "SELECT name FROM sqlite_schema WHERE type = 'table'")
}

fn columns(db: &Connection, table: &str) -> BTreeSet<String> {
    texts(db, &format!("SELECT name FROM pragma_table_info('{table}')")).into_iter().collect()
}

/// All rows of some columns, in an order that depends only on their content.
fn rows(db: &Connection, table: &str, columns: &BTreeSet<String>) -> Vec<Vec<Value>> {
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let order: Vec<String> = (1..=columns.len()).map(|column| column.to_string()).collect();
    let sql = format!("SELECT {} FROM {table} ORDER BY {}", columns.join(", "), order.join(", "));
    let mut statement = db.prepare(&sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| (0..columns.len()).map(|column| row.get(column)).collect();
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

fn version(db: &Connection) -> u32 {
    db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn there_is_a_database_of_every_version_before_this_one() {
    assert!(DUMPS.len() >= MIGRATIONS.len() - 1, "add a dump of version {}", MIGRATIONS.len() - 1);
}

#[test]
fn every_row_of_an_old_database_is_kept() {
    for (version, _directory, path) in old_databases() {
        let (_before, untouched) = {
            let directory = tempfile::tempdir().unwrap();
            let copy = directory.path().join("before.db");
            fs::copy(&path, &copy).unwrap();
            (directory, copy)
        };
        drop(Store::open(&path).unwrap());
        let (old, new) = (reading(&untouched), reading(&path));
        let mut compared = BTreeMap::new();
        for table in tables(&old) {
            let mut common: BTreeSet<_> =
                columns(&old, &table).intersection(&columns(&new, &table)).cloned().collect();
            if table == "vps" {
                common.remove("spec"); // it got another shape with version 5
            }
            let before = rows(&old, &table, &common);
            if table == "secret" || table == "setting" {
                let after = rows(&new, &table, &common); // what the first opening makes is there, too
                assert!(before.iter().all(|row| after.contains(row)), "{table} of version {version}");
            } else {
                assert_eq!(before, rows(&new, &table, &common), "{table} of version {version}");
            }
            compared.insert(table, before.len());
        }
        assert!(
            compared["vps"] == 3 && compared["operation"] >= 6 && compared["snapshot"] == 1,
            "{compared:?}"
        );
    }
}

#[test]
fn an_old_database_means_the_same_as_before() {
    for (version, _directory, path) in old_databases() {
        let store = Store::open(&path).unwrap();
        let [web1, db, _] = &store.vpses().unwrap()[..] else { panic!("version {version}: three VPSes") };
        assert_eq!((web1.name.as_str(), db.name.as_str()), ("web1", "db"));
        assert!(web1.nics[0].default_route);
        assert_eq!(web1.placed_nics().next().unwrap().addresses, ["10.90.4.2".parse::<IpAddr>().unwrap()]);
        let ids = if version < 3 { 65_536 } else { 131_072 };
        assert_eq!(
            (db.placement.pool.as_str(), db.placement.ids.length),
            ("default", ids),
            "version {version}"
        );
        assert_eq!(web1.tenant.is_some(), version > 1, "tenants came with version 2");
        assert_eq!(db.suspension.is_some(), version > 1);
        assert_eq!((store.addresses().unwrap().len(), store.exits().unwrap().len()), (3, 2));
        assert_eq!(store.snapshots().unwrap()[0].name.as_str(), "before-upgrade");
        assert_eq!(store.images().unwrap()[0].aliases.len(), 2);
        assert_eq!(store.networks().unwrap()[0].name.as_str(), "default");
        assert_eq!(store.last_address("default").unwrap().unwrap().to_string(), "10.90.4.4");

        let all = OperationFilter { count: 100, ..OperationFilter::default() };
        let operations = store.operations(&all).unwrap();
        let create =
            operations.iter().find(|operation| operation.target_name == "web1" && operation.step == 5);
        let asked_by = if version == 1 { "root" } else { "whmcs" };
        assert_eq!(create.unwrap().requester.name, asked_by, "version 1 knew root alone");
        let start = operations.iter().find(|operation| operation.kind == OperationKind::StartVps).unwrap();
        let failure = start.error.as_ref().unwrap();
        assert_eq!((&*failure.reason, failure.messages.len()), ("START_FAILED", 3));
        assert_eq!(failure.hint.as_deref(), Some("rebuild the VPS from an image that has an init"));
        let named = operations.iter().filter(|operation| !operation.step_names.is_empty()).count();
        assert_eq!(named, if version < 4 { 0 } else { 1 }, "steps have names since version 4");
        let unfinished = store.unfinished_operations().unwrap();
        let states: Vec<_> = unfinished.iter().map(|operation| (operation.state, operation.step)).collect();
        let left = [(OperationState::Running, 1), (OperationState::Queued, 0), (OperationState::Undoing, 0)];
        assert_eq!(states, left[..if version == 1 { 1 } else { 3 }]);

        let told = store.events(0, 100, &EventFilter::default()).unwrap().len();
        let told = (told, store.clients().unwrap().len(), store.profiles().unwrap().len());
        assert_eq!(told, if version == 1 { (0, 0, 0) } else { (16, 1, 1) });
        let audit = store.verify_audit().unwrap();
        assert_eq!(audit.broken_at, None, "version {version}");
        assert_eq!(audit.entries, if version == 1 { 0 } else { 15 });
    }
}

#[test]
fn what_a_host_has_lives_on_it_from_the_first_epoch_on() {
    for (version, _directory, path) in old_databases() {
        let (file, before) = (path.with_file_name("host-id"), HostId::new());
        fs::write(&file, before.to_string()).unwrap();
        let store = Store::open(&path).unwrap();
        // The database has held the host's id since version 4. A file with another id was put there
        // later.
        let writer = match version {
            4.. => "01a22f5a-50f0-7687-9e72-a1c2b35b82f2".parse().unwrap(),
            _ => before,
        };
        for vps in store.vpses().unwrap() {
            assert_eq!((vps.placement.host_id, vps.placement.epoch), (writer, 1), "version {version}");
        }
        assert_eq!(store.host_id(), before, "the file says who the host is");
    }
}

#[test]
fn an_old_database_without_the_file_is_its_host_s_own() {
    for (version, _directory, path) in old_databases() {
        let store = Store::open(&path).unwrap();
        let own = store.host_id();
        assert!(store.vpses().unwrap().iter().all(|vps| vps.placement.host_id == own), "version {version}");
    }
}

#[test]
fn an_old_database_can_be_worked_with() {
    for (_, _directory, path) in old_databases() {
        let store = Store::open(&path).unwrap();
        let (events, lines) = (store.last_event(), store.verify_audit().unwrap().entries);
        let mut running = store.unfinished_operations().unwrap().remove(0);
        running.state = OperationState::Succeeded;
        store.update_operation(&running).unwrap();
        assert_eq!((store.last_event(), store.verify_audit().unwrap().entries), (events + 1, lines + 1));
        let create = || operation(OperationKind::CreateVps);
        assert_eq!(create().requester, Requester::root());
        let taken = store.insert_vps(&vps("web1", "10.90.4.9", 1 << 20), &create());
        assert!(matches!(taken, Err(StoreError::Taken { what, .. }) if what == "vps.name"));
        store.insert_vps(&vps("web9", "10.90.4.9", 1 << 20), &create()).unwrap();
        let web1 = store.vpses().unwrap()[0].id;
        store.delete_vps(&web1, &running).unwrap();
        assert!(store.snapshots().unwrap().is_empty() && store.addresses().unwrap().len() == 3);
    }
}

#[test]
fn an_old_database_gets_the_schema_of_a_new_one() {
    let schema = |path: &Path| -> BTreeSet<(String, Option<String>)> {
        let db = reading(path);
        let mut statement = db.prepare("SELECT name, sql FROM sqlite_schema").unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("insula.db");
    drop(Store::open(&new).unwrap());
    for (_, _directory, path) in old_databases() {
        drop(Store::open(&path).unwrap());
        assert_eq!(schema(&path), schema(&new));
    }
}

#[test]
fn what_was_there_before_is_kept_beside_it_once() {
    let is_older = |version: &u32| (*version as usize) < MIGRATIONS.len();
    for (old, directory, path) in old_databases().filter(|(version, ..)| is_older(version)) {
        drop(Store::open(&path).unwrap());
        let copy = copy_path(&path, old);
        let kept = Connection::open(&copy).unwrap();
        assert_eq!(version(&kept), old);
        assert_eq!(rows(&kept, "vps", &columns(&kept, "vps")).len(), 3);
        drop(kept);
        let files = || fs::read_dir(directory.path()).unwrap().count();
        fs::remove_file(copy).unwrap();
        drop(Store::open(&path).unwrap());
        assert_eq!(files(), 2, "beside the host's id, nothing: of this version, nothing is migrated");
    }
}

/// Opens a database of version 3 with another fourth migration.
fn with_another(sql: &'static str) -> (Result<(), StoreError>, Connection, tempfile::TempDir) {
    let (_, directory, path) = old_databases().nth(2).unwrap();
    let three = MIGRATIONS[..3].iter().map(|known| Migration { sql: known.sql, code: known.code });
    let migrations: Vec<_> = three.chain([Migration { sql, code: None }]).collect();
    let mut connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    let result = migrate_by(&migrations, &mut connection, &path, HostId::new());
    assert!(copy_path(&path, 3).exists());
    (result, connection, directory)
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let counts = |db: &Connection| (version(db), rows(db, "vps", &columns(db, "vps")).len());
    let (result, db, _directory) = with_another("DELETE FROM vps; SELECT nonsense");
    assert!(matches!(result, Err(StoreError::Migrate { version: 4, .. })), "{result:?}");
    assert_eq!(counts(&db), (3, 3));
    let (result, db, _directory) = with_another("DELETE FROM vps");
    assert!(
        matches!(&result, Err(StoreError::BrokenReference { parent, .. }) if parent == "vps"),
        "{result:?}"
    );
    assert_eq!(counts(&db), (3, 3));
}

#[test]
fn a_table_that_others_refer_to_can_be_made_anew() {
    let (result, db, _directory) = with_another(
        "CREATE TABLE new_vps (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, spec TEXT NOT NULL) STRICT;
         INSERT INTO new_vps SELECT id, name, spec FROM vps;
         DROP TABLE vps; -- with foreign keys on, this would take all addresses along
         ALTER TABLE new_vps RENAME TO vps;",
    );
    result.unwrap();
    assert_eq!((version(&db), rows(&db, "address", &columns(&db, "address")).len()), (4, 3));
    let enforced: bool = db.query_row("PRAGMA foreign_keys", [], |row| row.get(0)).unwrap();
    assert!(enforced, "they are on again");
}
