//! Acting as the guest's root, in the host's terms.

use std::io;

use insula_types::IdRange;
use rustix::thread::{CapabilitiesSecureBits, Uid, set_capabilities_secure_bits, set_thread_res_uid};

/// Acts with the guest's root as the effective user, with all capabilities: the user that makes a user namespace owns it, and
/// what is in it counts against the owner's limits on the host (128 inotify instances, 200 keys). Owned by the host's root, all
/// guests would share one such budget, and the 17th would not boot.
pub(super) fn as_owner<T>(ids: IdRange, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let unchanged = None::<Uid>;
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?; // keeps the capabilities
    set_thread_res_uid(unchanged, Uid::from_raw(ids.start), unchanged)?;
    let result = act();
    set_thread_res_uid(unchanged, Uid::ROOT, unchanged)?;
    result
}
