//! The monitor's state and its event loop.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use insula_types::ExitRecord;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use super::boot::Guest;
use super::clients::Clients;
use super::console::Console;
use super::exec::Exec;
use super::reboots::Reboots;
use crate::plan::{ReadyMode, StartPlan};
use crate::protocol::{Phase, StartFailure, StartPhase, Status};
use crate::run_dir::VpsDirectory;

/// A monitor with a plan.
pub(super) struct Monitor {
    pub plan: StartPlan,
    pub directory: VpsDirectory,
    pub console: Console,
    pub status: Status,
    pub guest: Option<Guest>,
    pub stop: Option<Stop>,
    pub reboots: Reboots,
    /// When init was executed.
    pub booted_at: Instant,
    /// When it is booted again, while it waits for that.
    pub boot_at: Option<Instant>,
    /// Set when the guest has been killed by us.
    pub is_killed: bool,
    pub clients: Clients,
    pub execs: BTreeMap<u32, Exec>,
    pub last_exec: u32,
    /// How it ended: the loop ends.
    pub record: Option<ExitRecord>,
    /// SIGCHLD and SIGTERM.
    pub signals: SignalFd,
    epoll: OwnedFd,
    listener: OwnedFd,
}

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Stop {
    /// When the guest is killed.
    pub deadline: Instant,
    /// Whether init has been told: one that does not listen yet would lose the signal.
    pub is_told: bool,
    /// When it is told again, if it is one that drops the signal at times.
    pub next: Option<Instant>,
}

/// How often init is looked at until it listens to the signal to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(20);

/// How long an init that drops the signal at times may be silent before it is told again.
pub(super) const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Console,
    Notify,
    Signals,
    Client(u32),
    Exec(u32),
}

impl Source {
    /// As the number that epoll keeps: the kind above, the rest below.
    fn to_number(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Console => (1, 0),
            Self::Notify => (2, 0),
            Self::Signals => (3, 0),
            Self::Client(client) => (4, client),
            Self::Exec(exec) => (5, exec),
        };
        kind << 32 | u64::from(number)
    }

    fn from_number(number: u64) -> Option<Self> {
        let rest = u32::try_from(number & u64::from(u32::MAX)).ok()?;
        Some(match number >> 32 {
            0 => Self::Listener,
            1 => Self::Console,
            2 => Self::Notify,
            3 => Self::Signals,
            4 => Self::Client(rest),
            5 => Self::Exec(rest),
            _ => return None,
        })
    }
}

impl Monitor {
    /// Makes all that a monitor needs beside its guest: directory, plan file, socket.
    pub fn prepare(plan: StartPlan) -> Result<Self, StartFailure> {
        let failed = |what| StartFailure::at(StartPhase::Prepare, what);
        let directory = VpsDirectory::new(&plan.host.run_dir, &plan.id);
        directory.make().map_err(failed("make the VPS's run directory"))?;
        let _ = std::fs::remove_file(directory.exit_record()); // of the life before
        let listener = open_listener(&directory).map_err(failed("open the monitor's socket"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| failed("make an epoll")(errno.into()))?;
        let status = Status {
            vps: plan.id,
            phase: Phase::Starting,
            init_pid: None,
            boots: 0,
            started_at_ms: None,
            ready_at_ms: None,
            boot_at_ms: None,
            last_end: None,
        };
        let monitor = Self {
            directory,
            console: Console::default(),
            status,
            guest: None,
            stop: None,
            reboots: Reboots::default(),
            booted_at: Instant::now(),
            boot_at: None,
            is_killed: false,
            clients: Clients::default(),
            execs: BTreeMap::new(),
            last_exec: 0,
            record: None,
            signals: open_signals().map_err(failed("take signals by descriptor"))?,
            epoll,
            listener,
            plan,
        };
        monitor.write_plan().map_err(failed("write the plan"))?;
        monitor.watch(&monitor.listener, Source::Listener).map_err(failed("watch the monitor's socket"))?;
        monitor.watch(&monitor.signals, Source::Signals).map_err(failed("watch for signals"))?;
        Ok(monitor)
    }

    /// Writes the plan beside the socket.
    pub fn write_plan(&self) -> io::Result<()> {
        self.directory.write(&self.directory.plan(), &serde_json::to_vec(&self.plan)?)
    }

    /// Boots the guest and serves it and the clients, `control` first among them, until it is over. Returns the exit code.
    pub fn serve(mut self, control: OwnedFd) -> i32 {
        let client = self.clients.add(control);
        self.clients.subscribe(client);
        self.watch_client(client);
        self.boot();
        while self.record.is_none() {
            if let Err(error) = self.turn() {
                eprintln!("insula-monitor: {}: failed to wait for events: {error}", self.plan.id);
                self.kill();
                break;
            }
        }
        self.end()
    }

    /// Waits for events and serves them.
    fn turn(&mut self) -> io::Result<()> {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; 16];
        let timeout = self.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let (events, _) = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            result => result?,
        };
        for event in events.iter() {
            if let Some(source) = Source::from_number(event.data.u64()) {
                self.serve_source(source);
            }
        }
        self.serve_deadlines();
        for client in self.clients.drop_lost() {
            self.hang_up(client);
        }
        Ok(())
    }

    fn serve_source(&mut self, source: Source) {
        match source {
            Source::Listener => {
                if let Some(client) = self.clients.accept(&self.listener) {
                    self.watch_client(client);
                }
            }
            Source::Console => self.serve_console(),
            Source::Notify => self.serve_notify(),
            Source::Signals => self.serve_signals(),
            Source::Client(client) => self.serve_client(client),
            Source::Exec(exec) => self.serve_exec(exec),
        }
    }

    fn serve_console(&mut self) {
        let may_have_more = self.console.read(|bytes| self.clients.show(bytes));
        if self.plan.guest.init.ready == ReadyMode::LoginPrompt && self.console.has_prompt() {
            self.become_ready();
        }
        if may_have_more && let Some(master) = self.console.master() {
            // Edge-triggered: asks the kernel to look again.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(Source::Console.to_number());
            let _ = epoll::modify(&self.epoll, master, data, flags);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let stop = self.stop.as_ref().map(|stop| match stop.is_told {
            true => stop.next.unwrap_or(stop.deadline).min(stop.deadline),
            false => stop.deadline.min(Instant::now() + STOP_INTERVAL),
        });
        let entering = self.execs.values().filter(|exec| exec.socket.is_some());
        entering.map(|exec| exec.deadline).chain(stop).chain(self.boot_at).min()
    }

    fn serve_deadlines(&mut self) {
        let now = Instant::now();
        self.go_on_stopping(now);
        if self.boot_at.is_some_and(|boot_at| boot_at <= now) {
            self.boot();
        }
        let late = |exec: &Exec| exec.socket.is_some() && exec.deadline <= now;
        let late: Vec<u32> =
            self.execs.iter().filter(|(_, exec)| late(exec)).map(|(&number, _)| number).collect();
        late.into_iter().for_each(|exec| self.abandon_exec(exec));
    }

    /// Watches a descriptor until it is closed.
    pub fn watch(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        // A console that nobody in the guest has open would always be ready with an error.
        let edge = if source == Source::Console { epoll::EventFlags::ET } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(source.to_number());
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN | edge)?)
    }

    fn watch_client(&mut self, client: u32) {
        let watched = self.clients.socket(client).map(|socket| self.watch(socket, Source::Client(client)));
        if !matches!(watched, Some(Ok(()))) {
            self.clients.lose(client);
        }
    }
}

/// SIGCHLD and SIGTERM as a descriptor. They stay blocked in children until these reset them.
fn open_signals() -> io::Result<SignalFd> {
    let mask: SigSet = [Signal::SIGCHLD, Signal::SIGTERM].into_iter().collect();
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn open_listener(directory: &VpsDirectory) -> io::Result<OwnedFd> {
    let path = directory.socket();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(&path)?)?; // the umask makes it 0600, or rather 0700 without use
    listen(&socket, 16)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_epoll() {
        use Source::*;
        for source in [Listener, Console, Notify, Signals, Client(7), Exec(0), Exec(u32::MAX)] {
            assert_eq!(Source::from_number(source.to_number()), Some(source));
        }
    }
}
