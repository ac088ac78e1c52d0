//! The block devices below a file system.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::str::FromStr;

use insula_sys::btrfs::filesystem_uuid;
use rustix::fs::{fstat, major, minor};

/// The block devices that hold a pool. Limits on reading and writing are set on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockDevices {
    /// The devices: whole disks, even if the file system is on a partition, since the kernel limits only these.
    Below(Vec<BlockDevice>),
    /// No device that can be named.
    None {
        /// Why, for people.
        why: String,
    },
}

/// The number of a block device. Its text is `MAJOR:MINOR`, as in the files of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockDevice {
    /// The major number, which identifies the kernel's driver.
    pub major: u32,
    /// The minor number, which identifies the device among those of the driver.
    pub minor: u32,
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for BlockDevice {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let parse = || {
            let (major, minor) = text.trim().split_once(':')?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parse().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl fmt::Display for BlockDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(devices) => {
                let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
                f.write_str(&devices.join(" "))
            }
            Self::None { why } => write!(f, "none: {why}"),
        }
    }
}

/// The devices of the btrfs that a directory is on, from `/sys/fs/btrfs/UUID/devices`.
pub fn of_btrfs(directory: BorrowedFd<'_>) -> io::Result<BlockDevices> {
    let devices = format!("/sys/fs/btrfs/{}/devices", dashed(filesystem_uuid(directory)?));
    let mut found = vec![];
    for entry in std::fs::read_dir(devices)? {
        found.push(whole_disk(&entry?.path())?);
    }
    found.sort();
    found.dedup();
    Ok(BlockDevices::Below(found))
}

/// The device of the file system that a directory is on. A file system on several devices, or on none, has a number that is no
/// device's: the result is [`BlockDevices::None`].
pub fn of_directory(directory: BorrowedFd<'_>) -> io::Result<BlockDevices> {
    let number = fstat(directory)?.st_dev;
    let device = BlockDevice { major: major(number), minor: minor(number) };
    match whole_disk(Path::new(&format!("/sys/dev/block/{device}"))) {
        Ok(disk) => Ok(BlockDevices::Below(vec![disk])),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = format!("the file system of the pool is not on a block device ({device} is not one)");
            Ok(BlockDevices::None { why })
        }
        Err(error) => Err(error),
    }
}

/// The disk of a device in sysfs: the device itself, or the disk that it is a partition of.
fn whole_disk(device: &Path) -> io::Result<BlockDevice> {
    let device = std::fs::canonicalize(device)?;
    let disk = match device.join("partition").exists() {
        true => device.parent().unwrap_or(&device),
        false => &device,
    };
    std::fs::read_to_string(disk.join("dev"))?.parse()
}

/// The text of a UUID: RFC 9562, section 4.
fn dashed(uuid: [u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_written_as_cgroups_take_it() {
        let device = BlockDevice { major: 259, minor: 3 };
        assert_eq!(device.to_string(), "259:3");
        assert_eq!("259:3\n".parse::<BlockDevice>().unwrap(), device);
        for wrong in ["", "259", "a:b", "1:2:3"] {
            assert!(wrong.parse::<BlockDevice>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_partition_stands_for_its_disk() {
        let sysfs = tempfile::tempdir().unwrap();
        let (disk, partition) = (sysfs.path().join("sda"), sysfs.path().join("sda/sda1"));
        std::fs::create_dir_all(&partition).unwrap();
        std::fs::write(disk.join("dev"), "8:0\n").unwrap();
        std::fs::write(partition.join("dev"), "8:1\n").unwrap();
        std::fs::write(partition.join("partition"), "1\n").unwrap();
        let expected = BlockDevice { major: 8, minor: 0 };
        assert_eq!([whole_disk(&disk).unwrap(), whole_disk(&partition).unwrap()], [expected; 2]);
    }

    #[test]
    fn a_uuid_has_its_dashes() {
        let bytes: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        assert_eq!(dashed(bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
