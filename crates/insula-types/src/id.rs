//! Ids that never change.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} {text:?}: expected {expected}")]
pub struct IdParseError {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

macro_rules! uuid_types {
    ($($(#[$doc:meta])* $name:ident, $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: UUID version 7 (RFC 9562), ordered by time.
            #[allow(clippy::new_without_default)] // two calls give two ids
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                let error = || IdParseError { kind: $kind, text: text.chars().take(80).collect(), expected: "a UUID" };
                Uuid::try_parse(text).map(Self).map_err(|_| error())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0.hyphenated().to_string())
            }
        }
    )*};
}

uuid_types! {
    /// The id of a VPS. Every kernel object that belongs to the VPS has a name derived from it.
    VpsId, "VPS id";
    /// The id of an operation.
    OperationId, "operation id";
    /// The id of a host. It is created once, and stays when the host's name or address changes.
    HostId, "host id";
    /// The id of a client of the API.
    ClientId, "client id";
}

impl ClientId {
    /// The id's 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl From<Uuid> for ClientId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl VpsId {
    /// The last 48 bits of the id, which are all random. Used where a UUID does not fit: interface
    /// names, btrfs qgroups.
    pub fn short(&self) -> u64 {
        self.0.as_u64_pair().1 & 0xffff_ffff_ffff
    }
}

/// The SHA-256 of an image's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The smallest number of hexadecimal digits by which an image may be named.
    pub const SHORTEST_PREFIX: usize = 12;

    /// Makes a fingerprint from the bytes of a SHA-256.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first twelve digits, for tables.
    pub fn short(&self) -> String {
        self.to_string()[..Self::SHORTEST_PREFIX].to_owned()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        let error = || IdParseError {
            kind: "fingerprint",
            text: text.chars().take(80).collect(),
            expected: "64 hexadecimal digits",
        };
        if text.len() != 64 || !text.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| error())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = IdParseError;

    fn try_from(text: String) -> Result<Self, IdParseError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.to_string()
    }
}

/// A range of host user and group ids that belongs to one VPS. Its first id is the root user of
/// that VPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IdRange {
    /// The first host id.
    pub start: u32,
    /// The number of ids.
    pub length: u32,
}

impl IdRange {
    /// The number of ids of a VPS by default, as distributions assume. A longer range is a multiple
    /// of it.
    pub const DEFAULT_LENGTH: u32 = 65_536;

    /// The starts of the ranges of [`Self::DEFAULT_LENGTH`] that this range consists of.
    pub fn parts(&self) -> impl Iterator<Item = u32> + use<> {
        let start = self.start;
        (0..self.length.div_ceil(Self::DEFAULT_LENGTH)).map(move |part| start + part * Self::DEFAULT_LENGTH)
    }

    /// The first id after the range.
    pub fn end(&self) -> u64 {
        u64::from(self.start) + u64::from(self.length)
    }

    /// Whether both ranges have an id in common.
    pub fn overlaps(&self, other: &IdRange) -> bool {
        u64::from(self.start) < other.end() && u64::from(other.start) < self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_id_is_the_random_end() {
        let id: VpsId = "0193a1b2-c3d4-7e5f-8a9b-0123456789ab".parse().unwrap();
        assert_eq!(id.short(), 0x0123_4567_89ab);
    }

    #[test]
    fn a_fingerprint_reads_what_it_writes() {
        let fingerprint = Fingerprint::from_bytes([0xab; 32]);
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)[..63]] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ranges_overlap_when_they_share_an_id() {
        let range = |start, length| IdRange { start, length };
        assert!(range(0, 10).overlaps(&range(9, 1)));
        assert!(!range(0, 10).overlaps(&range(10, 10)));
        assert!(!range(u32::MAX - 9, 10).overlaps(&range(0, 10)));
        assert_eq!(range(65_536, 131_072).parts().collect::<Vec<_>>(), [65_536, 131_072]);
    }
}
