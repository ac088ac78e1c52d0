//! The capabilities that a guest never has, not even in its own user namespace.

/// A capability that is dropped from the bounding set.
#[derive(Debug, Clone, Copy)]
pub struct DroppedCapability {
    /// As in capabilities(7).
    pub name: &'static str,
    /// As in `linux/capability.h`.
    pub number: u32,
    /// Why a guest does not need it.
    pub reason: &'static str,
}

/// All of them. `CAP_SYS_BOOT` stays: init calls reboot(2), which ends its pid namespace. So do `CAP_SYS_ADMIN` and
/// `CAP_NET_ADMIN`: a guest mounts file systems and configures its network, and the kernel holds them against its
/// user namespace.
pub const DROPPED_CAPABILITIES: &[DroppedCapability] = &[
    dropped("CAP_SYS_MODULE", 16, "kernel modules are the host's"),
    dropped("CAP_SYS_RAWIO", 17, "ports and raw disks are the host's"),
    dropped("CAP_SYS_PACCT", 20, "process accounting is the host's"),
    dropped("CAP_SYS_TIME", 25, "the clock is the host's; without it systemd starts no time service"),
    dropped("CAP_AUDIT_CONTROL", 30, "the audit rules are the host's"),
    dropped("CAP_MAC_OVERRIDE", 32, "the security policy is the host's"),
    dropped("CAP_MAC_ADMIN", 33, "the security policy is the host's"),
    dropped("CAP_SYSLOG", 34, "the kernel's log is the host's"),
    dropped("CAP_WAKE_ALARM", 35, "wake-up timers are the host's"),
    dropped("CAP_BLOCK_SUSPEND", 36, "the host decides when it sleeps"),
    dropped("CAP_AUDIT_READ", 37, "the audit log is the host's"),
    dropped("CAP_PERFMON", 38, "performance counters see the host"),
    dropped("CAP_BPF", 39, "programs in the kernel see the host"),
];

const fn dropped(name: &'static str, number: u32, reason: &'static str) -> DroppedCapability {
    DroppedCapability { name, number, reason }
}
