//! What the tasks of VPSes tell. They do not know their listeners.

use std::fmt::Debug;

use insula_types::LimitKind;

use crate::vps::handle::VpsHandle;

/// Hears what happens to VPSes.
pub(crate) trait News: Debug + Send + Sync {
    /// The state of a VPS may be another than before.
    fn note_state(&self, handle: &VpsHandle);

    /// A VPS has hit a limit so many times.
    fn note_limit(&self, handle: &VpsHandle, limit: LimitKind, count: u64);
}
