//! Devices of the host that guests are given.

use std::io;
use std::path::PathBuf;

use rustix::fs::{FileType, major, minor, stat};

use crate::cgroup::DeviceKind;

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// Its path below `/dev`.
    pub name: String,
    /// Whether it is a character or a block device.
    pub kind: DeviceKind,
    /// The major number, which stands for the driver.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl HostDevice {
    /// Its node on the host.
    pub fn path(&self) -> PathBuf {
        path(&self.name)
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/dev").join(name)
}

/// Looks at the device that is called so below the host's `/dev`, where links are followed.
///
/// # Errors
/// `ENODEV` for what is there and no device.
pub fn observe_device(name: &str) -> io::Result<HostDevice> {
    let stat = stat(path(name))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => DeviceKind::Character,
        FileType::BlockDevice => DeviceKind::Block,
        _ => return Err(io::Error::from_raw_os_error(libc::ENODEV)),
    };
    Ok(HostDevice { name: name.to_owned(), kind, major: major(stat.st_rdev), minor: minor(stat.st_rdev) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_looked_at() {
        let null = observe_device("null").unwrap();
        assert_eq!((null.kind, null.major, null.minor), (DeviceKind::Character, 1, 3));
        assert_eq!(null.path(), PathBuf::from("/dev/null"));
        assert_eq!(observe_device("no-such-device").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(observe_device("shm").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
