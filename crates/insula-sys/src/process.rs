//! Processes: clone3(2), capabilities' neighbours, seccomp(2), keyrings, signals, and the start of a daemon from a
//! sealed file in memory.

use std::ffi::{CStr, c_char, c_long, c_ulong};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sched::CloneFlags;

/// How a process is to be cloned.
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneRequest<'a> {
    /// The namespaces that are made for it (`CLONE_NEW…`).
    pub namespaces: Option<CloneFlags>,
    /// The cgroup2 directory that it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether its parent is the caller's parent (`CLONE_PARENT`).
    pub is_sibling: bool,
}

/// A cloned process. It must be waited for, or it stays behind as a zombie.
#[derive(Debug)]
pub struct Cloned {
    /// Its number in the caller's pid namespace.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
}

unsafe extern "C" {
    /// glibc: a `char` that says whether the process has had one thread only. A thread that is being made changes it, so
    /// it is read as an atomic.
    #[link_name = "__libc_single_threaded"]
    safe static LIBC_SINGLE_THREADED: AtomicU8;
}

/// Clones the process like fork(2). The child calls `child` and ends with what that returns; a panic is code 101.
///
/// # Errors
/// The kernel's; `EDEADLK` in a process with several threads, whose locks would stay locked in the child.
pub fn clone_process(request: &CloneRequest<'_>, child: impl FnOnce() -> i32) -> io::Result<Cloned> {
    if LIBC_SINGLE_THREADED.load(Ordering::Relaxed) == 0 {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let mut pidfd: RawFd = -1;
    let mut arguments = libc::clone_args {
        flags: flags_of(request),
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling inherits the signal.
        exit_signal: if request.is_sibling { 0 } else { libc::SIGCHLD.unsigned_abs().into() },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: request.cgroup.map_or(0, |cgroup| u64::from(cgroup.as_raw_fd().unsigned_abs())),
    };
    // SAFETY: without CLONE_VM the child has its own memory, and as the only thread it may go on as after fork(2).
    // The arguments and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of_val(&arguments)) };
    match i32::try_from(pid) {
        Ok(0) => {
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: ends the child without running what the parent registered for its own end.
            unsafe { libc::_exit(code) }
        }
        // SAFETY: the kernel has just made the descriptor for us.
        Ok(pid) if pid > 0 => Ok(Cloned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn flags_of(request: &CloneRequest<'_>) -> u64 {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000; // libc has it as an int that overflows
    let mut flags = libc::CLONE_PIDFD as u64;
    flags |= request.namespaces.map_or(0, |namespaces| u64::from(namespaces.bits().cast_unsigned()));
    flags |= if request.cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    flags | if request.is_sibling { libc::CLONE_PARENT as u64 } else { 0 }
}

fn check(result: c_long) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Sends a signal by number, real-time ones included (pidfd_send_signal(2)).
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: takes numbers and a null pointer, which is allowed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) })
}

/// Sends a signal by number to a process, or to the process group `-pid` (kill(2)).
pub fn send_signal_to(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(pid, signal) }.into())
}

/// A child that has ended and is not reaped yet, if there is one: it is left so (waitid(2), `WNOWAIT`).
pub fn ended_child() -> Option<rustix::process::Pid> {
    // SAFETY: all zeroes are a valid siginfo_t, which the call fills, or leaves as it is when no child has ended.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` outlives the call, and what it says of a child is valid or zero.
    let pid = unsafe {
        libc::waitid(libc::P_ALL, 0, &raw mut info, options);
        info.si_pid()
    };
    rustix::process::Pid::from_raw(pid)
}

/// Loads a seccomp filter, in the kernel's format (`struct sock_filter[]`), for the calling process and what comes of it.
///
/// `PR_SET_NO_NEW_PRIVS` is not set: the caller needs `CAP_SYS_ADMIN` in its user namespace.
pub fn load_seccomp(filter: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let instructions: Vec<libc::sock_filter> = filter
        .chunks(size_of::<libc::sock_filter>())
        .map(|bytes| {
            let &[a, b, jt, jf, k0, k1, k2, k3] = bytes else { return Err(invalid()) };
            let (code, k) = (u16::from_ne_bytes([a, b]), u32::from_ne_bytes([k0, k1, k2, k3]));
            Ok(libc::sock_filter { code, jt, jf, k })
        })
        .collect::<io::Result<_>>()?;
    let program = libc::sock_fprog {
        len: instructions.len().try_into().map_err(|_| invalid())?,
        filter: instructions.as_ptr().cast_mut(), // the kernel only reads it
    };
    // SAFETY: `program` points to `len` instructions that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
}

/// Gives the process a new, empty session keyring (keyctl(2)), so that it does not hold its starter's.
pub fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    let anonymous: *const c_char = std::ptr::null();
    // SAFETY: takes a number and a null pointer, which stands for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) })
}

/// Sets every signal to its default action and blocks none: also the two that glibc keeps for itself and does
/// not let signal(2) touch.
pub fn reset_signals() {
    #[repr(C)]
    struct KernelSigaction {
        handler: usize,
        flags: c_ulong,
        restorer: usize,
        mask: u64,
    }
    let default = KernelSigaction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    let none = 0_u64;
    for signal in 1..=64 {
        // SAFETY: the action outlives the call and names no function. SIGKILL and SIGSTOP are refused.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, 0_usize, size_of::<u64>())
        };
    }
    // SAFETY: the mask outlives the call.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0_usize, size_of::<u64>())
    };
}

/// Closes every descriptor from `first` on: what the caller's parent forgot to close.
///
/// # Safety
/// Nothing in the process may own one of these descriptors: what uses it later would find it closed, or another file in
/// its place. At the very start of a program, which has opened nothing yet, that is so.
pub unsafe fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: as the caller promises.
    unsafe { close_range(first, u32::MAX) }
}

/// Closes every descriptor but the standard streams and `kept`. For a process that is about to look up a path that it
/// can't trust: what is open is reached by `/proc/self/fd/<number>`, even if it is to be closed later (CVE-2024-21626).
///
/// # Safety
/// Nothing in the process may use one of the closed descriptors from now on, not even to close it: the number may belong
/// to another file by then. In a child of [`clone_process`], which never returns to its parent's work, that is so if the
/// child itself uses none but the kept ones.
pub unsafe fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|kept| kept.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for kept in kept {
        if kept > first {
            // SAFETY: as the caller promises.
            unsafe { close_range(first, kept - 1) }?;
        }
        first = first.max(kept + 1);
    }
    // SAFETY: as the caller promises.
    unsafe { close_range(first, u32::MAX) }
}

/// # Safety
/// Nothing in the process may use these descriptors from now on.
unsafe fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: takes numbers only, and nobody uses what they stand for.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Gives free memory of the heap back to the kernel.
pub fn trim_heap() {
    // SAFETY: only touches the allocator's free memory.
    unsafe { libc::malloc_trim(0) };
}

/// A program's file, copied to memory and sealed: a holder of its descriptor can neither change the program nor
/// reach the host's file.
#[derive(Debug)]
pub struct SealedProgram {
    file: File,
}

impl SealedProgram {
    /// Copies the program at `path`.
    pub fn load(path: &Path, name: &CStr) -> io::Result<Self> {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        const MFD_EXEC: u32 = 0x10; // since Linux 6.3; nix does not name it
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let executable = flags | MFdFlags::from_bits_retain(MFD_EXEC);
        let memfd = memfd_create(name, executable).or_else(|_| memfd_create(name, flags))?;
        let mut file = File::from(memfd);
        io::copy(&mut File::open(path)?, &mut file)?;
        file.rewind()?;
        // Not F_SEAL_WRITE: it looks for mappings that may still write to a page, and fails with EBUSY when the kernel
        // itself happens to hold one. Nobody has mapped this file, so that what is in the future is all there is.
        let seals = [
            SealFlag::F_SEAL_FUTURE_WRITE,
            SealFlag::F_SEAL_GROW,
            SealFlag::F_SEAL_SHRINK,
            SealFlag::F_SEAL_SEAL,
        ];
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals.into_iter().collect()))?;
        Ok(Self { file })
    }

    /// Runs the program until its first process ends, which a daemon's does at once, with an empty environment,
    /// `control` as its standard input and `log` as its standard error.
    pub fn run_daemon(&self, name: &str, control: OwnedFd, log: Option<File>) -> io::Result<()> {
        #[allow(clippy::disallowed_methods)] // not an external program: one of ours
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command.arg0(name).env_clear().current_dir("/");
        command.stdin(control).stdout(Stdio::null()).stderr(log.map_or_else(Stdio::null, Stdio::from));
        match command.status()? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(format!("{name} ended with {status}"))),
        }
    }
}
