//! Programs that run at a terminal.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::process::{Command, PATIENCE, Process, is_readable};

/// A program at a terminal of its own, with 80 columns and 24 rows.
#[derive(Debug)]
pub struct Terminal {
    process: Process,
    master: OwnedFd,
    slave: OwnedFd,
    seen: String,
}

impl Terminal {
    /// Starts the program.
    #[track_caller]
    pub fn start(command: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal for us");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("the terminal's other end");
        let mut modes = tcgetattr(&slave).expect("the modes");
        modes.local_modes.remove(LocalModes::ECHO); // what is seen was written by the program
        tcsetattr(&slave, OptionalActions::Now, &modes).expect("no echo");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a size");
        let stream = || Stdio::from(slave.try_clone().expect("a descriptor"));
        let process = command.spawn_with(stream(), stream(), stream());
        Self { process, master, slave, seen: String::new() }
    }

    /// Types keys at the terminal.
    pub fn type_keys(&self, keys: &[u8]) {
        assert_eq!(rustix::io::write(&self.master, keys), Ok(keys.len()));
    }

    /// Whether the program gets keys one by one.
    pub fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).expect("the modes").local_modes.contains(LocalModes::ICANON)
    }

    /// Reads until the text appears, and returns what came before it. The rest is kept for the next
    /// call.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        while !self.seen.contains(text) {
            assert!(is_readable(&self.master, PATIENCE), "{text:?} never came after {:?}", self.seen);
            let mut bytes = [0; 4096];
            let length = rustix::io::read(&self.master, &mut bytes).expect("what the program wrote");
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        let (before, after) = self.seen.split_once(text).expect("it is there");
        let (before, after) = (before.to_owned(), after.to_owned());
        self.seen = after;
        before
    }

    /// Waits for the program's end, and returns its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        self.process.wait(PATIENCE).and_then(|status| status.code()).expect("a program that ends by itself")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_a_terminal() {
        let mut terminal =
            Terminal::start(&Command::new("sh").args(["-c", "tty; stty size; read x; echo got $x; exit 4"]));
        assert!(terminal.expect("24 80").contains("/dev/pts/"));
        assert!(!terminal.is_raw());
        terminal.type_keys(b"a\n");
        terminal.expect("got a");
        assert_eq!(terminal.wait(), 4);
    }
}
