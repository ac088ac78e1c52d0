//! The files of a VPS in the agent's run directory.
//!
//! `<run_dir>/vps/<id>/`: `monitor.sock` and `plan` while its monitor lives, `exit.json` from its end to its next start.
//! Only root may enter.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use insula_types::{ExitRecord, VpsId};

/// The directory of one VPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpsDirectory(PathBuf);

impl VpsDirectory {
    /// That of the VPS below the run directory.
    pub fn new(run_dir: &Path, id: &VpsId) -> Self {
        Self(run_dir.join("vps").join(id.to_string()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The monitor's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("monitor.sock")
    }

    /// The plan that the guest runs by.
    pub fn plan(&self) -> PathBuf {
        self.0.join("plan")
    }

    /// How the guest ended the last time.
    pub fn exit_record(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// Reads how the guest ended; `None` if it has not.
    pub fn read_exit_record(&self) -> io::Result<Option<ExitRecord>> {
        match fs::read(self.exit_record()) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the directory with all that is in it.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// Writes a file whole or not at all.
    pub(crate) fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600).open(&new)?.write_all(contents)?;
        fs::rename(&new, path)
    }
}

/// The VPSes that have a directory: their monitors live, or have left a word.
pub fn observe_run_dir(run_dir: &Path) -> io::Result<Vec<VpsId>> {
    match fs::read_dir(run_dir.join("vps")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error),
        Ok(entries) => {
            let id = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
            entries.filter_map(|entry| entry.map(id).transpose()).collect()
        }
    }
}
