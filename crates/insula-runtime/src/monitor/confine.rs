//! The last step before execve(2), for init and for every program that is run in the guest.

use std::io;

use insula_sys::process::{join_new_session_keyring, load_seccomp};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::plan::SeccompFilter;

/// Takes away what no process of the guest may have. Not `PR_SET_NO_NEW_PRIVS`: sudo(8) works in a guest.
///
/// # Errors
/// What was being done, and the kernel's error.
pub(crate) fn confine(
    dropped_capabilities: &[u32],
    seccomp: &SeccompFilter,
) -> Result<(), (&'static str, io::Error)> {
    match join_new_session_keyring() {
        Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => {
            return Err(("make a session keyring", error));
        }
        _ => {}
    }
    for number in dropped_capabilities {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) | Err(Errno::INVAL) => {} // a kernel without this capability
            Err(errno) => return Err(("drop a capability", errno.into())),
        }
    }
    load_seccomp(&seccomp.0).map_err(|error| ("load the system call filter", error))
}
