//! The files that say which ids the files of a VPS have on disk, where these are not the guest's own: one for each VPS, named
//! by its id, with the first id and their number.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use insula_types::{IdRange, VpsId};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::note::read_text;

/// The ids of a VPS; `None` if they are the guest's own. `InvalidData` if the file can't be understood.
pub fn read_owner(owners: &OwnedFd, vps: VpsId) -> io::Result<Option<IdRange>> {
    let text = match read_text(owners, &vps.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let parse = || {
        let (start, length) = text.trim().split_once(' ')?;
        Some(IdRange { start: start.parse().ok()?, length: length.parse().ok()? })
    };
    parse().map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Writes the ids of a VPS, on disk when it returns: into the directory `unfinished` first, and by a rename into `owners`.
pub fn write_owner(owners: &OwnedFd, unfinished: &OwnedFd, vps: VpsId, ids: IdRange) -> io::Result<()> {
    let name = vps.to_string();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mut file = File::from(openat(unfinished, &*name, flags, Mode::RUSR | Mode::WUSR)?);
    writeln!(file, "{} {}", ids.start, ids.length)?;
    file.sync_all()?;
    renameat(unfinished, &*name, owners, &*name)?;
    Ok(fsync(owners)?)
}

/// Forgets the ids of a VPS, if there are any.
pub fn remove_owner(owners: &OwnedFd, vps: VpsId) -> io::Result<()> {
    match unlinkat(owners, vps.to_string(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
