//! `vlan=`, `bond=`, `bridge=`, `team=`. Pure.

use super::{Made, MadeKind, bond, field};

/// `vlan=VLANNAME:PHYDEVICE` (parse-vlan.sh). The number is in the name, in one of the kernel's four styles
/// (`register_vlan_device` in net/8021q/vlan.c): vlan0005, vlan5, eth0.0005, eth0.5.
pub fn vlan(value: &str) -> Result<Made, String> {
    let Some((name, parent)) = value.split_once(':').filter(|(_, parent)| !parent.contains(':')) else {
        return Err("it needs two fields; write vlan=eth0.5:eth0".to_owned());
    };
    let name = field::name(name).map_err(|reason| format!("field 1 (VLANNAME): {reason}"))?;
    let parent = field::name(parent).map_err(|reason| format!("field 2 (PHYDEVICE): {reason}"))?;
    // `get_vid` in ifup.sh, but decimal with leading zeros too, as the kernel writes them: ip(8) takes those for octal.
    let digits = name.strip_prefix("vlan").or_else(|| name.rsplit_once('.').map(|(_, digits)| digits));
    let id = digits.filter(|digits| !digits.is_empty()).and_then(field::number).map(vlan_id).transpose();
    let id = id.map_err(|reason| format!("field 1 (VLANNAME): {reason}"))?.ok_or_else(|| {
        format!("field 1 (VLANNAME): “{name}” has no VLAN number; write vlan5, vlan0005, {parent}.5 or {parent}.0005")
    })?;
    Ok(Made { name, kind: MadeKind::Vlan { parent, id } })
}

/// 4095 is reserved (IEEE 802.1Q), and the kernel refuses it.
pub fn vlan_id(number: u32) -> Result<u16, String> {
    match number {
        0..=4094 => Ok(number as u16),
        _ => Err(format!("{number} is no VLAN number; write one from 0 to 4094")),
    }
}

/// `bond=[BONDNAME[:SLAVES[:OPTIONS[:MTU]]]]` (parse-bond.sh). `notes` are about options that are left out.
pub fn bond(value: &str, notes: &mut Vec<String>) -> Result<Made, String> {
    let fields: Vec<&str> = value.split(':').collect();
    if fields.len() > 4 {
        return Err(format!("it has {} fields; write bond=NAME:SLAVE,SLAVE:OPTION=VALUE,…:MTU", fields.len()));
    }
    let field = |number: usize, otherwise| match fields.get(number - 1) {
        None | Some(&"") => otherwise,
        Some(text) => *text,
    };
    let name = field::name(field(1, "bond0")).map_err(|reason| format!("field 1 (BONDNAME): {reason}"))?;
    let slaves = field::names(field(2, "eth0,eth1")).map_err(|reason| format!("field 2 (SLAVES): {reason}"))?;
    let mut left_out = Vec::new();
    let options = bond::options(field(3, ""), &slaves, &mut left_out);
    notes.extend(left_out.into_iter().map(|reason| format!("field 3 (OPTIONS): {reason}")));
    let mtu = match field(4, "") {
        "" => None,
        text => {
            field::mtu(text).map_err(|reason| notes.push(format!("field 4 (MTU): {reason}; the rest is used"))).ok()
        }
    };
    Ok(Made { name, kind: MadeKind::Bond { slaves, options, mtu } })
}

/// `bridge=[BRIDGENAME:ETHNAMES]` (parse-bridge.sh)
pub fn bridge(value: &str) -> Result<Made, String> {
    let value = if value.is_empty() { "br0:eth0" } else { value };
    let Some((name, ports)) = value.split_once(':').filter(|(_, ports)| !ports.contains(':')) else {
        return Err("it needs two fields; write bridge=br0:eth0,eth1".to_owned());
    };
    let name = field::name(name).map_err(|reason| format!("field 1 (BRIDGENAME): {reason}"))?;
    let ports = field::names(ports).map_err(|reason| format!("field 2 (ETHNAMES): {reason}"))?;
    Ok(Made { name, kind: MadeKind::Bridge { ports } })
}

/// Team devices are run by a program of their own (teamd), which vestibule doesn't have.
pub fn team(value: &str) -> String {
    let mut fields = value.split(':').filter(|field| !field.is_empty());
    let (name, slaves) = (fields.next().unwrap_or("team0"), fields.next().unwrap_or("eth0,eth1"));
    let mode = match fields.next() {
        Some("roundrobin") => "balance-rr",
        Some("loadbalance") => "balance-xor",
        Some("broadcast") => "broadcast",
        Some("lacp") => "802.3ad",
        _ => "active-backup",
    };
    format!("teams are not supported; write bond={name}:{slaves}:mode={mode}")
}
