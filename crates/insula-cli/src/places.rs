//! Paths in VPSes, as they are typed: `NAME/PATH`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// A path in a VPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlace {
    /// A VPS, by name or id.
    pub vps: String,
    /// Absolute. Any bytes but NUL.
    pub path: Vec<u8>,
}

/// `NAME/PATH`, which need not be text.
pub fn parse_place() -> impl clap::builder::TypedValueParser<Value = FilePlace> {
    use clap::builder::{OsStringValueParser, TypedValueParser as _};
    OsStringValueParser::new().try_map(|text: OsString| split_place(text.as_bytes()))
}

fn split_place(text: &[u8]) -> Result<FilePlace, String> {
    let expected = || "expected the name of a VPS and a path in it, such as web1/etc/motd".to_owned();
    let slash = text.iter().position(|byte| *byte == b'/').filter(|at| *at > 0).ok_or_else(expected)?;
    let (vps, path) = text.split_at(slash);
    let vps = str::from_utf8(vps).map_err(|_| expected())?.to_owned();
    Ok(FilePlace { vps, path: path.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_vps_and_a_path() {
        let place = |vps: &str, path: &[u8]| Ok(FilePlace { vps: vps.into(), path: path.into() });
        assert_eq!(split_place(b"web1/etc/motd"), place("web1", b"/etc/motd"));
        assert_eq!(split_place(b"web1/"), place("web1", b"/"));
        assert_eq!(split_place(b"web1//a\xff"), place("web1", b"//a\xff"));
        for bad in [&b"web1"[..], b"/etc/motd", b"", b"/", b"\xff/etc"] {
            assert!(split_place(bad).is_err());
        }
    }
}
