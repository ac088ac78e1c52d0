//! Processes: clone3(2), seccomp(2), keyrings, signals, open descriptors, and daemons that start from a sealed file in memory.

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

/// The options of [`clone_process`].
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneRequest<'a> {
    /// The namespaces that the process gets anew (`CLONE_NEW…`).
    pub namespaces: Option<CloneFlags>,
    /// The directory of the cgroup2 group that the process starts in. `None`: that of the caller.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether the parent of the process is the caller's parent (`CLONE_PARENT`) instead of the caller.
    pub is_sibling: bool,
}

/// A cloned process. Its parent must wait for it, or it remains as a zombie after its end.
#[derive(Debug)]
pub struct Cloned {
    /// Its id in the caller's pid namespace.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

unsafe extern "C" {
    /// A `char` of glibc that is 0 once the process has had a second thread. The thread that makes another one writes it, so
    /// it is read as an atomic.
    #[link_name = "__libc_single_threaded"]
    safe static LIBC_SINGLE_THREADED: AtomicU8;
}

/// Clones the process like fork(2). The child calls `child`, and exits with the code that this returns, or 101 if it panics.
///
/// # Errors
/// Those of clone3(2). `EDEADLK` in a process with several threads: a lock that another thread holds would stay locked in the
/// child.
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
        // A sibling sends the signal that the caller sends: clone(2), CLONE_PARENT.
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

/// Sends a signal by its number, also a real-time one, to the process of a pidfd (pidfd_send_signal(2)).
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: takes numbers and a null pointer, which is allowed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) })
}

/// Sends a signal by its number to the process `pid` or, if `pid` is negative, to the process group `-pid` (kill(2)).
pub fn send_signal_to(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(pid, signal) }.into())
}

/// A child that has ended and was not reaped yet, if there is one. It remains so (waitid(2), `WNOWAIT`).
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

/// Loads a seccomp filter in the kernel's format (`struct sock_filter[]`). It applies to the calling thread, its later children,
/// and the programs that they execute.
///
/// The caller needs `CAP_SYS_ADMIN` in its user namespace, since this does not set `PR_SET_NO_NEW_PRIVS`.
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

/// Gives the process a new, empty session keyring (keyctl(2)), in place of the one that it has inherited.
pub fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    let anonymous: *const c_char = std::ptr::null();
    // SAFETY: takes a number and a null pointer, which stands for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) })
}

/// Sets all signals to their default actions, and unblocks all. This includes the two that glibc reserves for itself, and that
/// signal(2) can't change.
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

/// Closes all descriptors from `first` on, which the caller's parent may have left open.
///
/// # Safety
/// Nothing in the process may own one of these descriptors. Its owner would later find it closed, or another file in its place.
/// A program meets this condition at its very start, when it has opened nothing yet.
pub unsafe fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: as the caller promises.
    unsafe { close_range(first, u32::MAX) }
}

/// Closes all descriptors but the standard streams and `kept`. For a process that is about to look up an untrusted path: such a
/// path can lead through `/proc/self/fd/<number>` to any open file, even one that execve(2) would close (CVE-2024-21626).
///
/// # Safety
/// Nothing in the process may use one of the closed descriptors from now on, not even to close it: the number may belong to
/// another file by then. A child of [`clone_process`] never returns to its parent's work. So it meets this condition if it
/// uses only the kept descriptors itself.
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

/// Lets the threads of the process share so many heaps, from now on. Otherwise, the C library gives each thread a heap of its own,
/// up to eight for each CPU, and each keeps memory that its threads no longer use (mallopt(3), `M_ARENA_MAX`).
pub fn limit_heaps(count: u8) {
    // SAFETY: takes numbers only. It fails for none of these.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, count.into()) };
}

/// A program that was copied from its file to memory, and sealed. A holder of its descriptor can neither change the program nor
/// reach the host's file.
#[derive(Debug)]
pub struct SealedProgram {
    file: File,
}

impl SealedProgram {
    /// Copies the program at `path`. `name` is shown as the file's name in `/proc`.
    pub fn load(path: &Path, name: &CStr) -> io::Result<Self> {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        const MFD_EXEC: u32 = 0x10; // since Linux 6.3; nix does not name it
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let executable = flags | MFdFlags::from_bits_retain(MFD_EXEC);
        let memfd = memfd_create(name, executable).or_else(|_| memfd_create(name, flags))?;
        let mut file = File::from(memfd);
        io::copy(&mut File::open(path)?, &mut file)?;
        file.rewind()?;
        // F_SEAL_WRITE would look for mappings that can still write to a page, and fail with EBUSY if the kernel itself
        // happens to hold one. Nobody has mapped this file, so it is enough to seal it against writes in the future.
        let seals = [
            SealFlag::F_SEAL_FUTURE_WRITE,
            SealFlag::F_SEAL_GROW,
            SealFlag::F_SEAL_SHRINK,
            SealFlag::F_SEAL_SEAL,
        ];
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals.into_iter().collect()))?;
        Ok(Self { file })
    }

    /// Runs the program with an empty environment, `control` as its standard input, and `log` as its standard error. Returns when
    /// its first process ends, which it does at once in a daemon.
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
