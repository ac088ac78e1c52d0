//! Numbers of CPUs, as people write them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of CPUs, in thousandths: `CpuCount(1500)` is one and a half.
///
/// Serialized as the text that people write, such as `1.5`. Read from such a text or from a whole
/// number of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "String")]
pub struct CpuCount(pub u32);

/// The forms that a number of CPUs can have in a file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of CPUs such as 2 or \"0.5\"")]
enum NumberOrText {
    Number(u32),
    Fraction(f64),
    Text(String),
}

impl TryFrom<NumberOrText> for CpuCount {
    type Error = CpuCountError;

    fn try_from(value: NumberOrText) -> Result<Self, CpuCountError> {
        match value {
            NumberOrText::Number(count) => count.to_string().parse(),
            NumberOrText::Fraction(count) => count.to_string().parse(),
            NumberOrText::Text(text) => text.parse(),
        }
    }
}

impl From<CpuCount> for String {
    fn from(count: CpuCount) -> String {
        count.to_string()
    }
}

impl CpuCount {
    /// The number in thousandths of a CPU.
    pub const fn milli(self) -> u32 {
        self.0
    }
}

impl FromStr for CpuCount {
    type Err = CpuCountError;

    fn from_str(text: &str) -> Result<Self, CpuCountError> {
        let error = || CpuCountError(text.chars().take(40).collect());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
            return Err(error());
        }
        let whole: u32 = whole.parse().map_err(|_| error())?;
        let milli: u32 = format!("{fraction:0<3}").parse().map_err(|_| error())?;
        whole.checked_mul(1000).and_then(|w| w.checked_add(milli)).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for CpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The text is not a number of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid number of CPUs {0:?}: expected a number with up to three decimals, such as 2 or 0.5")]
pub struct CpuCountError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_in_thousandths() {
        let cases = [
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("1.25", Some(1250)),
            ("1.2345", None),
            ("", None),
            (".5", None),
            ("1.", None),
            ("-1", None),
            ("9999999", None),
        ];
        for (text, milli) in cases {
            assert_eq!(text.parse().ok(), milli.map(CpuCount), "{text:?}");
        }
        assert_eq!(CpuCount(1500).to_string(), "1.5");
        assert_eq!(CpuCount(10_000).to_string(), "10");
    }
}
