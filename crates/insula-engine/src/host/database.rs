//! The host's database, for tasks that must not block. What its records mean is known by the files that use them, and
//! not here.

use std::ops::Deref;
use std::sync::Arc;

use insula_store::{Store, StoreError};

use crate::blocking::blocking;
use crate::error::EngineError;

/// The database. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Database(Arc<Store>);

impl Database {
    pub(crate) fn new(store: Store) -> Self {
        Self(Arc::new(store))
    }

    /// Works with the database, from a thread that may block.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let store = self.0.clone();
        blocking("use the database", move || work(&store).map_err(EngineError::from)).await
    }
}

/// For threads that may block already.
impl Deref for Database {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0
    }
}
