//! The name by which the firewall knows its own tables.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The name of our tables: `insula`, or `insula_` followed by lower-case letters, digits and
/// underscores. So no setting can make the agent replace a table of others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TableName(String);

/// The text is not a name for our tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid nftables table {0:?}: expected insula, or insula_ and lower-case letters, digits and underscores"
)]
pub struct TableNameError(String);

impl TableName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        const LONGEST: usize = 31; // NFT_TABLE_MAXNAMELEN of kernels before 4.14
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_valid = (text == "insula" || text.starts_with("insula_"))
            && text.len() <= LONGEST
            && text.chars().all(allowed);
        is_valid.then(|| Self(text.to_owned())).ok_or_else(|| TableNameError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for TableName {
    type Error = TableNameError;

    fn try_from(text: String) -> Result<Self, TableNameError> {
        text.parse()
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_others_can_not_be_named() {
        for (text, is_valid) in [
            ("insula", true),
            ("insula_b2", true),
            ("insula_", true),
            ("insulab", false),
            ("filter", false),
            ("", false),
            ("insula_B", false),
            ("insula_a { }", false),
            ("insula_a\n", false),
            ("insula_a2345678901234567890123456", false),
        ] {
            assert_eq!(text.parse::<TableName>().is_ok(), is_valid, "{text:?}");
        }
    }
}
