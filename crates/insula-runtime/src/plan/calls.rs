//! The system calls that a guest is refused.
//!
//! The user namespace already refuses most of them. The filter is the second wall: a flaw in one of these calls is
//! out of a guest's reach, and what would show the host (its log, its counters) stays with the host. Calls that were not
//! there when the list was last looked through are refused, too: see [`NEWEST_CALL`].

use insula_sys::btrfs::SUBVOLUME_CREATION_IOCTLS;

/// A system call that is refused.
#[derive(Debug, Clone, Copy)]
pub struct DeniedCall {
    /// The system call's name.
    pub name: &'static str,
    /// The error number that the caller gets.
    pub errno: i32,
    /// Why it is refused.
    pub reason: &'static str,
}

/// A system call that is refused by its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeniedWhen {
    /// The system call's name.
    pub name: &'static str,
    /// The arguments with which it is refused.
    pub test: ArgumentTest,
    /// The error number that the caller gets.
    pub errno: i32,
    /// Why it is refused.
    pub reason: &'static str,
}

/// What is asked of the arguments of a system call, by their places from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentTest {
    /// Refused whatever the arguments are.
    Always,
    /// This one has all of these bits.
    HasBits(u32, u32),
    /// This one is not zero.
    IsNotZero(u32),
}

/// All of them.
#[rustfmt::skip] // a table
pub const DENIED_CALLS: &[DeniedCall] = &[
    // The kernel itself.
    denied("init_module", "kernel modules are the host's"),
    denied("finit_module", "kernel modules are the host's"),
    denied("delete_module", "kernel modules are the host's"),
    denied("create_module", "kernel modules are the host's"),
    denied("query_module", "kernel modules are the host's"),
    denied("get_kernel_syms", "shows kernel addresses"),
    denied("kexec_load", "would replace the host's kernel"),
    denied("kexec_file_load", "would replace the host's kernel"),
    denied("bpf", "the verifier is a large surface; programs see the host"),
    denied("perf_event_open", "counters see the host; a large surface"),
    denied("userfaultfd", "stops the kernel in the middle of a copy: the helper of many exploits"),
    missing("io_uring_setup", "a large surface that this filter can't look into; programs fall back"),
    missing("io_uring_enter", "see io_uring_setup"),
    missing("io_uring_register", "see io_uring_setup"),
    denied("syslog", "the kernel's log is the host's"),
    denied("lookup_dcookie", "shows kernel addresses; for profilers"),
    denied("kcmp", "compares kernel addresses"),
    // Hardware.
    denied("iopl", "raw I/O"),
    denied("ioperm", "raw I/O"),
    denied("pciconfig_read", "raw I/O"),
    denied("pciconfig_write", "raw I/O"),
    denied("pciconfig_iobase", "raw I/O"),
    denied("vm86", "virtual 8086 mode is a surface without users"),
    denied("vm86old", "virtual 8086 mode is a surface without users"),
    // What the host has once.
    denied("settimeofday", "the clock is the host's"),
    denied("clock_settime", "the clock is the host's"),
    denied("clock_settime64", "the clock is the host's"),
    denied("stime", "the clock is the host's"),
    denied("swapon", "swap is the host's"),
    denied("swapoff", "swap is the host's"),
    denied("acct", "process accounting is the host's"),
    denied("quotactl", "quotas are set by the host"),
    denied("quotactl_fd", "quotas are set by the host"),
    denied("nfsservctl", "the kernel's NFS server is the host's"),
    // Ways around a guest's borders.
    denied("open_by_handle_at", "opens files of the host's file systems past any mount (the Shocker exploit)"),
    missing("add_key", "keys of all guests count against shared quotas; a history of flaws"),
    missing("request_key", "asks the host's helper programs for keys"),
    missing("keyctl", "see add_key"),
    // Relics.
    denied("uselib", "a.out libraries"),
    denied("_sysctl", "gone from the kernel"),
    denied("ustat", "takes device numbers of the host"),
    denied("sysfs", "lists the host's file systems by number"),
    denied("bdflush", "gone from the kernel"),
    denied("modify_ldt", "16-bit segments: a surface with a history of flaws"),
];

/// The newest system call that [`DENIED_CALLS`] was looked through for: `file_setattr`, Linux 6.17. What a kernel has beyond
/// answers `ENOSYS` in a guest, as if it ran on the older kernel, so that nothing is open that nobody has looked at.
///
/// Since Linux 5.1 a new call has the same number on all architectures. Those of the x32 ABI are above, and are all refused:
/// no distribution has programs for it, and the way into the kernel has had flaws of its own (CVE-2014-0038).
pub const NEWEST_CALL: u32 = 469;

/// An ioctl(2) that is refused, whatever the descriptor.
#[derive(Debug, Clone, Copy)]
pub struct DeniedIoctl {
    /// The ioctl's number.
    pub number: u32,
    /// The error number that the caller gets.
    pub errno: i32,
    /// Why it is refused.
    pub reason: &'static str,
}

/// All ioctls that are refused.
pub const DENIED_IOCTLS: [DeniedIoctl; 4] = {
    let [snap, subvol, snap2, subvol2] = SUBVOLUME_CREATION_IOCTLS;
    [no_btrfs(snap), no_btrfs(subvol), no_btrfs(snap2), no_btrfs(subvol2)]
};

/// `ENOTTY` says that the file system is no btrfs, so that systemd makes directories instead.
const fn no_btrfs(number: u32) -> DeniedIoctl {
    let reason =
        "a subvolume made inside counts into no disk limit if its maker says so, and is in no snapshot";
    DeniedIoctl { number, errno: libc::ENOTTY, reason }
}

const fn denied(name: &'static str, reason: &'static str) -> DeniedCall {
    DeniedCall { name, errno: libc::EPERM, reason }
}

/// Refused as if the kernel had no such call, so that programs use another way.
const fn missing(name: &'static str, reason: &'static str) -> DeniedCall {
    DeniedCall { name, errno: libc::ENOSYS, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libseccomp::ScmpSyscall;

    #[test]
    fn what_has_a_reason_to_be_refused_is_not_newer_than_the_list() {
        for call in DENIED_CALLS {
            let number = ScmpSyscall::from_name(call.name).map_or(-1, i32::from);
            assert!(number < i32::try_from(NEWEST_CALL).unwrap(), "{}", call.name);
            assert!(!call.reason.is_empty());
        }
    }
}
