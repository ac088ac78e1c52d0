//! Boot, readiness, shutdown and end of the guest.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use insula_sys::clock::now_ms;
use insula_sys::process::{ended_child, send_signal, trim_heap};
use insula_types::{ExitReason, ExitRecord};
use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::boot::{boot, disconnect_interfaces};
use super::exit::{Asked, Verdict, judge};
use super::reboots::Next;
use super::server::{Monitor, Source, Stop, TELL_AGAIN};
use crate::apparmor::AppArmor;
use crate::protocol::{Event, ExecEnd, Phase, StartFailure, StartPhase, chain_of};

/// How many of the console's last lines an error shows.
const LAST_LINES: usize = 10;

/// How long the guest may take when the host shuts down: systemd kills what is left after 90 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(75);

impl Monitor {
    /// Boots the guest, the first time or again. A failure is its end.
    pub fn boot(&mut self) {
        self.status.phase = Phase::Starting;
        self.status.boots += 1;
        (self.boot_at, self.status.boot_at_ms) = (None, None);
        if self.status.boots > 1 {
            self.clients.broadcast(&Event::Phase { status: self.status.clone() });
        }
        match self.try_to_boot() {
            Ok(()) => {
                trim_heap(); // what the start needed
                self.clients.broadcast(&Event::Phase { status: self.status.clone() });
            }
            Err(failure) => {
                self.record_end(ExitReason::StartFailed, Some(failure.to_string()));
                self.clients.broadcast(&Event::StartFailed { failure });
            }
        }
    }

    fn try_to_boot(&mut self) -> Result<(), StartFailure> {
        let failed = StartFailure::at;
        let terminal = self
            .console
            .open(self.plan.host.ids)
            .map_err(failed(StartPhase::Console, "make the console's terminal"))?;
        if let Some(master) = self.console.master() {
            self.watch(master, Source::Console).map_err(failed(StartPhase::Console, "watch the console"))?;
        }
        let guest = boot(&self.plan, &terminal)?;
        self.status.phase = Phase::Running;
        self.status.init_pid = Some(guest.init.pid);
        self.status.started_at_ms = Some(now_ms());
        self.booted_at = Instant::now();
        self.status.ready_at_ms = None;
        let watch = self.watch(&guest.notify, Source::Notify);
        self.guest = Some(guest);
        watch.map_err(failed(StartPhase::Prepare, "watch init")).inspect_err(|_| self.kill())
    }

    /// Takes what init says about itself, as in sd_notify(3).
    pub fn serve_notify(&mut self) {
        let Some(guest) = &self.guest else { return };
        let mut buffer = [0; 4096];
        while let Ok((_, length)) = recv(&guest.notify, &mut buffer, RecvFlags::DONTWAIT) {
            let message = &buffer[..length.min(buffer.len())];
            let is_ready = message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
            if is_ready {
                return self.become_ready();
            }
        }
    }

    /// The guest has booted.
    pub fn become_ready(&mut self) {
        if self.status.phase == Phase::Running {
            self.status.phase = Phase::Ready;
            self.status.ready_at_ms = Some(now_ms());
            self.clients.broadcast(&Event::Phase { status: self.status.clone() });
        }
    }

    /// Begins a shutdown, or moves its deadline.
    pub fn stop(&mut self, timeout: Duration) {
        let (is_told, next) = self.stop.as_ref().map_or((false, None), |stop| (stop.is_told, stop.next));
        self.stop = Some(Stop { deadline: Instant::now() + timeout, is_told, next });
        if self.boot_at.is_some() {
            return self.record_end(ExitReason::Stopped, None);
        }
        if matches!(self.status.phase, Phase::Running | Phase::Ready) {
            self.status.phase = Phase::Stopping;
            self.clients.broadcast(&Event::Phase { status: self.status.clone() });
        }
    }

    /// Tells init to stop as soon as it listens, and kills the guest when its time is over.
    pub fn go_on_stopping(&mut self, now: Instant) {
        let (Some(stop), Some(guest)) = (&mut self.stop, &self.guest) else { return };
        let signal = self.plan.guest.init.stop_signal;
        if !stop.is_told || stop.next.is_some_and(|next| next <= now) {
            // One that waits in sigtimedwait(2) seems to listen to nothing, and hears it all the same; it is told twice. It
            // may have ended just now: then its end is the next event.
            let sent = send_signal(guest.init.pidfd.as_fd(), signal).is_ok();
            stop.is_told = sent && listens_to(guest.init.pid, signal);
            stop.next = self.plan.guest.init.tell_again.then(|| now + TELL_AGAIN);
        }
        if stop.deadline <= now {
            self.kill();
        }
    }

    /// Kills every process of the guest; the end of init follows as an event.
    pub fn kill(&mut self) {
        if let Err(error) = self.plan.host.layout.kill(&self.plan.id) {
            eprintln!("insula-monitor: {}: {}", self.plan.id, chain_of(&error).0.join(": "));
        }
        if let Some(guest) = &self.guest {
            let _ = send_signal(guest.init.pidfd.as_fd(), libc::SIGKILL); // whatever its cgroup
        }
        self.is_killed = true;
        self.stop = None;
        if self.boot_at.is_some() {
            self.record_end(ExitReason::Killed, None);
        }
    }

    /// Signals have come: SIGCHLD, one of which may stand for several children, or SIGTERM, the host's shutdown.
    pub fn serve_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == libc::SIGTERM.unsigned_abs() && self.stop.is_none() {
                self.stop(SHUTDOWN_TIMEOUT);
            }
        }
        self.reap_children();
    }

    /// Takes the children in that have ended: init, or programs in the guest.
    fn reap_children(&mut self) {
        let mut end_of_init = None;
        while let Some(pid) = ended_child() {
            let is_init = self.status.init_pid == Some(pid.as_raw_nonzero().get());
            if !is_init {
                self.meet_program(pid);
            }
            // Last: once a process is reaped, another one may have its number.
            let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG) else { break };
            let end = match status.terminating_signal() {
                Some(signal) => ExecEnd::Signal(signal),
                None => ExecEnd::Code(status.exit_status().unwrap_or_default()),
            };
            match is_init {
                true => end_of_init = Some(end),
                false => self.reap_exec(pid.as_raw_nonzero().get(), end),
            }
        }
        if let Some(end) = end_of_init {
            self.serve_init_end(end);
        }
    }

    /// A program that ended at once has sent its pid before: that may still be unread.
    fn meet_program(&mut self, pid: Pid) {
        if !self.execs.values().any(|exec| exec.is_process(pid.as_raw_nonzero().get())) {
            let entering: Vec<u32> = self.execs.keys().copied().collect();
            entering.into_iter().for_each(|exec| self.serve_exec(exec));
        }
    }

    /// Init has ended, and the kernel has ended all of its pid namespace before.
    fn serve_init_end(&mut self, end: ExecEnd) {
        let asked = match (self.is_killed, self.status.phase) {
            (true, _) => Asked::Kill,
            (false, Phase::Stopping) => Asked::Stop,
            (false, _) => Asked::Nothing,
        };
        let was_short_of_memory = self.plan.host.layout.observe_memory_kills(&self.plan.id) > 0;
        self.guest = None;
        self.status.init_pid = None;
        self.end_files();
        self.serve_console_to_its_end();
        match judge(end, asked, was_short_of_memory, self.plan.host.reboots.on_crash) {
            Verdict::Again(reason) => self.boot_again(reason),
            Verdict::Over(reason) => {
                let is_fault =
                    !matches!(reason, ExitReason::PowerOff | ExitReason::Stopped | ExitReason::Killed);
                self.record_end(reason, is_fault.then(|| "init ended by itself".to_owned()));
            }
        }
    }

    /// Boots the guest once more: at once, or after a pause, or not, when it has been tried too often.
    fn boot_again(&mut self, reason: ExitReason) {
        let is_reboot = reason == ExitReason::Reboot;
        let detail = (!is_reboot).then(|| "init ended by itself".to_owned());
        self.status.last_end = Some(self.record_of(reason, detail));
        (self.status.started_at_ms, self.status.ready_at_ms) = (None, None);
        match self.reboots.count(&self.plan.host.reboots, self.booted_at.elapsed()) {
            Next::Now => self.boot(),
            Next::After(pause) => {
                self.boot_at = Some(Instant::now() + pause);
                self.status.boot_at_ms =
                    Some(now_ms().saturating_add(pause.as_millis().try_into().unwrap_or(i64::MAX)));
                self.status.phase = Phase::Starting;
                self.clients.broadcast(&Event::Phase { status: self.status.clone() });
            }
            Next::Never => {
                let boots = self.status.boots;
                let detail =
                    format!("it ended too soon repeatedly, in {boots} boots; the last time: {reason}");
                self.record_end(ExitReason::BootLoop, Some(detail));
            }
        }
    }

    fn serve_console_to_its_end(&mut self) {
        while self.console.read(|bytes| self.clients.show(bytes)) {}
    }

    fn record_end(&mut self, reason: ExitReason, detail: Option<String>) {
        self.status.phase = Phase::Exited;
        self.record = Some(self.record_of(reason, detail));
    }

    /// An end of now. What there is to say of it is followed by the console's last lines.
    fn record_of(&self, reason: ExitReason, detail: Option<String>) -> ExitRecord {
        let detail = detail.map(|detail| match self.console.last_lines(LAST_LINES) {
            console if console.is_empty() => detail,
            console => format!("{detail}; the console's last lines:\n{console}"),
        });
        ExitRecord { reason, at_ms: now_ms(), detail }
    }

    /// Leaves the record, then takes everything down that outlives the processes. The v1 groups stay: the monitor itself
    /// is in them. Returns the exit code.
    pub fn end(mut self) -> i32 {
        let record = self.record.take().unwrap_or(ExitRecord {
            reason: ExitReason::MonitorLost,
            at_ms: now_ms(),
            detail: Some("the monitor could not wait for events".into()),
        });
        let json = serde_json::to_vec(&record).unwrap_or_default();
        self.report(self.directory.write(&self.directory.exit_record(), &json));
        self.clients.broadcast(&Event::Exited { record });
        self.report(disconnect_interfaces(&self.plan.host.nics));
        self.report(self.plan.host.layout.kill(&self.plan.id).map(drop)); // a helper may be left, outside of the pid namespace
        self.report(self.plan.host.layout.remove_unified(&self.plan.id));
        self.report(AppArmor::of(&self.plan.host.layout.root_name).ensure_absent(&self.plan.id));
        self.report(std::fs::remove_file(self.directory.plan()));
        self.report(std::fs::remove_file(self.directory.socket()));
        0
    }

    /// Tear-down goes on after an error.
    fn report<E: std::error::Error + 'static>(&self, result: Result<(), E>) {
        if let Err(error) = result {
            eprintln!("insula-monitor: {}: {}", self.plan.id, chain_of(&error).0.join(": "));
        }
    }
}

/// Whether a process catches or blocks the signal. The kernel drops what an init neither catches nor blocks.
fn listens_to(pid: i32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let has =
        |mask: &str| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> (signal - 1) & 1 == 1);
    ["SigBlk:", "SigCgt:"]
        .iter()
        .any(|field| status.lines().filter_map(|line| line.strip_prefix(field)).any(has))
}
