//! User namespaces: the ids that this process has, and namespaces for the id maps of mounts. user_namespaces(7).

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A range of consecutive ids of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first id, as this process sees it.
    pub start: u32,
    /// The same id, as the parent namespace sees it.
    pub outside: u32,
    /// The number of ids.
    pub length: u32,
}

/// Reads which user ids and which group ids the user namespace of this process has.
pub fn observe_ids() -> io::Result<(Vec<Extent>, Vec<Extent>)> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let read = |path| parse(&fs::read_to_string(path)?).ok_or_else(invalid);
    Ok((read("/proc/self/uid_map")?, read("/proc/self/gid_map")?))
}

/// Whether this process runs in a user namespace that has fewer than all ids of the machine, as in a container.
pub fn is_nested() -> io::Result<bool> {
    let whole = Extent { start: 0, outside: 0, length: u32::MAX };
    Ok(observe_ids()?.0 != [whole])
}

/// Parses a `uid_map` or `gid_map` of proc(5). `None` if it can't be understood.
fn parse(map: &str) -> Option<Vec<Extent>> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        Some(Extent { start: numbers.next()??, outside: numbers.next()??, length: numbers.next()?? })
    };
    map.lines().map(line).collect()
}

/// Makes a user namespace that no process is in. Its ids 0 to `length - 1` are the caller's ids from `start` on.
pub fn with_ids(start: u32, length: u32) -> io::Result<OwnedFd> {
    // Until the namespace is opened, a process must be in it: this one waits until its input ends.
    #[allow(clippy::disallowed_methods)] // it runs for a moment, in a namespace of its own
    let mut command = Command::new("/bin/cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec, only a system call is made.
    unsafe {
        command.pre_exec(|| Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?));
    }
    let mut process = command.spawn()?; // it has executed, and is in its namespace
    let open = || {
        let pid = process.id();
        let map = format!("0 {start} {length}\n");
        fs::write(format!("/proc/{pid}/uid_map"), &map)?;
        fs::write(format!("/proc/{pid}/gid_map"), &map)?;
        File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from)
    };
    let namespace = open();
    drop(process.stdin.take());
    process.wait()?;
    namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_the_kernel_writes_them() {
        let extent = |start, outside, length| Extent { start, outside, length };
        assert_eq!(parse("         0          0 4294967295\n"), Some(vec![extent(0, 0, u32::MAX)]));
        assert_eq!(
            parse("0 1000 1\n1 100000 65535\n"),
            Some(vec![extent(0, 1000, 1), extent(1, 100_000, 65_535)])
        );
        assert_eq!(parse("0 a 1\n"), None);
        assert_eq!(parse("0 1\n"), None);
    }

    #[test]
    fn a_namespace_is_made_with_ids_and_leaves_no_process() {
        let namespace = with_ids(100_000, 65_536).expect("the tests make namespaces: run them as root");
        assert!(File::from(namespace).metadata().is_ok());
        assert!(!is_nested().unwrap() || observe_ids().is_ok());
        assert!(with_ids(u32::MAX - 1, 65_536).is_err(), "ids that there are not");
    }
}
