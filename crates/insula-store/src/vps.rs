//! VPSes, their addresses, ids and snapshots, and how they ended.

use std::net::IpAddr;

use insula_types::{
    AddressAssignment, ExitRecord, OperationRecord, PlacedNic, SnapshotInfo, SnapshotName, VpsId, VpsSpec,
};
use rusqlite::params;

use crate::StoreError;
use crate::column::{from_json, json_rows, parsed, to_json};
use crate::database::{Change, Store};
use crate::operation::{insert_operation, update_operation};
use crate::setting::put_setting;

/// The key of the setting that says where the search for a free address of a network resumes.
fn address_cursor(network: &str) -> String {
    format!("address-cursor/{network}")
}

/// The key of the setting that says where the search for a free id range resumes.
const ID_RANGE_CURSOR: &str = "id-range-cursor";

impl Store {
    /// All VPSes, oldest first.
    pub fn vpses(&self) -> Result<Vec<VpsSpec>, StoreError> {
        self.read("list VPSes", |db| json_rows(db, "SELECT spec FROM vps ORDER BY id"))
    }

    /// Keeps a new VPS, its addresses and its ids, together with the operation that creates it.
    ///
    /// # Errors
    /// [`StoreError::Taken`] with `operation.requester, operation.request_id`, `vps.name`, `address.network,
    /// address.address` or `id_range.start`.
    pub fn insert_vps(&self, vps: &VpsSpec, operation: &OperationRecord) -> Result<(), StoreError> {
        self.write("store a new VPS", |change| {
            insert_operation(change, operation)?;
            let id = vps.id.to_string();
            let row = params![id, name_column(vps), to_json(vps)];
            change.execute("INSERT INTO vps (id, name, spec) VALUES (?1, ?2, ?3)", row)?;
            insert_ids(change, vps)?;
            insert_addresses(change, vps)
        })
    }

    /// Gives a VPS the ids of this spec, instead of those that it has.
    ///
    /// # Errors
    /// [`StoreError::Taken`] with `id_range.start`.
    pub fn exchange_ids(&self, vps: &VpsSpec) -> Result<(), StoreError> {
        self.write("give other ids to a VPS", |change| {
            change.execute("DELETE FROM id_range WHERE vps = ?1", [vps.id.to_string()])?;
            insert_ids(change, vps)?;
            update_spec(change, vps)
        })
    }

    /// Changes a VPS's spec. Its addresses and ids stay, even while it is in the trash; its name is
    /// free then.
    ///
    /// # Errors
    /// [`StoreError::Taken`] with `vps.name` if another VPS that is not in the trash has the name.
    pub fn update_vps(&self, vps: &VpsSpec) -> Result<(), StoreError> {
        self.write("change a VPS", |change| update_spec(change, vps))
    }

    /// Removes a VPS with its addresses, ids, snapshots, last exit and last state, and updates its
    /// operation. Does nothing to a VPS that has been removed already.
    pub fn delete_vps(&self, vps: &VpsId, operation: &OperationRecord) -> Result<(), StoreError> {
        self.write("forget a VPS", |change| {
            change.execute("DELETE FROM vps WHERE id = ?1", [vps.to_string()])?;
            update_operation(change, operation)
        })
    }

    /// Every address that is assigned.
    pub fn addresses(&self) -> Result<Vec<AddressAssignment>, StoreError> {
        self.read("list addresses", |db| {
            db.prepare_cached("SELECT network, address, vps FROM address")?
                .query_map([], |row| {
                    Ok(AddressAssignment {
                        network: parsed(row, "network")?,
                        address: parsed(row, "address")?,
                        vps: parsed(row, "vps")?,
                    })
                })?
                .collect()
        })
    }

    /// The address of the network that was assigned last.
    pub fn last_address(&self, network: &str) -> Result<Option<IpAddr>, StoreError> {
        Ok(self.setting(&address_cursor(network))?.and_then(|text| text.parse().ok()))
    }

    /// The start of the part of 65,536 ids that was assigned last.
    pub fn last_id_range(&self) -> Result<Option<u32>, StoreError> {
        Ok(self.setting(ID_RANGE_CURSOR)?.and_then(|text| text.parse().ok()))
    }

    /// How each VPS's last run ended.
    pub fn exits(&self) -> Result<Vec<(VpsId, ExitRecord)>, StoreError> {
        self.read("list exits", |db| {
            db.prepare_cached("SELECT vps, record FROM last_exit")?
                .query_map([], |row| Ok((parsed(row, "vps")?, from_json(row, "record")?)))?
                .collect()
        })
    }

    /// Keeps how a VPS's last run ended, together with the spec, which says whether it should run
    /// from now on.
    pub fn put_exit(&self, vps: &VpsSpec, record: &ExitRecord) -> Result<(), StoreError> {
        self.write("store how a VPS ended", |change| {
            insert_exit(change, &vps.id, record)?;
            update_spec(change, vps)
        })
    }

    /// Keeps how a VPS's last run ended without changing its spec, such as when it has booted
    /// again. Does nothing if the VPS has been removed.
    pub fn put_end(&self, vps: &VpsId, record: &ExitRecord) -> Result<(), StoreError> {
        self.write("store how a VPS ended", |change| insert_exit(change, vps, record))
    }

    /// All snapshots of all VPSes.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        self.read("list snapshots", |db| {
            db.prepare_cached("SELECT vps, name, created_at FROM snapshot ORDER BY created_at, name")?
                .query_map([], |row| {
                    Ok(SnapshotInfo {
                        vps: parsed(row, "vps")?,
                        name: parsed(row, "name")?,
                        created_at: row.get("created_at")?,
                        size: None,
                    })
                })?
                .collect()
        })
    }

    /// Keeps a new snapshot, together with the operation that takes it.
    ///
    /// # Errors
    /// [`StoreError::Taken`] with `operation.requester, operation.request_id`, or with
    /// `snapshot.vps, snapshot.name` if the VPS has a snapshot of this name.
    pub fn insert_snapshot(
        &self,
        snapshot: &SnapshotInfo,
        operation: &OperationRecord,
    ) -> Result<(), StoreError> {
        self.write("store a new snapshot", |change| {
            insert_operation(change, operation)?;
            let row = params![snapshot.vps.to_string(), snapshot.name.as_str(), snapshot.created_at];
            change.execute("INSERT INTO snapshot (vps, name, created_at) VALUES (?1, ?2, ?3)", row).map(drop)
        })
    }

    /// Removes a snapshot. Does nothing if it has been removed already.
    pub fn delete_snapshot(&self, vps: &VpsId, name: &SnapshotName) -> Result<(), StoreError> {
        self.write("forget a snapshot", |change| {
            change
                .execute(
                    "DELETE FROM snapshot WHERE vps = ?1 AND name = ?2",
                    [&vps.to_string(), name.as_str()],
                )
                .map(drop)
        })
    }
}

/// The value of the unique column: the name or, in the trash, a text that no VPS can have as its
/// name. No name contains '~'.
fn name_column(vps: &VpsSpec) -> String {
    match vps.trash {
        None => vps.name.to_string(),
        Some(_) => format!("{}~{}", vps.name, vps.id),
    }
}

/// Keeps how a VPS ended. Does nothing if the VPS has been removed.
fn insert_exit(change: &Change<'_>, vps: &VpsId, record: &ExitRecord) -> rusqlite::Result<()> {
    const INSERT: &str = "INSERT OR REPLACE INTO last_exit (vps, record)
        SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM vps WHERE id = ?1)";
    change.prepare_cached(INSERT)?.execute(params![vps.to_string(), to_json(record)]).map(drop)
}

/// Changes a VPS's spec. Does nothing if the VPS has been removed.
fn update_spec(change: &Change<'_>, vps: &VpsSpec) -> rusqlite::Result<()> {
    let row = params![vps.id.to_string(), name_column(vps), to_json(vps)];
    change.prepare_cached("UPDATE vps SET name = ?2, spec = ?3 WHERE id = ?1")?.execute(row).map(drop)
}

fn insert_ids(change: &Change<'_>, vps: &VpsSpec) -> rusqlite::Result<()> {
    for start in vps.placement.ids.parts() {
        let row = params![start, vps.id.to_string()];
        change.execute("INSERT INTO id_range (start, vps) VALUES (?1, ?2)", row)?;
        put_setting(change, ID_RANGE_CURSOR, &start.to_string())?;
    }
    Ok(())
}

fn insert_addresses(change: &Change<'_>, vps: &VpsSpec) -> rusqlite::Result<()> {
    for PlacedNic { nic, addresses } in vps.placed_nics() {
        for address in addresses {
            let row = params![nic.network.as_str(), address.to_string(), vps.id.to_string()];
            change.execute("INSERT INTO address (network, address, vps) VALUES (?1, ?2, ?3)", row)?;
            put_setting(change, &address_cursor(nic.network.as_str()), &address.to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{operation, store, vps};
    use insula_types::{ExitReason, OperationKind, OperationState, Trash};

    #[test]
    fn nothing_is_given_twice_and_a_refusal_leaves_nothing() {
        let (_directory, store) = store();
        let create = || operation(OperationKind::CreateVps);
        store.insert_vps(&vps("web1", "10.0.0.2", 65_536), &create()).unwrap();
        for (again, taken) in [
            (vps("web1", "10.0.0.3", 131_072), "vps.name"),
            (vps("web2", "10.0.0.2", 131_072), "address.network, address.address"),
            (vps("web2", "10.0.0.3", 65_536), "id_range.start"),
        ] {
            let error = store.insert_vps(&again, &create()).unwrap_err();
            assert!(matches!(&error, StoreError::Taken { what, .. } if what == taken), "{error}");
        }
        assert_eq!((store.vpses().unwrap().len(), store.addresses().unwrap().len()), (1, 1));
        assert_eq!(store.unfinished_operations().unwrap().len(), 1);
        assert_eq!(store.last_id_range().unwrap(), Some(65_536));
    }

    #[test]
    fn ids_in_a_row_are_all_taken_and_can_be_exchanged() {
        let (_directory, store) = store();
        let create = || operation(OperationKind::CreateVps);
        let long = |name: &str, address: &str, start: u32, parts: u32| {
            let mut long = vps(name, address, start);
            long.placement.ids.length *= parts;
            long
        };
        let mut web1 = long("web1", "10.0.0.2", 65_536, 2);
        store.insert_vps(&web1, &create()).unwrap();
        assert_eq!(store.last_id_range().unwrap(), Some(131_072), "the last of them");
        let taken = |result: Result<(), StoreError>| {
            assert!(
                matches!(&result, Err(StoreError::Taken { what, .. }) if what == "id_range.start"),
                "{result:?}"
            );
        };
        taken(store.insert_vps(&vps("web2", "10.0.0.3", 131_072), &create()));
        store.insert_vps(&vps("web2", "10.0.0.3", 196_608), &create()).unwrap();
        web1.placement.ids = long("x", "10.0.0.9", 131_072, 2).placement.ids;
        taken(store.exchange_ids(&web1));
        assert_eq!(store.vpses().unwrap()[0].placement.ids.start, 65_536, "a refusal leaves what was");
        web1.placement.ids = long("x", "10.0.0.9", 262_144, 3).placement.ids;
        for _ in 0..2 {
            store.exchange_ids(&web1).unwrap();
            assert_eq!(store.vpses().unwrap()[0], web1);
        }
        store.insert_vps(&vps("web3", "10.0.0.4", 65_536), &create()).unwrap();
        store.delete_vps(&web1.id, &create()).unwrap();
        store.insert_vps(&vps("web4", "10.0.0.5", 393_216), &create()).unwrap();
    }

    #[test]
    fn a_deleted_vps_leaves_nothing_and_may_be_deleted_twice() {
        let (_directory, store) = store();
        let web1 = vps("web1", "10.0.0.2", 65_536);
        let create = operation(OperationKind::CreateVps);
        store.insert_vps(&web1, &create).unwrap();
        let snapshot = SnapshotInfo { vps: web1.id, name: "one".parse().unwrap(), created_at: 5, size: None };
        store.insert_snapshot(&snapshot, &operation(OperationKind::CreateSnapshot)).unwrap();
        let exit = ExitRecord { reason: ExitReason::PowerOff, at_ms: 9, detail: None };
        store.put_exit(&web1, &exit).unwrap();
        assert_eq!(store.exits().unwrap(), [(web1.id, exit.clone())]);
        let reboot = ExitRecord { reason: ExitReason::Reboot, at_ms: 10, detail: None };
        store.put_end(&web1.id, &reboot).unwrap();
        assert_eq!(store.exits().unwrap(), [(web1.id, reboot)]);
        store.put_exit(&web1, &exit).unwrap();
        assert_eq!(store.snapshots().unwrap(), [snapshot]);
        for _ in 0..2 {
            store.delete_vps(&web1.id, &create).unwrap();
        }
        store.put_exit(&web1, &exit).unwrap();
        store.put_end(&web1.id, &exit).unwrap();
        let left = (
            store.vpses().unwrap().len(),
            store.addresses().unwrap().len(),
            store.snapshots().unwrap().len(),
        );
        assert_eq!((left, store.exits().unwrap().len()), ((0, 0, 0), 0));
        store.insert_vps(&vps("web1", "10.0.0.2", 65_536), &operation(OperationKind::CreateVps)).unwrap();
    }

    #[test]
    fn a_vps_in_the_trash_holds_its_address_and_not_its_name() {
        let (_directory, store) = store();
        let create = || operation(OperationKind::CreateVps);
        let taken = |result: Result<(), StoreError>| match result {
            Err(StoreError::Taken { what, .. }) => Some(what),
            _ => None,
        };
        let mut old = vps("web1", "10.0.0.2", 65_536);
        store.insert_vps(&old, &create()).unwrap();
        old.trash = Some(Trash { deleted_at_ms: 1, expires_at_ms: 2 });
        store.update_vps(&old).unwrap();
        let exit = ExitRecord { reason: ExitReason::PowerOff, at_ms: 9, detail: None };
        store.put_exit(&old, &exit).unwrap();
        let same_address = store.insert_vps(&vps("web2", "10.0.0.2", 131_072), &create());
        assert_eq!(taken(same_address).as_deref(), Some("address.network, address.address"));
        let mut new = vps("web1", "10.0.0.3", 131_072);
        store.insert_vps(&new, &create()).unwrap();
        assert_eq!(store.vpses().unwrap(), [old.clone(), new.clone()]);

        old.trash = None;
        assert_eq!(taken(store.update_vps(&old)).as_deref(), Some("vps.name"));
        new.name = "web3".parse().unwrap();
        store.update_vps(&new).unwrap();
        store.update_vps(&old).unwrap();
        assert_eq!(store.vpses().unwrap(), [old, new]);
    }

    #[test]
    fn two_of_one_name_may_be_in_the_trash() {
        let (_directory, store) = store();
        for (address, start) in [("10.0.0.2", 65_536), ("10.0.0.3", 131_072)] {
            let mut web1 = vps("web1", address, start);
            store.insert_vps(&web1, &operation(OperationKind::CreateVps)).unwrap();
            web1.trash = Some(Trash { deleted_at_ms: 1, expires_at_ms: 2 });
            store.update_vps(&web1).unwrap();
        }
        assert_eq!(store.vpses().unwrap().len(), 2);
    }

    #[test]
    fn the_operation_that_deletes_is_over_with_the_vps() {
        let (_directory, store) = store();
        let web1 = vps("web1", "10.0.0.2", 65_536);
        store.insert_vps(&web1, &operation(OperationKind::CreateVps)).unwrap();
        let mut delete = operation(OperationKind::DeleteVps);
        store.insert_operation(&delete).unwrap();
        delete.state = OperationState::Succeeded;
        for _ in 0..2 {
            store.delete_vps(&web1.id, &delete).unwrap();
            assert_eq!(store.last_event(), 3);
        }
    }
}
