//! The networks of the host.

use insula_types::{NetworkName, NetworkSpec};
use rusqlite::params;

use crate::column::{json_rows, to_json};
use crate::{Store, StoreError};

impl Store {
    /// The networks of this host, by name.
    pub fn networks(&self) -> Result<Vec<NetworkSpec>, StoreError> {
        self.read("list networks", |db| json_rows(db, "SELECT spec FROM network ORDER BY name"))
    }

    /// Keeps a network, replacing one of the same name.
    pub fn put_network(&self, network: &NetworkSpec) -> Result<(), StoreError> {
        self.write("store a network", |change| {
            let row = params![network.name.as_str(), to_json(network)];
            change.execute("INSERT OR REPLACE INTO network (name, spec) VALUES (?1, ?2)", row).map(drop)
        })
    }

    /// Removes a network. Does nothing if it has been removed already.
    pub fn delete_network(&self, name: &NetworkName) -> Result<(), StoreError> {
        self.write("forget a network", |change| {
            change.execute("DELETE FROM network WHERE name = ?1", [name.as_str()]).map(drop)
        })
    }
}
