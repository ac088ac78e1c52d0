//! Notes of the ids that the files of a VPS have on disk, if these are not the guest's own. There is a file for each VPS, named
//! by the VPS's id. It has the first id and the number of ids.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use insula_types::{IdRange, VpsId};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::note::read_text;

/// Reads the ids of a VPS. `None` if they are the guest's own. `InvalidData` if the file can't be understood.
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

/// Writes the ids of a VPS, to a file in the directory `unfinished` that is then moved to `owners`. They are on disk when this
/// returns.
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
