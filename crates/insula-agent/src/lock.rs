//! The lock that lets only one agent use a state directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// The lock on a state directory. It is held until dropped, and ends with the process in any case.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Creates the directory if it does not exist, and takes the lock.
    pub fn take(state_dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(state_dir)
            .with_context(|| format!("failed to make the state directory {}", state_dir.display()))?;
        let path = state_dir.join("lock");
        let opening = || format!("failed to open {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(opening)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                file.read_to_string(&mut owner).with_context(opening)?;
                anyhow::ensure!(
                    has_ended(owner.trim()),
                    "another agent (process {}) uses the state directory {}; give this one another with --state-dir",
                    owner.trim(),
                    state_dir.display()
                );
                // A program that the dead agent was about to run holds the lock until it is
                // executed.
                await_lock(&file, GRACE).with_context(|| {
                    format!(
                        "failed to lock {}, which is still locked for process {}",
                        path.display(),
                        owner.trim()
                    )
                })?;
            }
            Err(errno) => return Err(errno).with_context(|| format!("failed to lock {}", path.display())),
        }
        file.rewind().and_then(|()| file.set_len(0)).with_context(opening)?;
        writeln!(file, "{}", std::process::id()).with_context(opening)?;
        Ok(Self { _file: file })
    }
}

/// How long to wait for the lock of an agent that has died. It usually takes some milliseconds.
const GRACE: Duration = Duration::from_secs(10);

/// Waits for the lock on a thread of its own, because flock(2) has no deadline.
fn await_lock(file: &File, grace: Duration) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel();
    let same_lock = file.try_clone()?;
    std::thread::spawn(move || sender.send(flock(&same_lock, FlockOperation::LockExclusive)));
    let locked = receiver.recv_timeout(grace);
    Ok(locked
        .with_context(|| format!("a program that it started still holds the lock after {grace:?}"))??)
}

/// Whether the process with this pid has ended. `false` for a text that is not a number, which says
/// nothing.
fn has_ended(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_a_dead_one_has_begun_to_run_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::take(directory.path()).unwrap();
        std::fs::write(directory.path().join("lock"), format!("{}\n", i32::MAX)).unwrap(); // no such process
        let state_dir = directory.path().to_owned();
        let second = std::thread::spawn(move || StateLock::take(&state_dir).map(drop));
        let deadline = Instant::now() + GRACE;
        while !is_waited_for(&directory.path().join("lock")) {
            assert!(Instant::now() < deadline && !second.is_finished(), "nobody waits");
            std::thread::yield_now();
        }
        drop(first);
        second.join().unwrap().unwrap();
    }

    /// `/proc/locks` has a line with an arrow for each waiting process: proc_locks(5).
    fn is_waited_for(path: &Path) -> bool {
        let inode = format!(":{} ", path.metadata().unwrap().ino());
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&inode))
    }

    #[test]
    fn a_lock_that_is_kept_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let _first = StateLock::take(directory.path()).unwrap();
        let file = File::open(directory.path().join("lock")).unwrap();
        let error = await_lock(&file, Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("still holds the lock after 50ms"), "{error}");
    }

    #[test]
    fn the_second_is_refused_and_told_who_has_it() {
        let directory = std::env::temp_dir().join(format!("insula-lock-{}", std::process::id()));
        let first = StateLock::take(&directory).unwrap();
        let error = StateLock::take(&directory).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        drop(StateLock::take(&directory).unwrap());
        std::fs::remove_file(directory.join("lock")).unwrap();
        std::fs::remove_dir(&directory).unwrap();
    }
}
