//! Gives the copy of a btrfs a new identity, so that several copies can be mounted at the same
//! time.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the superblocks of small file systems are, and which part of one its checksum covers.
///
/// <https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html>
const SUPERBLOCKS: [u64; 2] = [64 << 10, 64 << 20];
const SIZE: usize = 4096;
const COVERED_FROM: usize = 0x20;

const FSID: usize = 0x20;
const MAGIC: usize = 0x40;
const INCOMPATIBLE_FLAGS: usize = 0xbc;
const METADATA_UUID: usize = 0x23b;
const HAS_METADATA_UUID: u64 = 1 << 10;

/// Gives the unmounted btrfs in `file` a new UUID, as `btrfstune -m` does. That program refuses
/// features that it does not know, which for Debian 12's are simple quotas.
pub fn renew(file: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let mut uuid = [0; 16];
    File::open("/dev/urandom")?.read_exact_at(&mut uuid, 0)?;
    for offset in SUPERBLOCKS {
        let mut block = [0; SIZE];
        file.read_exact_at(&mut block, offset)?;
        if &block[MAGIC..MAGIC + 8] != b"_BHRfS_M" {
            return Err(io::Error::other("no superblock of btrfs"));
        }
        change(&mut block, &uuid);
        file.write_all_at(&block, offset)?;
    }
    Ok(())
}

fn change(block: &mut [u8; SIZE], uuid: &[u8; 16]) {
    let flags = u64::from_le_bytes(block[INCOMPATIBLE_FLAGS..][..8].try_into().expect("eight bytes"));
    if flags & HAS_METADATA_UUID == 0 {
        block.copy_within(FSID..FSID + 16, METADATA_UUID); // all other blocks keep the old one
    }
    block[INCOMPATIBLE_FLAGS..][..8].copy_from_slice(&(flags | HAS_METADATA_UUID).to_le_bytes());
    block[FSID..][..16].copy_from_slice(uuid);
    let sum = crc32c(&block[COVERED_FROM..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32C as in RFC 3720, appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Command;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_copy_is_another_file_system_and_whole() {
        let directory = tempfile::tempdir_in(crate::paths::build_directory()).unwrap();
        let file = directory.path().join("pool");
        File::create(&file).unwrap().set_len(256 << 20).unwrap();
        Command::new("mkfs.btrfs").args(["-q"]).args([&file]).run_ok();
        let uuid =
            || Command::new("blkid").args(["-p", "-o", "value", "-s", "UUID"]).args([&file]).run_ok().text();
        let before = uuid();
        for _ in 0..2 {
            renew(&file).unwrap();
        }
        assert_ne!(uuid(), before);
        Command::new("btrfs").args(["check", "--force"]).args([&file]).run_ok();
    }
}
