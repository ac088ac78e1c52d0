//! The note beside a volume's tree: the volume's own name, and the name of the volume that it was copied from.
//!
//! A path is no such name, since another volume may have it after a removal. The note appears and disappears together with the
//! volume, by the same rename.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::rand::{GetRandomFlags, getrandom};

const FILE: &str = "note";

/// What is noted of a volume.
pub struct Note {
    /// The volume's own name, which no other volume has or had.
    pub name: String,
    /// The name of the volume that it was copied from. Empty if it was made empty.
    pub origin: String,
}

impl Note {
    /// The note of a new volume, under a new name.
    pub fn new(origin: &str) -> io::Result<Self> {
        Ok(Self { name: unique()?, origin: origin.to_owned() })
    }

    /// Writes the note into the directory that holds a new volume. It is not on disk yet when this returns.
    pub fn write(&self, holder: &OwnedFd) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(openat(holder, FILE, flags, Mode::RUSR | Mode::WUSR)?);
        writeln!(file, "{}\n{}", self.name, self.origin)
    }

    /// Reads the note of a volume. `InvalidData` if it is not one.
    pub fn read(holder: &OwnedFd) -> io::Result<Self> {
        let text = read_text(holder, FILE)?;
        let mut lines = text.lines().map(str::to_owned);
        let (Some(name), Some(origin)) = (lines.next(), lines.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(Self { name, origin })
    }
}

/// Reads a small file of the driver's own, through no link.
pub fn read_text(directory: &OwnedFd, name: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut text = String::new();
    File::from(openat(directory, name, flags, Mode::empty())?).take(4096).read_to_string(&mut text)?;
    Ok(text)
}

/// A name that nothing else has or had.
pub fn unique() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
