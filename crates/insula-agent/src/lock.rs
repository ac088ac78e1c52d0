//! One agent for a state directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

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
                anyhow::bail!(
                    "another agent (process {}) has the state directory {}; give this one another with --state-dir",
                    owner.trim(),
                    state_dir.display()
                );
            }
            Err(errno) => return Err(errno).with_context(|| format!("failed to lock {}", path.display())),
        }
        file.rewind().and_then(|()| file.set_len(0)).with_context(opening)?;
        writeln!(file, "{}", std::process::id()).with_context(opening)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
