//! What clients ask for.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use insula_files::Job;
use insula_sys::process::{Cloned, trim_heap};
use insula_types::CrashPolicy;

use super::exec::{Entered, Exec, MAX_EXECS};
use super::server::{Monitor, Source};
use crate::cgroup::CgroupValue;
use crate::plan::StartPlan;
use crate::protocol::{
    CONSOLE_PACKET, Event, ExecEnd, ExecFailure, ExecRequest, PROTOCOL_VERSION, Request, StartFailure,
};

/// The most messages of one client before others get their turn.
const MESSAGES_PER_TURN: usize = 16;

/// The longest that a shutdown may take: a day.
const LONGEST_STOP: Duration = Duration::from_secs(24 * 60 * 60);

impl Monitor {
    /// Takes the messages of a client.
    pub fn serve_client(&mut self, client: u32) {
        for _ in 0..MESSAGES_PER_TURN {
            match self.clients.receive(client) {
                Ok(Some((message, fds))) => self.serve_message(client, &message, fds),
                Ok(None) => return,
                Err(_) => return self.clients.lose(client),
            }
        }
    }

    fn serve_message(&mut self, client: u32, message: &[u8], fds: Vec<OwnedFd>) {
        match message.split_first() {
            Some((&CONSOLE_PACKET, bytes)) => self.console.type_in(bytes),
            _ => match serde_json::from_slice(message) {
                Ok(request) => self.serve_request(client, request, fds),
                Err(error) => self.refuse(client, format!("the request is not understood: {error}")),
            },
        }
    }

    fn serve_request(&mut self, client: u32, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Hello { .. } => {
                self.clients.subscribe(client);
                let hello = Event::Hello { version: PROTOCOL_VERSION, status: self.status.clone() };
                self.clients.send(client, &hello, &[]);
            }
            Request::Stop { timeout_ms } => self.stop(Duration::from_millis(timeout_ms).min(LONGEST_STOP)),
            Request::Kill => self.kill(),
            Request::Exec(request) => self.exec(client, &request, &fds),
            Request::Files { exec, job } => self.begin_files(client, exec, &job, &fds),
            Request::AttachMount { exec, target } => self.attach_mount(client, exec, &target, &fds),
            Request::ExecSignal { exec, signal } => self.signal_exec(client, exec, signal),
            Request::AttachConsole { replay } => {
                self.clients.send(client, &Event::ConsoleAttached, &[]);
                if replay {
                    self.replay_console(client);
                }
                self.clients.view(client);
            }
            Request::ConsoleResize { rows, columns } => {
                if let Err(error) = self.console.resize(rows, columns) {
                    self.refuse(client, format!("failed to set the console's size: {error}"));
                }
            }
            Request::Log => {
                self.replay_console(client);
                self.clients.send(client, &Event::LogEnd, &[]);
            }
            Request::SetLimits { values } => self.set_limits(client, values),
            Request::SetOnCrash { on_crash } => self.set_on_crash(client, on_crash),
            Request::Start { .. } => self.refuse(client, "this monitor already has a guest".into()),
        }
    }

    /// The next boot applies these values, also one that another reads from the plan's file.
    fn set_limits(&mut self, client: u32, values: Vec<CgroupValue>) {
        let old = std::mem::replace(&mut self.plan.host.cgroup_values, values);
        match self.write_plan() {
            Ok(()) => self.clients.send(client, &Event::LimitsSet, &[]),
            Err(error) => {
                self.plan.host.cgroup_values = old;
                self.refuse(client, format!("failed to write the plan: {error}"));
            }
        }
        trim_heap(); // what the plan's text needed
    }

    fn set_on_crash(&mut self, client: u32, on_crash: CrashPolicy) {
        let old = std::mem::replace(&mut self.plan.host.reboots.on_crash, on_crash);
        match self.write_plan() {
            Ok(()) => self.clients.send(client, &Event::OnCrashSet, &[]),
            Err(error) => {
                self.plan.host.reboots.on_crash = old;
                self.refuse(client, format!("failed to write the plan: {error}"));
            }
        }
        trim_heap(); // what the plan's text needed
    }

    fn refuse(&mut self, client: u32, message: String) {
        self.clients.send(client, &Event::Refused { message }, &[]);
    }

    fn replay_console(&mut self, client: u32) {
        self.console.scrollback().for_each(|bytes| self.clients.send_console(client, bytes));
    }

    /// Sends a program into the guest.
    fn exec(&mut self, client: u32, request: &ExecRequest, streams: &[OwnedFd]) {
        let result = match request.terminal.is_none() && streams.len() != 3 {
            true => {
                Err((ExecFailure::Other, vec!["three streams are needed where there is no terminal".into()]))
            }
            false => self.try_to_exec(client, request.exec, |plan, init| {
                Exec::begin(plan, init, client, request, streams)
            }),
        };
        self.tell_failure(client, request.exec, result);
    }

    /// Sends a process into the guest that works with its files.
    fn begin_files(&mut self, client: u32, number: u32, job: &Job, streams: &[OwnedFd]) {
        let result = match streams {
            [input, output] => self.try_to_exec(client, number, |plan, init| {
                Exec::begin_files(plan, init, (client, number), job, [input, output])
            }),
            _ => Err((ExecFailure::Other, vec!["an input and an output are needed".into()])),
        };
        self.tell_failure(client, number, result);
    }

    /// Sends a process into the guest that attaches a mount.
    fn attach_mount(&mut self, client: u32, number: u32, target: &str, mounts: &[OwnedFd]) {
        let result = match mounts {
            [mount] => self.try_to_exec(client, number, |plan, init| {
                Exec::begin_attaching(plan, init, (client, number), mount, target)
            }),
            _ => Err((ExecFailure::Other, vec!["one mount is needed".into()])),
        };
        self.tell_failure(client, number, result);
    }

    fn tell_failure(&mut self, client: u32, exec: u32, result: Result<(), (ExecFailure, Vec<String>)>) {
        if let Err((reason, chain)) = result {
            self.clients.send(client, &Event::ExecFailed { exec, reason, chain }, &[]);
        }
    }

    fn try_to_exec(
        &mut self,
        client: u32,
        number: u32,
        begin: impl FnOnce(&StartPlan, &Cloned) -> Result<Exec, StartFailure>,
    ) -> Result<(), (ExecFailure, Vec<String>)> {
        let refused = |reason, why: &str| Err((reason, vec![why.to_owned()]));
        let Some(guest) = &self.guest else {
            return refused(ExecFailure::NotRunning, "the guest is not running");
        };
        if self.plan.host.layout.is_frozen(&self.plan.id) {
            return refused(ExecFailure::Paused, "the guest is paused");
        }
        if self.execs.len() >= MAX_EXECS {
            return refused(ExecFailure::TooMany, "too many programs are run in the guest at once");
        }
        if self.find_exec(client, number).is_some() {
            return refused(ExecFailure::Other, "the number of the exec is in use");
        }
        let other = |failure: StartFailure| (ExecFailure::Other, failure.chain);
        let exec = begin(&self.plan, &guest.init).map_err(other)?;
        self.last_exec += 1;
        let number = self.last_exec;
        let watched = exec.socket.as_ref().map_or(Ok(()), |socket| self.watch(socket, Source::Exec(number)));
        watched.map_err(|error| (ExecFailure::Other, vec!["watch the program".into(), error.to_string()]))?;
        self.execs.insert(number, exec);
        Ok(())
    }

    /// The program that the client calls by this number. After the client has been told of its end, it may use the number
    /// again.
    fn find_exec(&self, client: u32, number: u32) -> Option<&Exec> {
        self.execs.values().find(|exec| (exec.client, exec.number) == (client, number) && !exec.is_told())
    }

    fn signal_exec(&mut self, client: u32, number: u32, signal: i32) {
        if let Some(Err(error)) = self.find_exec(client, number).map(|exec| exec.signal(signal)) {
            self.refuse(client, format!("failed to send signal {signal}: {error}"));
        }
    }

    /// Helper or program have said something.
    pub fn serve_exec(&mut self, number: u32) {
        if let Some(entered) = self.execs.get_mut(&number).and_then(Exec::hear) {
            self.tell_entered(number, entered);
        }
    }

    /// The program's time to be executed is over.
    pub fn abandon_exec(&mut self, number: u32) {
        if let Some(entered) = self.execs.get_mut(&number).map(Exec::abandon) {
            self.tell_entered(number, entered);
        }
    }

    fn tell_entered(&mut self, number: u32, entered: Entered) {
        let Some(exec) = self.execs.get_mut(&number) else { return };
        let is_attaching = exec.is_attaching;
        exec.is_started = matches!(entered, Entered::Started(_)) && !is_attaching;
        let (client, exec) = (exec.client, exec.number);
        match entered {
            Entered::Started(_) if is_attaching => {
                self.clients.send(client, &Event::MountAttached { exec }, &[]);
            }
            Entered::Started(terminal) => {
                let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
                self.clients.send(client, &Event::ExecStarted { exec }, &fds);
            }
            Entered::Failed(reason, chain) => {
                self.clients.send(client, &Event::ExecFailed { exec, reason, chain }, &[]);
            }
        }
        self.tell_end(number);
    }

    /// A child of the monitor has ended that is not init.
    pub fn reap_exec(&mut self, pid: i32, end: ExecEnd) {
        let number = self.execs.iter_mut().find_map(|(&number, exec)| exec.reap(pid, end).then_some(number));
        if let Some(number) = number {
            self.tell_end(number);
        }
    }

    /// Tells the end of a program whose start was told, and forgets it when nothing of it is left.
    fn tell_end(&mut self, number: u32) {
        let Some(exec) = self.execs.get_mut(&number) else { return };
        if exec.is_started
            && let Some(end) = exec.end.take()
        {
            self.clients.send(exec.client, &Event::ExecExited { exec: exec.number, end }, &[]);
        }
        if exec.is_gone() {
            self.execs.remove(&number);
        }
    }

    /// Ends the process that works with files: it is outside the pid namespace, and does not end with init.
    pub fn end_files(&self) {
        for exec in self.execs.values().filter(|exec| exec.is_outside) {
            let _ = exec.signal(libc::SIGKILL); // it may have ended just now
        }
    }

    /// Hangs the programs of a client up that has gone.
    pub fn hang_up(&mut self, client: u32) {
        for exec in self.execs.values().filter(|exec| exec.client == client) {
            let _ = exec.signal(libc::SIGHUP); // it may have ended just now
        }
    }
}
