//! Version 5: what depends on where a VPS lives becomes a part of its own, which names the host.

use insula_types::HostId;
use rusqlite::{Connection, params};
use serde_json::{Map, Value, json};

use crate::column::from_json;

/// Gives every VPS a placement that says it has always lived on this host.
pub(super) fn place_vpses(db: &Connection, host: HostId) -> rusqlite::Result<()> {
    let mut all = db.prepare("SELECT id, spec FROM vps")?;
    let mut rewrite = db.prepare("UPDATE vps SET spec = ?2 WHERE id = ?1")?;
    let specs = all
        .query_map([], |row| Ok((row.get("id")?, from_json(row, "spec")?)))?
        .collect::<rusqlite::Result<Vec<(String, Value)>>>()?;
    for (id, mut spec) in specs {
        place(&mut spec, host);
        rewrite.execute(params![id, spec.to_string()])?;
    }
    Ok(())
}

/// Parts that are missing or malformed stay as they are. Reading such a VPS fails later, with an
/// error that names it.
fn place(spec: &mut Value, host: HostId) {
    let Some(spec) = spec.as_object_mut() else { return };
    let mut addresses = Map::new();
    for nic in spec.get_mut("nics").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(nic) = nic.as_object_mut() else { continue };
        let name = nic.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        // Before interfaces recorded this themselves, the first one had the default route and was
        // always called `eth0`.
        if nic.get("default_route").is_none_or(Value::is_null) {
            nic.insert("default_route".to_owned(), (name == "eth0").into());
        }
        addresses.extend(nic.remove("addresses").map(|addresses| (name, addresses)));
    }
    let mut placement = json!({ "host_id": host, "epoch": 1, "addresses": addresses });
    for key in ["pool", "ids"] {
        placement[key] = spec.remove(key).unwrap_or_default();
    }
    spec.insert("placement".to_owned(), placement);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::to_json;
    use crate::samples::vps;
    use insula_types::VpsSpec;

    #[test]
    fn a_flat_spec_becomes_identity_and_place() {
        let mut expected = vps("web1", "10.90.4.2", 65_536);
        let second = insula_types::Nic {
            name: "eth1".parse().unwrap(),
            default_route: false,
            ..expected.nics[0].clone()
        };
        expected.nics.push(second);
        expected.placement.addresses.insert("eth1".parse().unwrap(), vec!["10.90.9.2".parse().unwrap()]);
        let mut old: Value = serde_json::from_str(&to_json(&expected)).unwrap();
        let placement = old.as_object_mut().unwrap().remove("placement").unwrap();
        old["pool"] = placement["pool"].clone();
        old["ids"] = placement["ids"].clone();
        for (index, name) in ["eth0", "eth1"].into_iter().enumerate() {
            old["nics"][index]["addresses"] = placement["addresses"][name].clone();
            old["nics"][index].as_object_mut().unwrap().remove("default_route"); // as in the oldest rows
        }
        assert!(
            serde_json::from_value::<VpsSpec>(old.clone()).is_err(),
            "no agent takes it for a placed one"
        );
        place(&mut old, expected.placement.host_id);
        assert_eq!(serde_json::from_value::<VpsSpec>(old).unwrap(), expected);
    }
}
