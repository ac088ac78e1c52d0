//! All VPSes of the host, found by name or id. [`Table`] owns the index: names are changed only through it, after the
//! database has the change. It does not look at what a VPS is doing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use insula_types::{IdRange, Reason, VpsId, VpsName, VpsSpec};

use crate::{EngineError, VpsHandle};

/// The error for a VPS that is not there, or not for everybody.
pub fn no_such_vps(text: &str) -> EngineError {
    let shown: String = text.chars().take(80).collect();
    EngineError::new(Reason::VpsNotFound, format!("there is no VPS {shown:?}")).hint("see insula list")
}

/// All VPSes, found by name or id.
#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<VpsId, Arc<VpsHandle>>,
    by_name: BTreeMap<VpsName, VpsId>,
}

impl Table {
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, those in the trash too, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<VpsHandle>> {
        self.read().by_id.values().cloned().collect()
    }

    /// The user ids that they have on the host, those in the trash too.
    pub(crate) fn taken_ids(&self) -> Vec<IdRange> {
        self.read().by_id.values().map(|handle| handle.spec().placement.ids).collect()
    }

    /// Those that are not in the trash, by name.
    pub(crate) fn by_name(&self) -> Vec<Arc<VpsHandle>> {
        let index = self.read();
        index.by_name.values().filter_map(|id| index.by_id.get(id).cloned()).collect()
    }

    /// The VPS of this id.
    pub(crate) fn by_id(&self, id: &VpsId) -> Option<Arc<VpsHandle>> {
        self.read().by_id.get(id).cloned()
    }

    /// The VPS that somebody means by a name or an id.
    ///
    /// # Errors
    /// [`Reason::VpsNotFound`], with a name that looks like the one asked for.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<VpsHandle>, EngineError> {
        let index = self.read();
        let by_name = text.parse::<VpsName>().ok().and_then(|name| index.by_name.get(&name).copied());
        let id = by_name.or_else(|| text.parse().ok());
        id.and_then(|id| index.by_id.get(&id).cloned()).ok_or_else(|| no_such_vps(text))
    }

    /// The VPS in the trash that somebody means by its id or the name it had: of several, the one deleted last.
    pub(crate) fn find_deleted(&self, text: &str) -> Option<Arc<VpsHandle>> {
        let id: Option<VpsId> = text.parse().ok();
        let fits = |handle: &&Arc<VpsHandle>| {
            let spec = handle.spec();
            spec.trash.is_some() && (id == Some(handle.id) || spec.name.as_str() == text)
        };
        let index = self.read();
        let when = |handle: &&Arc<VpsHandle>| handle.spec().trash.map(|trash| trash.deleted_at_ms);
        index.by_id.values().filter(fits).max_by_key(when).cloned()
    }

    pub(crate) fn insert(&self, handle: Arc<VpsHandle>) {
        let mut index = self.write();
        let spec = handle.spec();
        if spec.trash.is_none() {
            index.by_name.insert(spec.name.clone(), handle.id);
        }
        index.by_id.insert(handle.id, handle);
    }

    /// Keeps a changed spec, which is in the database already. A VPS in the trash has no name.
    pub(crate) fn change(&self, handle: &VpsHandle, spec: VpsSpec) {
        let mut index = self.write();
        let before = handle.name();
        if index.by_name.get(&before) == Some(&handle.id) {
            index.by_name.remove(&before);
        }
        if spec.trash.is_none() {
            index.by_name.insert(spec.name.clone(), handle.id);
        }
        handle.set_spec(spec);
    }

    pub(crate) fn remove(&self, id: &VpsId) {
        let mut index = self.write();
        if let Some(handle) = index.by_id.remove(id) {
            let name = handle.name();
            if index.by_name.get(&name) == Some(id) {
                index.by_name.remove(&name);
            }
        }
    }
}
