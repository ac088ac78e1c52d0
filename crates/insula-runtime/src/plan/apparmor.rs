//! What AppArmor denies a guest, as data. It is a second wall, in case user namespace, capabilities or seccomp have a hole.
//!
//! The profile allows everything but what is listed, each with its reason. A denial is by name or path, and holds even
//! against a process that has all capabilities of the host.

use std::fmt::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::capability::DROPPED_CAPABILITIES;

/// The name of the profile in the namespace of each VPS.
pub const GUEST_PROFILE: &str = "guest";

/// The policy that a guest runs under, from its init on. It is loaded into a namespace of policies of the VPS's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppArmorPlan {
    /// The file with [`render_profile`], as compiled for the host's kernel.
    pub policy: PathBuf,
}

/// Files that are not to be used.
#[derive(Debug, Clone, Copy)]
pub struct DeniedFiles {
    /// A pattern as in apparmor.d(5).
    pub pattern: &'static str,
    /// What is denied: letters as there.
    pub access: &'static str,
    /// Why it is denied.
    pub reason: &'static str,
}

/// A type of file systems that is not to be mounted.
#[derive(Debug, Clone, Copy)]
pub struct DeniedMount {
    /// As in `/proc/filesystems`.
    pub filesystem: &'static str,
    /// Why it is denied.
    pub reason: &'static str,
}

const WRITE: &str = "wkl";
const ALL: &str = "rwklx";

/// All files. What would run a program on the host is denied wherever it appears: a bind mount gives it another path.
pub const DENIED_FILES: &[DeniedFiles] = &[
    files("/{,**/}sys/kernel/core_pattern", WRITE, "the host runs what it names, when a program crashes"),
    files("/{,**/}sys/kernel/{modprobe,hotplug,poweroff_cmd}", WRITE, "the host runs what it names"),
    files("/{,**/}kernel/uevent_helper", WRITE, "the host runs what it names, at every event of a device"),
    files("/{,**/}sys/kernel/usermodehelper/**", WRITE, "bounds what the kernel runs on the host"),
    files("/{,**/}release_agent", WRITE, "the host runs what it names, when a group of v1 is empty"),
    files("/{,**/}sysrq-trigger", ALL, "reboots and kills on the host"),
    files("/{,**/}proc/kcore", ALL, "the host's memory"),
    files("/proc/sys/{abi,crypto,debug,dev,sunrpc,vm}/**", WRITE, "settings of the host's kernel"),
    files(
        "/proc/sys/fs/[^bm]**",
        WRITE,
        "settings of the host's kernel; queues and formats of programs are a guest's own",
    ),
    files(
        "/proc/sys/kernel/{apparmor*,bpf*,cad_pid,core_*,dmesg*,ftrace*,hung_task*,io_uring*,kexec*,kptr*,modules_*,numa*,oops*,panic*,perf*,printk*,random/**,randomize*,sched*,seccomp/**,soft*,stack*,sysrq,tainted,threads-max,timer*,unprivileged*,unknown*,warn*,watchdog*,yama/**}",
        WRITE,
        "settings of the host's kernel; names and IPC are a guest's own",
    ),
    files(
        "/proc/{acpi,asound,bus,dynamic_debug,fs,irq,mtrr,scsi,tty}/**",
        WRITE,
        "controls of the host's kernel",
    ),
    files("/sys/{block,bus,class,dev,firmware,hypervisor,module,power}/**", WRITE, "devices of the host"),
    files(
        "/sys/devices/{[^v]*,virtual/[^n]*}/**",
        WRITE,
        "devices of the host; network interfaces are a guest's own",
    ),
    files("/sys/kernel/**", WRITE, "controls of the host's kernel"),
    files("/sys/kernel/{debug,security,tracing}/**", ALL, "the inside and the policy of the host's kernel"),
    files("/sys/firmware/**", ALL, "variables and tables of the host's firmware"),
    files("/sys/fs/[^c]**", WRITE, "controls of the host's file systems; groups are a guest's own"),
];

/// All types. The kernel refuses most of them to a user namespace.
pub const DENIED_MOUNTS: &[DeniedMount] = &[
    mount("bpf", "programs in the kernel see the host"),
    mount("configfs", "objects of the host's kernel"),
    mount("debugfs", "the inside of the host's kernel"),
    mount("devtmpfs", "the host's devices"),
    mount("efivarfs", "variables of the host's firmware"),
    mount("pstore", "what the host's kernel said when it died"),
    mount("securityfs", "the host's security policy"),
    mount("tracefs", "the inside of the host's kernel"),
];

const fn files(pattern: &'static str, access: &'static str, reason: &'static str) -> DeniedFiles {
    DeniedFiles { pattern, access, reason }
}

const fn mount(filesystem: &'static str, reason: &'static str) -> DeniedMount {
    DeniedMount { filesystem, reason }
}

/// The profile's text, for apparmor_parser(8): the same for every guest. What a guest may do to processes, it may do to those
/// of the same profile in the same namespace, which are its own.
pub fn render_profile() -> String {
    // The features of AppArmor 3.0 are known to every Debian that has Insula; newer ones would allow less by default.
    let mut text =
        format!("abi <abi/3.0>,\nprofile {GUEST_PROFILE} flags=(attach_disconnected,mediate_deleted) {{\n");
    text.push_str("  capability,\n  dbus,\n  file,\n  mount,\n  network,\n  pivot_root,\n  umount,\n");
    // The host looks into its guests, and ends them.
    text.push_str("  ptrace (readby, tracedby),\n  signal (receive),\n");
    let _ =
        writeln!(text, "  ptrace (read, trace) peer={GUEST_PROFILE},\n  signal (send) peer={GUEST_PROFILE},");
    for dropped in DROPPED_CAPABILITIES {
        let name = dropped.name.trim_start_matches("CAP_").to_lowercase();
        let _ = writeln!(text, "  deny capability {name}, # {}", dropped.reason);
    }
    for DeniedFiles { pattern, access, reason } in DENIED_FILES {
        let _ = writeln!(text, "  deny {pattern} {access}, # {reason}");
    }
    for DeniedMount { filesystem, reason } in DENIED_MOUNTS {
        let _ = writeln!(text, "  deny mount fstype={filesystem}, # {reason}");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_denies_what_is_listed() {
        insta::assert_snapshot!(render_profile());
    }

    #[test]
    fn no_reason_ends_its_line() {
        let reasons =
            DENIED_FILES.iter().map(|files| files.reason).chain(DENIED_MOUNTS.iter().map(|m| m.reason));
        assert!(reasons.into_iter().all(|reason| !reason.is_empty() && !reason.contains('\n')));
    }
}
