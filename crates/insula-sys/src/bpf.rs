//! Programs attached to cgroups: bpf(2), `linux/bpf.h`. A program decides what the processes of a group, and of all groups
//! below it, may do. It goes when the group goes.

mod assembler;

use std::ffi::{CStr, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use assembler::{Assembler, Instruction, Label, Register};

/// What a program decides about. Its answer 1 is yes; 0 is no, and the process gets `EPERM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Whether a process may open or make a device: `BPF_CGROUP_DEVICE`.
    Device,
    /// Whether a process may read or write a sysctl: `BPF_CGROUP_SYSCTL`.
    Sysctl,
}

impl Hook {
    /// The numbers of `enum bpf_prog_type` and `enum bpf_attach_type`.
    fn numbers(self) -> (u32, u32) {
        match self {
            Self::Device => (15, 6),
            Self::Sysctl => (23, 18),
        }
    }
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadRequest {
    program_type: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface_index: u32,
    attach_type: u32,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachRequest {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches one more program to a cgroup2 group. Only what all its programs allow is allowed. Needs `CAP_BPF` and
/// `CAP_NET_ADMIN`.
///
/// # Errors
/// Those of bpf(2): `EINVAL` if the kernel lacks such programs (`CONFIG_CGROUP_BPF`), `EACCES` if it can't prove the program
/// harmless.
pub fn attach_to_group(group: BorrowedFd<'_>, hook: Hook, program: &[Instruction]) -> io::Result<()> {
    const BPF_PROG_ATTACH: c_long = 8;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let loaded = load(hook, program)?;
    let request = AttachRequest {
        target: group.as_raw_fd().unsigned_abs(),
        program: loaded.as_raw_fd().unsigned_abs(),
        attach_type: hook.numbers().1,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the request outlives the call and holds numbers only.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, std::ptr::from_ref(&request), size_of_val(&request))
    };
    check(result).map(drop)
}

fn load(hook: Hook, program: &[Instruction]) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: c_long = 5;
    const LICENSE: &CStr = c"Apache-2.0"; // the programs call no function that is reserved for the GPL
    let (program_type, attach_type) = hook.numbers();
    let request = LoadRequest {
        program_type,
        attach_type,
        length: program.len().try_into().map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        instructions: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        name: *b"insula\0\0\0\0\0\0\0\0\0\0",
        ..LoadRequest::default()
    };
    // SAFETY: the request, and the program and the license that it points to, outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, std::ptr::from_ref(&request), size_of_val(&request))
    };
    let fd = check(result)?;
    // SAFETY: the kernel has just made the descriptor for us, closed on execve(2).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: c_long) -> io::Result<i32> {
    match i32::try_from(result) {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_the_kernel_has_them() {
        assert_eq!(
            (size_of::<Instruction>(), size_of::<LoadRequest>(), size_of::<AttachRequest>()),
            (8, 72, 16)
        );
    }

    #[test]
    fn a_program_that_decides_nothing_is_refused() {
        let no_end = [Instruction { code: 0xb7, registers: 0, offset: 0, value: 1 }];
        for hook in [Hook::Device, Hook::Sysctl] {
            assert_eq!(load(hook, &no_end).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }
}
