//! Sizes in bytes, as people write them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of bytes.
///
/// Written as a number with an optional unit. `K M G T P` and `KiB MiB …` are powers of 1024, as in
/// systemd and QEMU. `KB MB …` are powers of 1000 (IEC 80000-13). Fractions are allowed and are
/// rounded down to whole bytes: `1.5G`.
///
/// Serialized as a number of bytes. Read from such a number or from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(bytes) => Ok(Self(bytes)),
            NumberOrText::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// The forms that a size can have in a file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of bytes or a size such as 512M")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size {text:?}: {rule}, such as 512M, 1.5G or 2TB")]
pub struct SizeError {
    text: String,
    rule: &'static str,
}

impl ByteSize {
    /// A size of this many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// A size of this many GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// The factor of a unit. `None` if there is no such unit.
fn unit_factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(&*unit, "" | "b") {
        return Some(1);
    }
    let exponent = 1 + "kmgtp".find(unit.chars().next()?)?;
    let base: u64 = match &unit[1..] {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    base.checked_pow(u32::try_from(exponent).ok()?)
}

/// `number * factor`, rounded down, without the inaccuracy of floating point.
fn scale(number: &str, factor: u64) -> Result<u64, &'static str> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || (number.contains('.') && !digits(fraction)) {
        return Err("expected a number with an optional unit");
    }
    if fraction.len() > 9 {
        return Err("it has too many decimals");
    }
    let too_large = "it is too large";
    let whole: u64 = whole.parse().map_err(|_| too_large)?;
    let part = match fraction {
        "" => 0,
        _ => {
            let numerator: u128 = fraction.parse().map_err(|_| too_large)?;
            numerator * u128::from(factor) / 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(9))
        }
    };
    let part = u64::try_from(part).map_err(|_| too_large)?;
    whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(part)).ok_or(too_large)
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = |rule| SizeError { text: text.chars().take(40).collect(), rule };
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let factor =
            unit_factor(unit.trim()).ok_or_else(|| error("expected a number with an optional unit"))?;
        scale(number, factor).map(Self).map_err(error)
    }
}

impl fmt::Display for ByteSize {
    /// Formats the size in its largest binary unit, with one decimal if it isn't whole: `512MiB`,
    /// `1.5GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut unit = 0;
        while unit + 1 < UNITS.len() && self.0 >> (10 * (unit + 1)) > 0 {
            unit += 1;
        }
        let (whole, rest) = (self.0 >> (10 * unit), self.0 & ((1 << (10 * unit)) - 1));
        let tenth = (u128::from(rest) * 10) >> (10 * unit);
        match tenth {
            0 => f.pad(&format!("{whole}{}", UNITS[unit])),
            _ => f.pad(&format!("{whole}.{tenth}{}", UNITS[unit])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [
            ("0", Some(0)),
            ("512M", Some(512 << 20)),
            ("512MiB", Some(512 << 20)),
            ("512 MiB", Some(512 << 20)),
            ("1.5G", Some(3 << 29)),
            ("2TB", Some(2_000_000_000_000)),
            ("10kb", Some(10_000)),
            ("7b", Some(7)),
            ("", None),
            ("G", None),
            ("-1G", None),
            ("1.G", None),
            (".5G", None),
            ("1e9", None),
            ("1GG", None),
            ("1 2", None),
            ("99999999999999999999", None),
            ("17000000T", None),
            ("1ﬁ", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse().ok(), bytes.map(ByteSize), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_shown_in_binary_units() {
        let cases = [(0, "0B"), (1023, "1023B"), (1 << 20, "1MiB"), (3 << 29, "1.5GiB"), (1 << 30, "1GiB")];
        for (bytes, text) in cases {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = text.parse::<ByteSize>();
        }

        #[test]
        fn what_is_shown_is_within_a_tenth(bytes in 1024_u64..1 << 60) {
            let shown: ByteSize = ByteSize(bytes).to_string().parse().unwrap();
            prop_assert!(shown.0 <= bytes && shown.0 >= bytes - bytes / 10 - 1);
        }
    }
}
