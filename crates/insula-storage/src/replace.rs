//! Replaces a root, for drivers whose volumes are names in a directory. Two renames do it: before them, the copy is beside the
//! root, and after them, the old root is.
//!
//! ```text
//! root ──copy──> root, incoming ──rename──> outgoing, incoming ──rename──> outgoing, root' ──commit──> root'
//!                      ^                          │                              │
//! root <──remove───────┴────────rename────────────┴───────────rename─────────────┘ undo
//! ```
//!
//! Which volumes exist says how far a replacement has come, so each step may be repeated (docs/adr/0005). An exchange in one
//! step would undo itself when it is repeated.

use insula_types::VpsId;

use crate::{Driver, Volume, VolumeError};

/// What a driver must be able to do for this.
pub trait Rename: Driver {
    /// Whether a volume exists.
    fn has(&self, volume: &Volume) -> Result<bool, VolumeError>;

    /// Renames a volume. The change is on disk when this returns. A volume that has the new name is not overwritten.
    fn rename(&self, from: &Volume, to: &Volume) -> Result<(), VolumeError>;
}

/// See [`Driver::replace_root`].
pub fn replace_root(driver: &impl Rename, vps: VpsId, from: &Volume) -> Result<bool, VolumeError> {
    let (root, incoming, outgoing) = (Volume::Root(vps), Volume::Incoming(vps), Volume::Outgoing(vps));
    let is_retired = driver.has(&outgoing)?;
    match (driver.has(&root)?, is_retired) {
        (true, true) => return driver.ensure_clone(from, &root), // it was done, unless with another copy
        (false, false) => return Err(VolumeError::Missing(root)),
        _ => {}
    }
    match driver.ensure_clone(from, &incoming) {
        Err(VolumeError::OtherOrigin { .. }) if !is_retired => {
            driver.ensure_absent(&incoming)?; // of a half-done replacement with another copy
            driver.ensure_clone(from, &incoming)?;
        }
        result => drop(result?),
    }
    if !is_retired {
        driver.rename(&root, &outgoing)?;
    }
    driver.rename(&incoming, &root)?;
    Ok(true)
}

/// See [`Driver::commit_replacement`].
pub fn commit_replacement(driver: &impl Rename, vps: VpsId) -> Result<(), VolumeError> {
    let root = Volume::Root(vps);
    match driver.has(&root)? {
        true => driver.ensure_absent(&Volume::Outgoing(vps)).map(drop),
        false => Err(VolumeError::Missing(root)), // otherwise no root would be left
    }
}

/// See [`Driver::undo_replacement`].
pub fn undo_replacement(driver: &impl Rename, vps: VpsId) -> Result<(), VolumeError> {
    let (root, incoming, outgoing) = (Volume::Root(vps), Volume::Incoming(vps), Volume::Outgoing(vps));
    if driver.has(&outgoing)? {
        if driver.has(&root)? {
            driver.ensure_absent(&incoming)?;
            driver.rename(&root, &incoming)?;
        }
        driver.rename(&outgoing, &root)?;
    }
    driver.ensure_absent(&incoming).map(drop)
}
