//! Labels: what clients note about a VPS.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Keys and values that clients attach to a VPS. They mean nothing to Insula.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

/// Why labels are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid label {key:?}: {rule}")]
pub struct LabelError {
    /// The key that is refused, or whose value is, cut to 80 characters.
    pub key: String,
    /// The rule that was broken.
    pub rule: &'static str,
}

impl Labels {
    /// The most labels that one VPS may have.
    pub const MOST: usize = 64;

    /// The value of a key, if there is one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All labels, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

fn check(key: &str, value: &str) -> Result<(), &'static str> {
    let is_plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b'/');
    match key.len() {
        0 => Err("the key is empty"),
        64.. => Err("the key is longer than 63 characters"),
        _ if !key.bytes().all(is_plain) => {
            Err("only a-z, 0-9, hyphens, underscores, dots and slashes are allowed in a key")
        }
        _ if value.chars().count() > 255 => Err("the value is longer than 255 characters"),
        _ if value.contains(char::is_control) => Err("control characters are not allowed in a value"),
        _ => Ok(()),
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = LabelError;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, LabelError> {
        let wrong = |key: &str, rule| LabelError { key: key.chars().take(80).collect(), rule };
        if let Some(key) = labels.keys().nth(Self::MOST) {
            return Err(wrong(key, "there are more than 64 labels"));
        }
        match labels.iter().find_map(|(key, value)| check(key, value).err().map(|rule| wrong(key, rule))) {
            Some(error) => Err(error),
            None => Ok(Self(labels)),
        }
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, LabelError> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>().try_into()
    }

    #[test]
    fn keys_are_plain_and_values_are_short() {
        assert_eq!(
            labels(&[("whmcs/service", "4711"), ("env", "")]).unwrap().get("whmcs/service"),
            Some("4711")
        );
        let long = "é".repeat(256);
        for (key, value) in
            [("", "x"), ("Env", "x"), ("a b", "x"), ("a", "x\n"), ("a", &long), ("а", "Cyrillic")]
        {
            assert!(labels(&[(key, value)]).is_err(), "{key:?} {value:?}");
        }
        let many: Vec<String> = (0..65).map(|n| format!("k{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (&**key, "v")).collect();
        assert!(labels(&many).is_err() && labels(&many[..64]).is_ok());
    }
}
