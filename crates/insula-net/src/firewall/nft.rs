//! The program `nft`: transactions go in as text, listings come out as JSON (libnftables-json(5)).

use std::collections::BTreeSet;

use insula_sys::program::{Program, ProgramError};
use serde::Deserialize;
use serde_json::Value;

use super::name::TableName;
use super::terms::FirewallError;

/// Runs all commands as one transaction: all of them take effect, or none.
pub(super) fn run_transaction(what: &'static str, commands: String) -> Result<(), FirewallError> {
    run(what, Program::new("nft").args(["-f", "-"]).input(commands)).map(drop)
}

fn run(what: &'static str, nft: Program) -> Result<Vec<u8>, FirewallError> {
    nft.output().map_err(|source| match source {
        ProgramError::NotFound { .. } => FirewallError::NftMissing { what },
        source => FirewallError::Nft { what, source },
    })
}

/// An object of a listing, with only those fields that are read. Each object is of one kind.
#[derive(Deserialize)]
pub(super) struct Object {
    pub table: Option<Table>,
    pub chain: Option<Chain>,
    pub rule: Option<Rule>,
    pub set: Option<Set>,
}

#[derive(Deserialize)]
pub(super) struct Table {
    pub family: String,
    pub name: String,
}

#[derive(Deserialize)]
pub(super) struct Chain {
    pub family: String,
    pub table: String,
    pub name: String,
    pub hook: Option<String>,
    pub policy: Option<String>,
}

/// A rule. Only its existence matters.
#[derive(Deserialize)]
pub(super) struct Rule {}

#[derive(Deserialize)]
pub(super) struct Set {
    pub name: String,
    #[serde(default)]
    pub elem: Vec<Value>,
}

/// The objects that `nft -j list …` prints.
pub(super) fn list(what: &'static str, arguments: &[&str]) -> Result<Vec<Object>, FirewallError> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Object>,
    }
    let nft = Program::new("nft").args(["-j"].iter().chain(arguments));
    let listing: Listing =
        serde_json::from_slice(&run(what, nft)?).map_err(|source| FirewallError::Output { what, source })?;
    Ok(listing.nftables)
}

/// The tables with our name, by family.
pub(super) fn list_own_tables(
    what: &'static str,
    table: &TableName,
) -> Result<BTreeSet<String>, FirewallError> {
    let tables = list(what, &["list", "tables"])?.into_iter().filter_map(|object| object.table);
    Ok(tables.filter(|found| found.name == table.as_str()).map(|found| found.family).collect())
}

/// The parts of a set's element, as a transaction would write them, but without quotes: an
/// interface's name, an address, or a range as its prefix. `None` for an element in a form that we
/// do not write.
pub(super) fn element_parts(element: &Value) -> Option<Vec<String>> {
    match element.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().map(element_part).collect(),
        None => Some(vec![element_part(element)?]),
    }
}

fn element_part(part: &Value) -> Option<String> {
    if let Some(prefix) = part.get("prefix") {
        return Some(format!("{}/{}", prefix.get("addr")?.as_str()?, prefix.get("len")?.as_u64()?));
    }
    part.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_are_read_as_they_are_written() {
        let prefix = json!({"prefix": {"addr": "10.64.3.0", "len": 24}});
        for (element, parts) in [
            (json!("ins0000000000aa"), Some(vec!["ins0000000000aa"])),
            (prefix.clone(), Some(vec!["10.64.3.0/24"])),
            (json!({"concat": [prefix, "10.64.3.9"]}), Some(vec!["10.64.3.0/24", "10.64.3.9"])),
            (json!({"range": ["10.64.3.0", "10.64.3.9"]}), None),
            (json!({"concat": ["ins0000000000aa", {"set": []}]}), None),
        ] {
            let expected: Option<Vec<String>> =
                parts.map(|parts| parts.into_iter().map(str::to_owned).collect());
            assert_eq!(element_parts(&element), expected, "{element}");
        }
    }
}
