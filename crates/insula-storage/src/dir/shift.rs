//! Changes the ids of a copy whose source belongs to a VPS with other ids on disk: owners of files, and ids in extended
//! attributes.

use std::io;

use insula_types::IdRange;

/// How the ids of a tree become those of its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdShift {
    from: u32,
    to: u32,
    length: u32,
}

impl IdShift {
    /// The shift between two owners. An owner that is `None` has the guest's own ids, from 0 on. The result is `None` if both
    /// have the same ids.
    pub fn between(from: Option<IdRange>, to: Option<IdRange>) -> Option<Self> {
        let start = |owner: Option<IdRange>| owner.map_or(0, |ids| ids.start);
        let length = [from, to].into_iter().flatten().map(|ids| ids.length).min()?;
        (start(from) != start(to)).then(|| Self { from: start(from), to: start(to), length })
    }

    /// The id in the copy. An error if the id is none of the source's owner.
    pub fn apply(&self, id: u32) -> io::Result<u32> {
        match id.checked_sub(self.from) {
            Some(offset) if offset < self.length => Ok(self.to + offset),
            _ => Err(io::Error::other(format!("it belongs to the id {id}, which is not one of the VPS's"))),
        }
    }
}

/// The value of an extended attribute in the copy. Access lists and file capabilities contain ids; other values stay as they
/// are.
pub fn shift_attribute(name: &[u8], value: Vec<u8>, shift: &IdShift) -> io::Result<Vec<u8>> {
    match name {
        b"system.posix_acl_access" | b"system.posix_acl_default" => shift_access_list(value, shift),
        b"security.capability" => shift_capabilities(value, shift),
        _ => Ok(value),
    }
}

/// Shifts an access list, as in `linux/posix_acl_xattr.h`: a version, then entries of a tag, permissions and an id, all
/// little-endian.
fn shift_access_list(mut value: Vec<u8>, shift: &IdShift) -> io::Result<Vec<u8>> {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if tag == USER || tag == GROUP {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            entry[4..].copy_from_slice(&shift.apply(id)?.to_le_bytes());
        }
    }
    Ok(value)
}

/// Shifts file capabilities: `struct vfs_ns_cap_data` of `linux/capability.h`, capabilities(7). Version 2 applies to the user
/// namespace of the reader, whose root has the first id of the source. Version 3 also has the id of the root that it applies
/// to.
fn shift_capabilities(mut value: Vec<u8>, shift: &IdShift) -> io::Result<Vec<u8>> {
    const VERSION: u32 = 0xff00_0000;
    const VERSION_2: u32 = 0x0200_0000;
    const VERSION_3: u32 = 0x0300_0000;
    const LENGTH_2: usize = 20;
    let invalid = || io::Error::other("its file capabilities are of an unknown kind");
    let word = |at: usize| -> io::Result<u32> {
        Ok(u32::from_le_bytes(
            value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)?,
        ))
    };
    let head = word(0)?;
    let root = match head & VERSION {
        VERSION_2 if value.len() == LENGTH_2 => shift.to,
        VERSION_3 => shift.apply(word(LENGTH_2)?)?,
        _ => return Err(invalid()),
    };
    let version = if root == 0 { VERSION_2 } else { VERSION_3 };
    value[..4].copy_from_slice(&(head & !VERSION | version).to_le_bytes());
    value.truncate(LENGTH_2);
    if root != 0 {
        value.extend(root.to_le_bytes());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IdRange = IdRange { start: 100_000, length: 65_536 };
    const OTHER: IdRange = IdRange { start: 200_000, length: 65_536 };

    #[test]
    fn ids_go_from_owner_to_owner() {
        for (from, to, id, expected) in [
            (None, Some(ONE), 0, Some(100_000)),
            (None, Some(ONE), 65_535, Some(165_535)),
            (None, Some(ONE), 65_536, None),
            (Some(ONE), Some(OTHER), 100_033, Some(200_033)),
            (Some(ONE), Some(OTHER), 33, None),
            (Some(ONE), None, 100_033, Some(33)),
        ] {
            let shift = IdShift::between(from, to).unwrap();
            assert_eq!(shift.apply(id).ok(), expected, "{from:?} {to:?} {id}");
        }
        assert_eq!(IdShift::between(None, None), None);
        assert_eq!(IdShift::between(Some(ONE), Some(ONE)), None);
    }

    #[test]
    fn access_lists_name_ids() {
        let list = |user: u32, group: u32| {
            let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
            let nobody = u32::MAX; // owner, group, mask and others have none
            let entries =
                [entry(1, nobody), entry(2, user), entry(4, nobody), entry(8, group), entry(0x10, nobody)];
            [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
        };
        let shift = IdShift::between(None, Some(ONE)).unwrap();
        let shifted = |value| shift_attribute(b"system.posix_acl_access", value, &shift);
        assert_eq!(shifted(list(33, 4)).unwrap(), list(100_033, 100_004));
        assert!(shifted(list(70_000, 4)).is_err());
        assert_eq!(shift_attribute(b"user.x", vec![1, 2], &shift).unwrap(), [1, 2]);
    }

    #[test]
    fn capabilities_are_for_the_root_of_the_new_owner() {
        let of = |root: Option<u32>| {
            let version: u32 = if root.is_some() { 0x0300_0001 } else { 0x0200_0001 };
            let root = root.map(|root| root.to_le_bytes().to_vec()).unwrap_or_default();
            [&version.to_le_bytes()[..], &[0, 0x20, 0, 0], &[0; 12], &root].concat()
        };
        for (from, to, before, after) in [
            (None, Some(ONE), None, Some(100_000)),
            (Some(ONE), Some(OTHER), Some(100_000), Some(200_000)),
            (Some(ONE), Some(OTHER), Some(100_007), Some(200_007)),
            (Some(ONE), None, Some(100_000), None),
        ] {
            let shift = IdShift::between(from, to).unwrap();
            let value = shift_attribute(b"security.capability", of(before), &shift).unwrap();
            assert_eq!(value, of(after), "{from:?} {to:?}");
        }
        let shift = IdShift::between(None, Some(ONE)).unwrap();
        assert!(shift_attribute(b"security.capability", vec![1; 20], &shift).is_err());
    }
}
