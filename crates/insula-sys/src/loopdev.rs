//! Loop devices (loop(4)): a file as a block device.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use self::wire::{LoopConfig, LoopInfo, get_free, get_status, loop_configure};

/// A loop device that is bound to a file. It becomes free when its last user, be it this handle or a mount, closes it.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    device: File,
}

impl LoopDevice {
    /// The path of its node, such as `/dev/loop0`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open device.
    pub fn file(&self) -> &File {
        &self.device
    }

    /// The inode number of its backing file, on whichever file system. `ENXIO` if the device was freed meanwhile.
    pub fn backing_inode(&self) -> io::Result<u64> {
        let mut info = LoopInfo::default();
        // SAFETY: the kernel writes one structure of this type.
        unsafe { get_status(self.device.as_raw_fd(), &mut info) }?;
        Ok(info.inode)
    }
}

/// Binds a free loop device to `file`, which is open for reading and writing.
///
/// Its blocks have 4096 bytes. It bypasses the page cache of `file` if the file system supports that. Needs Linux 5.8.
/// `NotFound` if the kernel has no loop devices.
pub fn attach(file: BorrowedFd<'_>) -> io::Result<LoopDevice> {
    /// Another process may take the free device that the kernel has named. It won't win each time.
    const ATTEMPTS: usize = 64;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        // SAFETY: there is no argument.
        let number = unsafe { get_free(control.as_raw_fd()) }?;
        let device = open(number, true)?;
        match configure(device.device.as_fd(), file) {
            Err(nix::Error::EBUSY) => continue,
            result => return result.map(|()| device).map_err(io::Error::from),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// The loop devices that are bound to files now.
pub fn bound() -> io::Result<Vec<LoopDevice>> {
    let mut devices = vec![];
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok());
        let Some(number) = number.filter(|_| entry.path().join("loop").is_dir()) else { continue };
        // The device may be freed, and even removed, between any two of these lines.
        devices.extend(open(number, false).ok().filter(|device| device.backing_inode().is_ok()));
    }
    Ok(devices)
}

fn open(number: i32, write: bool) -> io::Result<LoopDevice> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = OpenOptions::new().read(true).write(write).open(&path)?;
    Ok(LoopDevice { path, device })
}

fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> nix::Result<()> {
    let bind = |flags| {
        let info = LoopInfo { flags, ..LoopInfo::default() };
        let fd = file.as_raw_fd().cast_unsigned();
        let config = LoopConfig { fd, block_size: 4096, info, reserved: [0; 8] };
        // SAFETY: the kernel reads one structure of this type.
        unsafe { loop_configure(device.as_raw_fd(), &config) }.map(drop)
    };
    match bind(AUTOCLEAR | DIRECT_IO) {
        Err(nix::Error::EINVAL) => bind(AUTOCLEAR),
        result => result,
    }
}

const AUTOCLEAR: u32 = 4; // LO_FLAGS_AUTOCLEAR
const DIRECT_IO: u32 = 16; // LO_FLAGS_DIRECT_IO

/// The structures and numbers of the ioctls.
mod wire {
    use nix::{ioctl_none_bad, ioctl_read_bad, ioctl_write_ptr_bad};

    /// `struct loop_info64` of `linux/loop.h`.
    #[repr(C)]
    pub struct LoopInfo {
        pub device: u64,
        pub inode: u64,
        pub rdevice: u64,
        pub offset: u64,
        pub size_limit: u64,
        pub number: u32,
        pub encrypt: [u32; 2],
        pub flags: u32,
        pub names_and_key: [u8; 64 + 64 + 32],
        pub init: [u64; 2],
    }

    impl Default for LoopInfo {
        fn default() -> Self {
            Self {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt: [0; 2],
                flags: 0,
                names_and_key: [0; 160],
                init: [0; 2],
            }
        }
    }

    /// `struct loop_config` of `linux/loop.h`.
    #[repr(C)]
    pub struct LoopConfig {
        pub fd: u32,
        pub block_size: u32,
        pub info: LoopInfo,
        pub reserved: [u64; 8],
    }

    const _: () = {
        assert!(size_of::<LoopInfo>() == 232);
        assert!(size_of::<LoopConfig>() == 304);
    };

    ioctl_read_bad!(get_status, 0x4c05, LoopInfo);
    ioctl_write_ptr_bad!(loop_configure, 0x4c0a, LoopConfig);
    ioctl_none_bad!(get_free, 0x4c82);
}
