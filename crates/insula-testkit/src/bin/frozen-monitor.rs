//! A monitor of version 2 of the protocol, for the test that a newer agent works with it; or one of
//! version 1, which was the same without `set_limits`. The file `frozen-version` in the agent's run
//! directory says which.
//!
//! The present monitor boots and holds the guest behind it, out of the agent's reach. Every message
//! between the two goes through the frozen messages. What version 2 did not know is refused in its
//! words, or is not passed on. The plan has no field that plans did not have then.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use insula_sys::process::{CloneRequest, SealedProgram, clone_process};
use insula_testkit::frozen::protocol_2::{Event, Request, VERSION};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with, socketpair,
};
use serde_json::Value;

type Message = (Vec<u8>, Vec<OwnedFd>);

/// The fields of plans that were added later.
const LATER: [&str; 6] =
    ["apparmor", "has_shifted_root", "lower_layers", "reboots", "restore", "writable_sysctls"];

fn main() -> ExitCode {
    // The agent waits only for the first process.
    match clone_process(&CloneRequest::default(), || i32::from(live().is_err())) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn live() -> io::Result<()> {
    let result = serve();
    if let Err(error) = &result {
        eprintln!("frozen-monitor: {error}");
    }
    result
}

fn serve() -> io::Result<()> {
    rustix::process::setsid()?;
    let control = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let Some((layout, _)) = receive(&control)? else { return Ok(()) };
    let version = frozen_version()?;
    send(&control, &to_json(&Event::Parked { version }), &[])?;
    let plan = loop {
        let Some((message, _)) = receive(&control)? else { return Ok(()) };
        if let Ok(Request::Start { plan }) = serde_json::from_slice(&message) {
            break plan;
        }
    };
    let (directory, behind) = (Directory::of(&plan, ""), Directory::of(&plan, "behind"));
    let listener = directory.listen()?;
    std::fs::write(directory.0.join("plan"), to_json(&plan))?;
    let pair = (control, run_behind(&layout, plan)?);
    relay(&Sides { directory, behind, version }, &listener, vec![pair])
}

/// Reads which version to be. Standard error is the log in the run directory, which tells where
/// that is.
fn frozen_version() -> io::Result<u32> {
    let log = std::fs::read_link("/proc/self/fd/2")?;
    let version = std::fs::read_to_string(log.with_file_name("frozen-version"))?;
    Ok(version.trim().parse().unwrap_or(VERSION))
}

/// What the monitor has on each of its two sides.
struct Sides {
    directory: Directory,
    behind: Directory,
    version: u32,
}

/// The files of a VPS in a run directory.
struct Directory(PathBuf);

impl Directory {
    fn of(plan: &Value, below: &str) -> Self {
        let text = |key: &str| plan[key].as_str().expect("a text in the plan");
        Self(Path::new(text("run_dir")).join(below).join("vps").join(text("id")))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("monitor.sock")
    }

    fn listen(&self) -> io::Result<OwnedFd> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let _ = std::fs::remove_file(self.socket()); // of the life before
        let _ = std::fs::remove_file(self.0.join("exit.json"));
        let socket = socket()?;
        bind(&socket, &SocketAddrUnix::new(self.socket())?)?;
        listen(&socket, 16)?;
        Ok(socket)
    }

    fn connect(&self) -> io::Result<OwnedFd> {
        let socket = socket()?;
        connect(&socket, &SocketAddrUnix::new(self.socket())?)?;
        Ok(socket)
    }
}

/// Runs the present monitor with the plan, in a run directory of its own. The test has created a
/// link to its program beside the log, which is this process's standard error.
fn run_behind(layout: &[u8], mut plan: Value) -> io::Result<OwnedFd> {
    let run_dir = PathBuf::from(plan["run_dir"].as_str().expect("a run directory"));
    plan["run_dir"] = run_dir.join("behind").to_str().expect("UTF-8").into();
    for field in LATER {
        plan.as_object_mut().expect("a plan").remove(field);
    }
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    send(&ours, layout, &[])?;
    let program = SealedProgram::load(&run_dir.join("present-monitor"), c"insula-monitor")?;
    program.run_daemon("insula-monitor", its, None)?;
    receive(&ours)?; // it is parked
    send(&ours, &to_json(&Request::Start { plan }), &[])?;
    Ok(ours)
}

/// Passes messages between clients and the monitor behind, until that monitor has ended.
fn relay(sides: &Sides, listener: &OwnedFd, mut pairs: Vec<(OwnedFd, OwnedFd)>) -> io::Result<()> {
    let Sides { directory, behind, .. } = sides;
    loop {
        let ready: Vec<bool> = {
            let fds = pairs.iter().flat_map(|(client, monitor)| [client, monitor]).chain([listener]);
            let mut watched: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            match poll(&mut watched, None) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            watched.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let mut kept = vec![];
        for (index, (client, monitor)) in pairs.into_iter().enumerate() {
            let asked = ready[2 * index] && !pass_request(sides, &client, &monitor);
            let has_ended = ready[2 * index + 1] && !pass_event(sides, &client, &monitor);
            if has_ended && behind.connect().is_err() {
                return end(directory);
            }
            if !asked && !has_ended {
                kept.push((client, monitor));
            }
        }
        pairs = kept;
        if ready.last() == Some(&true) {
            let client = accept_with(listener, SocketFlags::CLOEXEC)?;
            match behind.connect() {
                Ok(monitor) => pairs.push((client, monitor)),
                Err(_) => return end(directory),
            }
        }
    }
}

fn end(directory: &Directory) -> io::Result<()> {
    let _ = std::fs::remove_file(directory.0.join("plan"));
    let _ = std::fs::remove_file(directory.socket());
    Ok(())
}

/// Passes a client's message on. Returns `false` if the client has gone.
fn pass_request(sides: &Sides, client: &OwnedFd, monitor: &OwnedFd) -> bool {
    let Ok(Some((message, fds))) = receive(client) else { return false };
    if message.first() == Some(&0) {
        return send(monitor, &message, &fds).is_ok();
    }
    let refuse = |why: &str| {
        let message = format!("the request is not understood: {why}");
        send(client, &to_json(&Event::Refused { message }), &[]).is_ok()
    };
    match serde_json::from_slice::<Request>(&message) {
        Ok(Request::SetLimits { .. }) if sides.version < 2 => refuse("unknown variant `set_limits`"),
        Ok(Request::Hello { .. }) => {
            send(monitor, &to_json(&Request::Hello { version: VERSION }), &[]).is_ok()
        }
        Ok(request) => send(monitor, &to_json(&request), &fds).is_ok(),
        Err(error) => refuse(&error.to_string()),
    }
}

/// Passes an event on, if version 2 had it. Returns `false` if the monitor has gone.
fn pass_event(sides: &Sides, client: &OwnedFd, monitor: &OwnedFd) -> bool {
    let Ok(Some((message, fds))) = receive(monitor) else { return false };
    if message.first() == Some(&0) {
        let _ = send(client, &message, &fds); // who has gone is noticed when it is heard
        return true;
    }
    let event = match serde_json::from_slice::<Event>(&message) {
        Ok(Event::Hello { status, .. }) => Event::Hello { version: sides.version, status },
        Ok(Event::Exited { record }) => {
            let _ = std::fs::write(sides.directory.0.join("exit.json"), to_json(&record));
            Event::Exited { record }
        }
        Ok(event) => event,
        Err(_) => return true, // version 2 had no such event
    };
    let _ = send(client, &to_json(&event), &fds); // the same
    true
}

fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("messages are JSON")
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn send(socket: &OwnedFd, message: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> io::Result<Option<Message>> {
    let mut message = vec![0; 160 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut vectors = [IoSliceMut::new(&mut message)];
    let received = recvmsg(socket, &mut vectors, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = rights.flatten().collect();
    message.truncate(received.bytes);
    Ok((received.bytes > 0).then_some((message, fds)))
}
