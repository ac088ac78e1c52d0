//! One agent for a state directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// The lock on a state directory: held until dropped, and gone with the process in any case.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the directory if it is not there, and takes it.
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
                    "another agent (process {}) has the state directory {}; give this one another with --state-dir",
                    owner.trim(),
                    state_dir.display()
                );
                // A program that the dead agent was about to run has the lock until it is executed.
                flock(&file, FlockOperation::LockExclusive)
                    .with_context(|| format!("failed to lock {}", path.display()))?;
            }
            Err(errno) => return Err(errno).with_context(|| format!("failed to lock {}", path.display())),
        }
        file.rewind().and_then(|()| file.set_len(0)).with_context(opening)?;
        writeln!(file, "{}", std::process::id()).with_context(opening)?;
        Ok(Self { _file: file })
    }
}

/// Whether there is no such process any more. What is no number tells nothing.
fn has_ended(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_one_has_begun_to_run_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::take(directory.path()).unwrap();
        std::fs::write(directory.path().join("lock"), format!("{}\n", i32::MAX)).unwrap(); // no such process
        let state_dir = directory.path().to_owned();
        let second = std::thread::spawn(move || StateLock::take(&state_dir).map(drop));
        drop(first);
        second.join().unwrap().unwrap();
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
