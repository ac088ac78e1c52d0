//! Names that people choose. Each kind is a type of its own, so that one can't be mistaken for
//! another.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::Fingerprint;

/// Why a text is not a name. The message says which rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} {text:?}: {rule}")]
pub struct NameError {
    /// What the text was meant to name, such as `VPS name`.
    pub kind: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
    /// The rule that was broken.
    pub rule: &'static str,
}

/// A label of a host name: RFC 1123 section 2.1, in lower case and beginning with a letter.
fn check_label(text: &str) -> Result<(), &'static str> {
    match text.as_bytes() {
        [] => Err("it is empty"),
        bytes if bytes.len() > 63 => Err("it is longer than 63 characters"),
        [first, ..] if !first.is_ascii_lowercase() => Err("it must begin with a letter a-z"),
        [.., b'-'] => Err("it must not end with a hyphen"),
        bytes if !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') => {
            Err("only a-z, 0-9 and hyphens are allowed")
        }
        _ => Ok(()),
    }
}

/// A VPS name is a label that can't be mistaken for a VPS id.
fn check_vps_name(text: &str) -> Result<(), &'static str> {
    check_label(text)?;
    match uuid::Uuid::try_parse(text) {
        Ok(_) => Err("it has the form of an id"),
        Err(_) => Ok(()),
    }
}

/// A file name without special characters, also used for directories of the pool.
fn check_file_name(text: &str) -> Result<(), &'static str> {
    match text.as_bytes() {
        [] => Err("it is empty"),
        bytes if bytes.len() > 63 => Err("it is longer than 63 characters"),
        [first, ..] if !first.is_ascii_lowercase() && !first.is_ascii_digit() => {
            Err("it must begin with a-z or 0-9")
        }
        bytes
            if !bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')) =>
        {
            Err("only a-z, 0-9, hyphens, underscores and dots are allowed")
        }
        _ => Ok(()),
    }
}

/// An alias is a file name that can't be mistaken for the start of a fingerprint.
fn check_alias(text: &str) -> Result<(), &'static str> {
    check_file_name(text)?;
    match text.len() >= Fingerprint::SHORTEST_PREFIX && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Err("it has the form of a fingerprint"),
        false => Ok(()),
    }
}

/// The name of a network interface, as `dev_valid_name()` of the kernel allows, but without
/// characters that need quoting.
fn check_interface(text: &str) -> Result<(), &'static str> {
    match text.as_bytes() {
        [] => Err("it is empty"),
        bytes if bytes.len() > 15 => Err("it is longer than 15 characters, the kernel's limit"),
        b"." | b".." => Err("it is a directory"),
        bytes if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) => {
            Err("only letters, digits, hyphens, underscores and dots are allowed")
        }
        _ => Ok(()),
    }
}

macro_rules! name_types {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $check:path;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(rule) => Err(NameError { kind: $kind, text: text.chars().take(80).collect(), rule }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

name_types! {
    /// The name of a VPS: an RFC 1123 label, unique on its host. It may change; the id never does.
    VpsName, "VPS name", check_vps_name;
    /// The name of a snapshot, unique among those of its VPS.
    SnapshotName, "snapshot name", check_file_name;
    /// The name of an image. It points to one image, and can be changed to point to another.
    ImageAlias, "image alias", check_alias;
    /// The name of a profile.
    ProfileName, "profile name", check_label;
    /// The name of a network.
    NetworkName, "network name", check_label;
    /// The name of a storage pool.
    PoolName, "pool name", check_label;
    /// The name of a tenant, which owns VPSes.
    TenantName, "tenant name", check_label;
    /// The name of a client of the API.
    ClientName, "client name", check_label;
    /// The name of a network interface, at most 15 characters.
    InterfaceName, "interface name", check_interface;
}

/// How a person refers to an image: by alias, by fingerprint, or by the first digits of a
/// fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRef {
    /// An alias.
    Alias(ImageAlias),
    /// Twelve or more hexadecimal digits, in lower case, with which a fingerprint begins.
    Prefix(String),
}

impl FromStr for ImageRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        match hex && (Fingerprint::SHORTEST_PREFIX..=64).contains(&text.len()) {
            true => Ok(Self::Prefix(text.to_ascii_lowercase())),
            false => text.parse().map(Self::Alias),
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias(alias) => alias.fmt(f),
            Self::Prefix(prefix) => f.pad(prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vps_names_are_labels() {
        let cases = [
            ("web1", true),
            ("a", true),
            ("a-b-c", true),
            (&*"a".repeat(63), true),
            ("", false),
            ("1web", false),
            ("-web", false),
            ("web-", false),
            ("Web", false),
            ("we b", false),
            ("../etc", false),
            ("web\0", false),
            ("wеb", false), // a Cyrillic letter
            (&*"a".repeat(64), false),
            ("a1b2c3d4-0000-7000-8000-000000000000", false),
        ];
        for (text, valid) in cases {
            assert_eq!(text.parse::<VpsName>().is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn file_names_never_leave_their_directory() {
        for text in [".", "..", "a/b", ".hidden", "", "A", "a b", "a\n"] {
            assert!(text.parse::<SnapshotName>().is_err(), "{text:?}");
        }
        for text in ["daily-1", "2026-11-23", "a.b_c"] {
            assert!(text.parse::<SnapshotName>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn an_image_is_named_by_alias_or_fingerprint() {
        assert!(matches!("debian-12".parse(), Ok(ImageRef::Alias(_))));
        assert!(matches!("0123456789AB".parse(), Ok(ImageRef::Prefix(p)) if p == "0123456789ab"));
        assert!("0123456789ab".parse::<ImageAlias>().is_err());
        assert!(matches!("cafe".parse(), Ok(ImageRef::Alias(_))));
    }

    #[test]
    fn an_error_says_what_and_why() {
        let error = "Web".parse::<VpsName>().unwrap_err();
        assert_eq!(error.to_string(), r#"invalid VPS name "Web": it must begin with a letter a-z"#);
    }

    #[test]
    fn json_is_checked_like_text() {
        assert!(serde_json::from_str::<VpsName>(r#""web1""#).is_ok());
        assert!(serde_json::from_str::<VpsName>(r#""../x""#).is_err());
    }
}
