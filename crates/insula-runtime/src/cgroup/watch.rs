//! Limits that are hit, as events.
//!
//! cgroup2 and v1's `pids` report a change of their counters by POLLPRI to every process that has the file open. v1's
//! `memory` rings an eventfd(2), and does so *before* it kills: a timer makes the watch look again, when the kill is
//! counted.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use insula_types::VpsId;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::groups::{refused, write};
use super::usage::{MAX_COUNTERS, find_count};
use super::{CgroupError, CgroupLayout, Controller};

/// When to look after v1 has said that memory is short, each counted from the look before. A kill takes milliseconds; it
/// takes longer when the kernel's report goes to a serial console.
const LOOKS: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(2)];

/// How often a VPS has met its limits since its groups were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitCounts {
    /// Processes that the kernel killed because memory ran out.
    pub memory_kills: u64,
    /// Processes that could not be made. Before Linux 6.11 cgroup2 counts those in the guest's own groups, and none here.
    pub fork_refusals: u64,
}

/// Tells when a VPS meets its limits: its descriptor becomes readable, level-triggered, when
/// [`read_counts`](Self::read_counts) may have news.
///
/// It holds as long as the VPS's groups: on cgroup2 until the guest's next boot, be it a reboot of its own; on v1 until its
/// next start.
#[derive(Debug)]
pub struct LimitWatch {
    epoll: OwnedFd,
    /// The file with `oom_kill`.
    memory: Option<File>,
    /// Where v1 rings.
    bell: Option<Bell>,
    /// `pids.events`.
    processes: Option<File>,
}

impl LimitWatch {
    /// Opens the counters of a VPS that runs, before anything can be missed: what they say now is read with the first
    /// [`read_counts`](Self::read_counts). A controller that the host does not have is not watched.
    pub fn open(layout: &CgroupLayout, id: &VpsId) -> Result<Self, CgroupError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| refused("watch", &layout.unified_group(id))(errno.into()))?;
        let mut watch = Self { epoll, memory: None, bell: None, processes: None };
        if let Some(group) = layout.group_with(Controller::Memory, id) {
            let path = group.join(layout.memory_kills_file());
            let file = open(&path)?;
            match layout.legacy_of(Controller::Memory) {
                Some(_) => watch.bell = Some(watch.hang_bell(&group, &file)?),
                None => watch.add(&file, epoll::EventFlags::PRI).map_err(refused("watch", &path))?,
            }
            watch.memory = Some(file);
        }
        if let Some(group) = layout.group_with(Controller::Pids, id) {
            let path = group.join("pids.events");
            let file = open(&path)?;
            watch.add(&file, epoll::EventFlags::PRI).map_err(refused("watch", &path))?;
            watch.processes = Some(file);
        }
        Ok(watch)
    }

    fn add(&self, fd: impl AsFd, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(0), flags)?)
    }

    /// Registers an eventfd: Documentation/admin-guide/cgroup-v1/memory.rst, section 10.
    fn hang_bell(&self, group: &Path, oom_control: &File) -> Result<Bell, CgroupError> {
        let path = group.join("cgroup.event_control");
        let bell = Bell::new().map_err(refused("make an eventfd for", &path))?;
        write(&path, &format!("{} {}", bell.eventfd.as_raw_fd(), oom_control.as_raw_fd()))?;
        for fd in [&bell.eventfd, &bell.timer] {
            self.add(fd, epoll::EventFlags::IN).map_err(refused("watch", &path))?;
        }
        Ok(bell)
    }

    /// The totals now; the descriptor is no longer ready. `None` when the groups are gone: drop the watch, and open another
    /// when the guest runs again.
    pub fn read_counts(&mut self) -> Option<LimitCounts> {
        if let Some(bell) = &mut self.bell {
            bell.quieten(); // before the counter is read, or what happens in between would be lost
        }
        Some(LimitCounts {
            memory_kills: self.memory.as_ref().map_or(Some(0), |file| read_count(file, "oom_kill"))?,
            fork_refusals: self.processes.as_ref().map_or(Some(0), |file| read_count(file, "max"))?,
        })
    }
}

impl AsFd for LimitWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn open(path: &Path) -> Result<File, CgroupError> {
    File::open(path).map_err(refused("open", path))
}

/// Reads a counter from the file's start; `None` when its group is gone (`ENODEV`).
fn read_count(file: &File, key: &str) -> Option<u64> {
    let mut text = [0; MAX_COUNTERS];
    let length = file.read_at(&mut text, 0).ok()?;
    find_count(&String::from_utf8_lossy(&text[..length]), key)
}

/// What v1 rings when memory is short, and the timer for the looks after it.
#[derive(Debug)]
struct Bell {
    eventfd: OwnedFd,
    timer: OwnedFd,
    /// How many of [`LOOKS`] are done.
    looks: usize,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { eventfd, timer, looks: LOOKS.len() })
    }

    /// Takes in that it has rung or that the time for a look has come, and sets the timer for the next look, if any.
    fn quieten(&mut self) {
        let mut number = [0; 8];
        if rustix::io::read(&self.eventfd, &mut number).is_ok() {
            self.looks = 0;
        } else if rustix::io::read(&self.timer, &mut number).is_err() {
            return; // neither: the caller just looks
        }
        let next = LOOKS.get(self.looks).copied().unwrap_or_default(); // zero: none
        self.looks += 1;
        let spec = |duration: Duration| Timespec {
            tv_sec: duration.as_secs().cast_signed(),
            tv_nsec: duration.subsec_nanos().into(),
        };
        let when = Itimerspec { it_interval: spec(Duration::ZERO), it_value: spec(next) };
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &when); // a valid time is never refused
    }
}
