//! A program in the guest before it is executed.
//!
//! ```text
//! monitor ─clone3→ helper, born in the guest's cgroup ─setns→ in the guest's namespaces
//!                     └─clone3, CLONE_PARENT→ the program, in the guest's pid namespace, a child of the monitor
//! ```
//!
//! Two processes, because a process that enters a pid namespace stays outside: only its children are inside. Until
//! execve(2) both have the monitor's memory: they are not dumpable, so that no process of the guest can look into them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use insula_sys::beneath::{self, Reach};
use insula_sys::process::{CloneRequest, clone_process, close_all_but, reset_signals};
use rustix::fs::{CWD, Mode, OFlags, fstat, fstatfs, major, minor};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, fchdir, getpid, ioctl_tiocsctty, pidfd_open, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::tcsetwinsize;
use rustix::thread::{
    Gid, ThreadNameSpaceType, Uid, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

use super::boot::reset_memory_kill_score;
use super::child::tell;
use super::confine::confine;
use super::console::window;
use crate::apparmor::AppArmor;
use crate::plan::{DEFAULT_PATH, StartPlan};
use crate::protocol::{ExecFailure, ExecRequest, TerminalSize};

/// What helper and program tell the monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EnterMessage {
    /// The program's process is there; its descriptor comes along.
    Inside,
    /// The master of the program's terminal comes along.
    Terminal,
    /// The program is executed now: the next word is the end of the connection, or a failure.
    Executing,
    /// It failed.
    Failed(ExecFailure, Vec<String>),
}

/// What the helper has from the monitor.
pub(super) struct EnterInput<'a> {
    pub plan: &'a StartPlan,
    pub request: &'a ExecRequest,
    pub socket: OwnedFd,
    pub init: &'a OwnedFd,
    /// Standard input, output and error, if there is no terminal.
    pub streams: &'a [OwnedFd],
}

type Failed = (ExecFailure, Vec<String>);

pub(super) fn failed<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> Failed {
    move |error| (ExecFailure::Other, vec![what.to_owned(), error.into().to_string()])
}

/// The helper's life.
pub(super) fn enter(input: &EnterInput<'_>) -> i32 {
    report(input, help(input))
}

fn report(input: &EnterInput<'_>, result: Result<(), Failed>) -> i32 {
    let Err((reason, chain)) = result else { return 0 };
    let _ = tell(&input.socket, &EnterMessage::Failed(reason, chain), &[]); // the monitor has gone: nobody to tell
    reason.exit_code()
}

fn help(input: &EnterInput<'_>) -> Result<(), Failed> {
    reset_memory_kill_score("self").map_err(failed("reset oom_score_adj"))?;
    if input.plan.host.apparmor.is_some() {
        // Here, in front of the host's /proc: the program's process inherits it.
        let apparmor = AppArmor::of(&input.plan.host.layout.root_name);
        apparmor.enter_at_exec(&input.plan.id).map_err(failed("enter the AppArmor policy"))?;
    }
    let all = ThreadNameSpaceType::USER
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    move_into_thread_name_spaces(input.init.as_fd(), all).map_err(failed("enter the guest's namespaces"))?;
    let request = CloneRequest { is_sibling: true, ..CloneRequest::default() };
    clone_process(&request, || report(input, execute(input).map(|never| match never {})))
        .map(drop)
        .map_err(failed("clone into the guest's pid namespace"))
}

fn send(input: &EnterInput<'_>, message: &EnterMessage, fd: &[BorrowedFd<'_>]) -> Result<(), Failed> {
    tell(&input.socket, message, fd).map_err(|failure| (ExecFailure::Other, failure.chain))
}

fn execute(input: &EnterInput<'_>) -> Result<std::convert::Infallible, Failed> {
    let ExecRequest { argv, environment, directory, terminal, .. } = input.request;
    let this =
        pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed("open a descriptor of the process"))?;
    send(input, &EnterMessage::Inside, &[this.as_fd()])?;
    drop(this);
    set_thread_groups(&[]).map_err(failed("drop the groups"))?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(failed("become group root"))?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(failed("become root"))?;
    setsid().map_err(failed("begin a session"))?;
    let terminal = terminal.map(|size| open_terminal(input, size)).transpose()?;
    connect_streams(terminal.as_ref().map_or(input.streams, std::slice::from_ref))?;
    drop(terminal);
    // From here on, paths of the guest and of the caller are looked up: nothing of the host may be open.
    #[allow(unsafe_code)]
    // SAFETY: what the monitor owns is not touched in this child, which owns nothing but the socket by now.
    let closed = unsafe { close_all_but(&[input.socket.as_fd()]) };
    closed.map_err(failed("close all descriptors"))?;
    enter_directory(directory).map_err(|errno| {
        let reason = if errno == Errno::NOENT { ExecFailure::NotFound } else { ExecFailure::Other };
        (
            reason,
            vec![format!("failed to enter the directory {directory}"), io::Error::from(errno).to_string()],
        )
    })?;
    reset_signals();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let (argv, environment) = (strings(argv)?, strings(environment)?);
    confine(&input.plan.guest.dropped_capabilities, &input.plan.guest.seccomp)
        .map_err(|(what, error)| failed(what)(error))?;
    tell(&input.socket, &EnterMessage::Executing, &[])
        .map_err(|failure| (ExecFailure::Other, failure.chain))?;
    let errno = execute_from_path(&argv, &environment);
    let reason = match errno {
        Errno::NOENT | Errno::NOTDIR => ExecFailure::NotFound,
        _ => ExecFailure::NotExecutable,
    };
    let program = argv.first().map_or_else(String::new, |program| program.to_string_lossy().into_owned());
    Err((reason, vec![format!("failed to execute {program}"), io::Error::from(errno).to_string()]))
}

/// Not through `/proc/<process>/cwd` and its like, which lead to where no path leads.
fn enter_directory(path: &str) -> rustix::io::Result<()> {
    fchdir(beneath::open(CWD, path, Reach::Anywhere, OFlags::PATH | OFlags::DIRECTORY)?)
}

fn strings(texts: &[String]) -> Result<Vec<CString>, Failed> {
    let string = |text: &String| CString::new(&**text).map_err(failed("read the arguments"));
    texts.iter().map(string).collect()
}

/// Terminal: one descriptor for all three streams. Else there are three.
fn connect_streams(streams: &[OwnedFd]) -> Result<(), Failed> {
    let stream = |index: usize| streams.get(index).or(streams.first()).ok_or(Errno::BADF);
    stream(0).and_then(rustix::stdio::dup2_stdin).map_err(failed("set the standard input"))?;
    stream(1).and_then(rustix::stdio::dup2_stdout).map_err(failed("set the standard output"))?;
    stream(2).and_then(rustix::stdio::dup2_stderr).map_err(failed("set the standard error"))
}

/// Makes a terminal in the guest's `/dev/pts`, sends its master to the monitor and returns its slave, which controls the
/// session. The guest is hostile: what it has put there must be the kernel's devpts.
fn open_terminal(input: &EnterInput<'_>, size: TerminalSize) -> Result<OwnedFd, Failed> {
    const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let master = beneath::open(CWD, "/dev/pts/ptmx", Reach::AnywhereUnlinked, flags)
        .map_err(failed("open /dev/pts/ptmx"))?;
    let device = fstat(&master).map_err(failed("inspect /dev/pts/ptmx"))?.st_rdev;
    let filesystem = fstatfs(&master).map_err(failed("inspect /dev/pts"))?.f_type;
    if (major(device), minor(device)) != (5, 2) || filesystem.cast_unsigned() != DEVPTS_SUPER_MAGIC {
        return Err(failed("trust the guest's /dev/pts")(io::Error::from(io::ErrorKind::InvalidData)));
    }
    unlockpt(&master).map_err(failed("unlock the terminal"))?;
    tcsetwinsize(&master, window(size)).map_err(failed("set the terminal's size"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(failed("open the terminal"))?;
    ioctl_tiocsctty(&slave).map_err(failed("take the terminal as the session's"))?;
    send(input, &EnterMessage::Terminal, &[master.as_fd()])?;
    Ok(slave)
}

/// As execvpe(3), with the `PATH` of the environment. Returns why it could not be executed.
fn execute_from_path(argv: &[CString], environment: &[CString]) -> Errno {
    let Some(program) = argv.first().map(|program| program.to_bytes()) else { return Errno::NOENT };
    if program.is_empty() {
        return Errno::NOENT;
    }
    if program.contains(&b'/') {
        return execute_file(&argv[0], argv, environment);
    }
    let path = environment.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or(&DEFAULT_PATH.as_bytes()["PATH=".len()..]);
    let mut result = Errno::NOENT;
    for directory in path.split(|byte| *byte == b':') {
        let Ok(file) = CString::new([directory, b"/", program].concat()) else { continue };
        match execute_file(&file, argv, environment) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => result = Errno::ACCESS, // another directory may have one that can be executed
            errno => return errno,
        }
    }
    result
}

fn execute_file(file: &CStr, argv: &[CString], environment: &[CString]) -> Errno {
    let Err(errno) = nix::unistd::execve(file, argv, environment);
    Errno::from_raw_os_error(errno as i32)
}
