//! VPSes: found by name or id, in the trash or not, and their specs kept.

use std::sync::Arc;

use insula_store::StoreError;
use insula_types::{Reason, VpsId, VpsSpec};

use crate::model::checks::name_taken;
use crate::{Engine, EngineError, VpsHandle, VpsView};

impl Engine {
    /// The VPS that somebody means by a name or an id.
    pub fn vps(&self, text: &str) -> Result<Arc<VpsHandle>, EngineError> {
        self.table.find(text)
    }

    /// All VPSes, by name. From memory.
    pub fn vpses(&self) -> Vec<VpsView> {
        self.table.by_name().iter().map(|handle| handle.view()).collect()
    }

    /// The VPSes in the trash, by name, and those of one name oldest first.
    pub fn deleted_vpses(&self) -> Vec<VpsView> {
        let all = self.table.all();
        let mut deleted: Vec<VpsView> =
            all.iter().map(|handle| handle.view()).filter(|view| view.spec.trash.is_some()).collect();
        deleted.sort_by(|a, b| (&a.spec.name, a.spec.id).cmp(&(&b.spec.name, b.spec.id)));
        deleted
    }

    /// The VPS that somebody means, in the trash or not; one that is not goes first.
    pub fn vps_or_deleted(&self, text: &str) -> Result<Arc<VpsHandle>, EngineError> {
        self.table.find(text).or_else(|error| self.table.find_deleted(text).ok_or(error))
    }

    /// The VPS in the trash that somebody means: of several that had the name, the one deleted last.
    pub fn deleted_vps(&self, text: &str) -> Result<Arc<VpsHandle>, EngineError> {
        self.table.find_deleted(text).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            match self.table.find(text) {
                Ok(handle) => {
                    let message = format!("VPS {:?} is not in the trash", handle.name().as_str());
                    EngineError::new(Reason::VpsNotFound, message)
                }
                Err(_) => {
                    EngineError::new(Reason::VpsNotFound, format!("there is no VPS {shown:?} in the trash"))
                        .hint("list the trash: insula list --deleted")
                }
            }
        })
    }

    /// Changes a VPS's spec: in the database first, then in memory.
    pub(crate) async fn change_spec(
        &self,
        vps: &VpsId,
        change: impl FnOnce(&mut VpsSpec),
    ) -> Result<(), EngineError> {
        let Some(handle) = self.table.by_id(vps) else { return Ok(()) };
        let before = handle.spec();
        let mut spec = (*before).clone();
        change(&mut spec);
        if spec == *before {
            return Ok(());
        }
        let kept = spec.clone();
        let store = self.store.clone();
        crate::blocking("change a VPS", move || {
            store.update_vps(&kept).map_err(|error| match &error {
                StoreError::Taken { what, .. } if what.contains("vps.name") => name_taken(&kept.name),
                _ => EngineError::from(error),
            })
        })
        .await?;
        self.table.change(&handle, spec);
        self.note_state(&handle);
        Ok(())
    }
}
