//! The directories of a pool that its volumes are in.
//!
//! ```text
//! images/<fingerprint>   staging/<operation>   vps/<id>/{root,incoming}   snapshots/<id>/<name>
//! ```
//!
//! Only root has access to them. They are opened beneath the pool's descriptor, through no links, so it does not matter what is
//! mounted or moved elsewhere meanwhile. `vps/<id>` remains until nothing of the VPS is left, including its quota.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use insula_sys::beneath::{self, Reach};
use insula_sys::walk;
use insula_types::VpsId;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, unlinkat};
use rustix::io::Errno;

use crate::Volume;
use crate::volume::{IMAGES, INCOMING, OUTGOING, ROOT, SNAPSHOTS, STAGING, VPS};

const PRIVATE: Mode = Mode::RWXU;

/// A pool's directories.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    pool: OwnedFd,
}

impl Layout {
    /// Opens the pool at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let pool = open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { path: path.to_owned(), pool })
    }

    /// Makes the pool's directories that are missing, and the driver's `own` ones.
    pub fn ensure_directories(&self, own: &[&str]) -> io::Result<()> {
        let mut names = [IMAGES, STAGING, VPS, SNAPSHOTS].iter().chain(own);
        names.try_for_each(|name| self.ensure_directory(Path::new(name)).map(drop))
    }

    /// The pool's top directory.
    pub fn pool(&self) -> BorrowedFd<'_> {
        self.pool.as_fd()
    }

    /// The pool's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory by its path relative to the pool. `None` if it doesn't exist.
    pub fn directory(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match beneath::open(&self.pool, path, Reach::Beneath, OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens the directory that a volume is in, or will be. Makes the directory if it is missing.
    pub fn ensure_parent(&self, volume: &Volume) -> io::Result<OwnedFd> {
        if let Some(vps) = volume.vps() {
            self.ensure_directory(&vps_directory(vps))?;
        }
        self.ensure_directory(&volume.directory())
    }

    fn ensure_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        match mkdirat(&self.pool, path, PRIVATE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.directory(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Removes a directory if it is empty. It is no error if it doesn't exist.
    pub fn remove_if_empty(&self, path: &Path) -> io::Result<()> {
        match unlinkat(&self.pool, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The VPSes that have a directory, but no volumes.
    pub fn vpses_without_volumes(&self) -> io::Result<Vec<VpsId>> {
        let is_empty = |path: &Path| self.paths(path).map(|paths| paths.is_empty());
        let mut vpses = vec![];
        for directory in self.paths(Path::new(VPS))? {
            let Ok(vps) = file_name(&directory).parse::<VpsId>() else { continue };
            if is_empty(&directory)? && is_empty(&Path::new(SNAPSHOTS).join(vps.to_string()))? {
                vpses.push(vps);
            }
        }
        Ok(vpses)
    }

    /// All volumes, and the paths of all files that don't belong into the pool; both sorted. The driver's `own` directories are
    /// left out.
    pub fn list(&self, own: &[&str]) -> io::Result<(Vec<Volume>, Vec<PathBuf>)> {
        let mut paths = vec![];
        for top in self.paths(Path::new("."))? {
            match top.to_str() {
                Some(IMAGES | STAGING) => paths.extend(self.paths(&top)?),
                Some(VPS | SNAPSHOTS) => {
                    for directory in self.paths(&top)? {
                        match file_name(&directory).parse::<VpsId>() {
                            Ok(_) => paths.extend(self.paths(&directory)?),
                            Err(_) => paths.push(directory),
                        }
                    }
                }
                Some(name) if own.contains(&name) => {}
                _ => paths.push(top),
            }
        }
        let (mut volumes, mut strays) = (vec![], vec![]);
        for path in paths {
            match parse(&path) {
                Some(volume) => volumes.push(volume),
                None => strays.push(path),
            }
        }
        volumes.sort();
        strays.sort();
        Ok((volumes, strays))
    }

    /// The paths, relative to the pool, of the files in a directory. None if it doesn't exist or is no directory.
    fn paths(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let directory = match self.directory(path) {
            Ok(Some(directory)) => directory,
            Ok(None) => return Ok(vec![]),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(vec![]),
            Err(error) => return Err(error),
        };
        let base = path.strip_prefix(".").unwrap_or(path);
        let names = walk::names(directory)?;
        Ok(names.iter().map(|name| base.join(OsStr::from_bytes(name.to_bytes()))).collect())
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// The directory of a VPS, relative to the pool.
pub fn vps_directory(vps: VpsId) -> PathBuf {
    Path::new(VPS).join(vps.to_string())
}

/// The volume at a path relative to the pool. `None` if it is no path of a volume.
fn parse(path: &Path) -> Option<Volume> {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    match parts[..] {
        [IMAGES, fingerprint] => fingerprint.parse().ok().map(Volume::Image),
        [STAGING, operation] => operation.parse().ok().map(Volume::Staging),
        [VPS, vps, ROOT] => vps.parse().ok().map(Volume::Root),
        [VPS, vps, INCOMING] => vps.parse().ok().map(Volume::Incoming),
        [VPS, vps, OUTGOING] => vps.parse().ok().map(Volume::Outgoing),
        [SNAPSHOTS, vps, name] => Some(Volume::Snapshot(vps.parse().ok()?, name.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::{Fingerprint, OperationId};

    #[test]
    fn a_volume_is_found_where_it_is_put() {
        let vps = VpsId::new();
        let volumes = [
            Volume::Image(Fingerprint::from_bytes([7; 32])),
            Volume::Staging(OperationId::new()),
            Volume::Root(vps),
            Volume::Incoming(vps),
            Volume::Outgoing(vps),
            Volume::Snapshot(vps, "daily-1".parse().unwrap()),
        ];
        for volume in volumes {
            assert_eq!(parse(&volume.directory().join(volume.file_name())), Some(volume));
        }
    }

    #[test]
    fn what_is_no_volume_is_a_stray() {
        let vps = VpsId::new();
        let strays =
            ["images/x".into(), format!("vps/{vps}/home"), format!("snapshots/{vps}/.x"), "x".into()];
        for stray in strays {
            assert_eq!(parse(Path::new(&stray)), None, "{stray}");
        }
    }

    #[test]
    fn links_are_not_followed() {
        let pool = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let layout = Layout::open(pool.path()).unwrap();
        layout.ensure_directories(&[]).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), pool.path().join("images/link")).unwrap();
        assert!(layout.directory(Path::new("images/link")).is_err());
        assert!(layout.directory(Path::new("../")).is_err());
    }
}
