//! Replacing a root where a volume is a name in a directory: two renames, with the copy beside the root before and the
//! old root beside it after.
//!
//! ```text
//! root ──copy──> root, incoming ──rename──> outgoing, incoming ──rename──> outgoing, root' ──commit──> root'
//!                      ^                          │                              │
//! root <──remove───────┴────────rename────────────┴───────────rename─────────────┘ undo
//! ```
//!
//! What is there says how far it is, so that every step may be repeated (docs/adr/0005): an exchange in one step would
//! take itself back when it is.

use insula_types::VpsId;

use crate::{Driver, Volume, VolumeError};

/// What it takes of a driver.
pub trait Rename: Driver {
    /// Whether a volume is there.
    fn has(&self, volume: &Volume) -> Result<bool, VolumeError>;

    /// Gives a volume another name, on disk when it returns. What has that name already is not overwritten.
    fn rename(&self, from: &Volume, to: &Volume) -> Result<(), VolumeError>;
}

/// See [`Driver::replace_root`].
pub fn replace_root(driver: &impl Rename, vps: VpsId, from: &Volume) -> Result<bool, VolumeError> {
    let (root, incoming, outgoing) = (Volume::Root(vps), Volume::Incoming(vps), Volume::Outgoing(vps));
    let is_retired = driver.has(&outgoing)?;
    match (driver.has(&root)?, is_retired) {
        (true, true) => return driver.ensure_clone(from, &root), // it was done, if with this copy
        (false, false) => return Err(VolumeError::Missing(root)),
        _ => {}
    }
    match driver.ensure_clone(from, &incoming) {
        Err(VolumeError::OtherOrigin { .. }) if !is_retired => {
            driver.ensure_absent(&incoming)?; // half a replacement with another copy
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
        false => Err(VolumeError::Missing(root)), // or nothing would be left
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
