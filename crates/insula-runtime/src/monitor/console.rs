//! The guest's console: a terminal that outlives its boots, and what it has shown.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use insula_types::IdRange;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::prompt::PromptFinder;
use crate::protocol::{MAX_CONSOLE_BYTES, TerminalSize};

/// How much of what the console has shown is kept, in bytes.
const SCROLLBACK: usize = 64 << 10;

/// A pseudo terminal: the monitor has the master, the guest the slave as `/dev/console`.
#[derive(Debug, Default)]
pub(super) struct Console {
    master: Option<OwnedFd>,
    scrollback: VecDeque<u8>,
    /// Looks at what this boot has shown.
    prompt: PromptFinder,
}

impl Console {
    /// Makes a fresh terminal for a boot and returns its slave. What was shown stays.
    pub fn open(&mut self, ids: IdRange) -> io::Result<OwnedFd> {
        let (master, slave) = open_terminal(ids)?;
        self.master = Some(master);
        self.prompt = PromptFinder::default();
        Ok(slave)
    }

    /// What is to be polled for.
    pub fn master(&self) -> Option<&OwnedFd> {
        self.master.as_ref()
    }

    /// Reads what the guest has written and hands on each piece. Returns whether there may be more.
    ///
    /// While nobody in the guest has the terminal open, the kernel answers EIO: that passes.
    pub fn read(&mut self, mut on_bytes: impl FnMut(&[u8])) -> bool {
        let mut buffer = [0; MAX_CONSOLE_BYTES / 4];
        // The guest may write faster than this reads: bounded, so that others get their turn.
        for _ in 0..16 {
            match self.master.as_ref().map(|master| read(master, &mut buffer)) {
                Some(Ok(count @ 1..)) => {
                    self.prompt.observe(&buffer[..count]);
                    self.keep(&buffer[..count]);
                    on_bytes(&buffer[..count]);
                }
                Some(Err(Errno::INTR)) => {}
                _ => return false,
            }
        }
        true
    }

    /// Whether a getty has shown its prompt since the boot.
    pub fn has_prompt(&self) -> bool {
        self.prompt.is_found()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let surplus = (self.scrollback.len() + bytes.len()).saturating_sub(SCROLLBACK);
        self.scrollback.drain(..surplus.min(self.scrollback.len()));
        self.scrollback.extend(bytes);
    }

    /// What the console has shown, in pieces that fit a packet.
    pub fn scrollback(&self) -> impl Iterator<Item = &[u8]> {
        let (older, newer) = self.scrollback.as_slices();
        older.chunks(MAX_CONSOLE_BYTES).chain(newer.chunks(MAX_CONSOLE_BYTES))
    }

    /// The last lines that it has shown, for an error.
    pub fn last_lines(&self, count: usize) -> String {
        const MOST_BYTES: usize = 4 << 10; // a line may be as long as the guest likes
        let surplus = self.scrollback.len().saturating_sub(MOST_BYTES);
        let bytes: Vec<u8> = self.scrollback.iter().skip(surplus).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Types at the console. What the guest does not read in time is lost, as on a serial line.
    pub fn type_in(&self, bytes: &[u8]) {
        let _ = self.master.as_ref().map(|master| write(master, bytes));
    }

    /// Sets its size in characters; the guest's programs are told by SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let set = |master| tcsetwinsize(master, window(TerminalSize { rows, columns }));
        Ok(self.master.as_ref().map_or(Ok(()), set)?)
    }
}

/// The size as the kernel takes it.
pub(super) fn window(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A pseudo terminal of the host whose slave belongs to the guest's root and group `tty` (5 in every distribution).
fn open_terminal(ids: IdRange) -> io::Result<(OwnedFd, OwnedFd)> {
    const TTY: u32 = 5;
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    fcntl_setfl(&master, OFlags::NONBLOCK)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    fchown(&slave, Some(Uid::from_raw(ids.start)), Some(Gid::from_raw(ids.start + TTY)))?;
    fchmod(&slave, Mode::from_raw_mode(0o620))?;
    Ok((master, slave))
}
