//! Options of a bond, as in `modinfo bonding` and the kernel's Documentation/networking/bonding.rst. Pure.
//!
//! The kernel refuses a bond as a whole if it doesn't like one of the options, so what it would not like (bond_netlink.c,
//! bond_options.c) is left out here, and told.

use std::{
    fmt::{self, Display, Formatter},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{BondMode, BondNumber, BondOptions, field, show::show_mac};

/// Milliseconds between two looks at the carrier of the slaves, where nobody says how a dead one is found. The kernel
/// would not look at all in the modes that leave it the choice. NetworkManager's default (nm-settings(5)), and the
/// kernel's for the others.
const MIIMON: u32 = 100;

/// `IFLA_BOND_*` of linux/if_link.h that decide about others.
mod attribute {
    pub const MIIMON: u16 = 3;
    pub const UPDELAY: u16 = 4;
    pub const DOWNDELAY: u16 = 5;
    pub const ARP_INTERVAL: u16 = 7;
    pub const ARP_VALIDATE: u16 = 9;
    pub const PEER_NOTIF_DELAY: u16 = 28;
}

/// An option that is a number for netlink.
struct Numeric {
    name: &'static str,
    attribute: u16,
    width: fn(u32) -> BondNumber,
    values: Values,
    /// The modes in which the kernel takes it, a bit for each.
    modes: u8,
}

enum Values {
    Range(u32, u32),
    /// Each stands for its place; the place itself is understood too.
    Words(&'static [&'static str]),
}

const U8: fn(u32) -> BondNumber = |number| BondNumber::U8(number as u8);
const U16: fn(u32) -> BondNumber = |number| BondNumber::U16(number as u16);
const U32: fn(u32) -> BondNumber = BondNumber::U32;

const ANY: u8 = 0x7f;
const RR: u8 = 1 << BondMode::BalanceRr as u8;
const LACP: u8 = 1 << BondMode::Ieee8023ad as u8;
const BALANCED: u8 = 1 << BondMode::BalanceTlb as u8 | 1 << BondMode::BalanceAlb as u8;
const ARP: u8 = ANY & !LACP & !BALANCED;
const ONE_ACTIVE: u8 = 1 << BondMode::ActiveBackup as u8 | BALANCED;

/// INT_MAX
const MOST: u32 = i32::MAX as u32;
const COUNT: Values = Values::Range(0, MOST);
const BYTE: Values = Values::Range(0, 255);
const SWITCH: Values = Values::Words(&["off", "on"]);
const ARP_VALIDATE: Values =
    Values::Words(&["none", "active", "backup", "all", "filter", "filter_active", "filter_backup"]);
const HASH: Values = Values::Words(&["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"]);

const MODES: [(&str, BondMode); 7] = [
    ("balance-rr", BondMode::BalanceRr),
    ("active-backup", BondMode::ActiveBackup),
    ("balance-xor", BondMode::BalanceXor),
    ("broadcast", BondMode::Broadcast),
    ("802.3ad", BondMode::Ieee8023ad),
    ("balance-tlb", BondMode::BalanceTlb),
    ("balance-alb", BondMode::BalanceAlb),
];

const fn numeric(
    name: &'static str,
    attribute: u16,
    width: fn(u32) -> BondNumber,
    values: Values,
    modes: u8,
) -> Numeric {
    Numeric { name, attribute, width, values, modes }
}

/// Numbers of linux/if_link.h, widths of `bond_policy`, values and modes of `bond_opts`.
const NUMERIC: [Numeric; 26] = [
    numeric("miimon", attribute::MIIMON, U32, COUNT, ANY),
    numeric("updelay", attribute::UPDELAY, U32, COUNT, ANY),
    numeric("downdelay", attribute::DOWNDELAY, U32, COUNT, ANY),
    numeric("arp_interval", attribute::ARP_INTERVAL, U32, COUNT, ARP),
    numeric("arp_validate", attribute::ARP_VALIDATE, U32, ARP_VALIDATE, ARP),
    numeric("arp_all_targets", 10, U32, Values::Words(&["any", "all"]), ANY),
    numeric("primary_reselect", 12, U8, Values::Words(&["always", "better", "failure"]), ANY),
    numeric("fail_over_mac", 13, U8, Values::Words(&["none", "active", "follow"]), ANY),
    numeric("xmit_hash_policy", 14, U8, HASH, ANY),
    numeric("resend_igmp", 15, U32, BYTE, ANY),
    numeric("num_grat_arp", 16, U8, BYTE, ANY),
    numeric("num_unsol_na", 16, U8, BYTE, ANY), // the same under another name
    numeric("all_slaves_active", 17, U8, SWITCH, ANY),
    numeric("min_links", 18, U32, COUNT, ANY),
    numeric("lp_interval", 19, U32, Values::Range(1, MOST), ANY),
    numeric("packets_per_slave", 20, U32, Values::Range(0, 65535), RR),
    numeric("lacp_rate", 21, U8, Values::Words(&["slow", "fast"]), LACP),
    numeric("ad_select", 22, U8, Values::Words(&["stable", "bandwidth", "count"]), ANY),
    numeric("ad_actor_sys_prio", 24, U16, Values::Range(1, 65535), LACP),
    numeric("ad_user_port_key", 25, U16, Values::Range(0, 1023), LACP),
    numeric("tlb_dynamic_lb", 27, U8, SWITCH, BALANCED),
    numeric("peer_notif_delay", attribute::PEER_NOTIF_DELAY, U32, Values::Range(0, 300_000), ANY),
    numeric("lacp_active", 29, U8, SWITCH, LACP),
    numeric("arp_missed_max", 30, U8, Values::Range(1, 255), ARP),
    numeric("missed_max", 30, U8, Values::Range(1, 255), ARP), // as ip(8) calls it
    numeric("coupled_control", 32, U8, SWITCH, LACP),
];

/// Reads `OPTION=VALUE,…`. `left_out` names each option that is not used, and why; the bond comes up without it.
pub fn options(text: &str, slaves: &[String], left_out: &mut Vec<String>) -> BondOptions {
    let words = || text.split(',').filter(|word| !word.is_empty());
    let pair = |word| str::split_once(word, '=').unwrap_or((word, ""));
    let mut options = BondOptions::default();
    // The mode first, wherever it stands: it decides which others there can be.
    for (_, value) in words().map(pair).filter(|(name, _)| *name == "mode") {
        match mode(value) {
            Ok(mode) => options.mode = mode,
            Err(reason) => left_out.push(format!("{reason}; balance-rr is used")),
        }
    }
    for word in words() {
        let (name, value) = pair(word);
        if let Err(reason) = option(&mut options, slaves, name, value) {
            left_out.push(format!("“{word}” is left out: {reason}"));
        }
    }
    monitoring(&mut options, left_out);
    options
}

fn mode(text: &str) -> Result<BondMode, String> {
    let number = field::number(text).map(|number| number as usize);
    let found = MODES.iter().enumerate().find(|(index, (name, _))| *name == text || number == Some(*index));
    let names = || MODES.map(|(name, _)| name).join(", ");
    found.map(|(_, (_, mode))| *mode).ok_or_else(|| format!("“{text}” is no mode of a bond ({})", names()))
}

fn option(options: &mut BondOptions, slaves: &[String], name: &str, value: &str) -> Result<(), String> {
    let fits = |modes: u8| match modes & 1 << options.mode as u8 {
        0 => Err(format!("mode {} doesn't have it", MODES[options.mode as usize].0)),
        _ => Ok(()),
    };
    match name {
        "mode" => {}
        // The kernel knows no other way any more.
        "use_carrier" if matches!(value, "1" | "on") => {}
        "arp_ip_target" => options.arp_ip_target = targets(value, |text| text.parse::<Ipv4Addr>().ok())?,
        "ns_ip6_target" => options.ns_ip6_target = targets(value, |text| text.parse::<Ipv6Addr>().ok())?,
        "ad_actor_system" => {
            fits(LACP)?;
            options.ad_actor_system = Some(field::mac(value)?);
        }
        "primary" => {
            fits(ONE_ACTIVE)?;
            if !slaves.iter().any(|slave| slave == value) {
                return Err(format!("it is none of the slaves ({})", slaves.join(", ")));
            }
            options.primary = Some(value.to_owned());
        }
        name => {
            let known = NUMERIC.iter().find(|known| known.name == name);
            let known = known.ok_or("no such option, or none that can be given here; see modinfo bonding")?;
            fits(known.modes)?;
            let number = (known.width)(known.values.read(value)?);
            // As when they are written to sysfs one after the other, the last one counts.
            options.numbers.retain(|(attribute, _)| *attribute != known.attribute);
            options.numbers.push((known.attribute, number));
        }
    }
    Ok(())
}

impl Values {
    fn read(&self, text: &str) -> Result<u32, String> {
        let number = field::number(text).filter(|_| !text.is_empty());
        match self {
            Values::Range(least, most) => number
                .filter(|number| (least..=most).contains(&number))
                .ok_or_else(|| format!("write a number from {least} to {most}")),
            Values::Words(words) => words
                .iter()
                .position(|word| *word == text)
                .map(|place| place as u32)
                .or(number.filter(|number| (*number as usize) < words.len()))
                .ok_or_else(|| format!("write one of {}", words.join(", "))),
        }
    }
}

/// Between semicolons, each perhaps with a plus sign as in initscripts.
fn targets<T: Into<IpAddr>>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let one = |part: &str| {
        let bare = part.trim_start_matches('+').trim_start_matches('[').trim_end_matches(']');
        parse(bare).ok_or_else(|| format!("“{part}” is not an address; write ADDRESS;ADDRESS"))
    };
    let all = text.split(';').map(one).collect::<Result<Vec<T>, String>>()?;
    match all.len() <= BondOptions::TARGETS {
        true => Ok(all),
        false => Err(format!("{} targets are too many; {} are possible", all.len(), BondOptions::TARGETS)),
    }
}

/// There is one way to find a dead slave: its carrier (miimon) or answers to ARP.
fn monitoring(options: &mut BondOptions, left_out: &mut Vec<String>) {
    use attribute::{ARP_INTERVAL, ARP_VALIDATE, DOWNDELAY, MIIMON as MII, PEER_NOTIF_DELAY, UPDELAY};
    let mut numbers = std::mem::take(&mut options.numbers);
    let mut drop = |numbers: &mut Vec<(u16, BondNumber)>, attribute: u16, reason: &str| {
        if has(numbers, attribute) {
            let name = NUMERIC.iter().find(|known| known.attribute == attribute).map_or("", |known| known.name);
            left_out.push(format!("“{name}” is left out: {reason}"));
            numbers.retain(|(other, _)| *other != attribute);
        }
    };
    if options.arp_ip_target.is_empty() && options.ns_ip6_target.is_empty() {
        drop(&mut numbers, ARP_INTERVAL, "it needs arp_ip_target");
    }
    if !has(&numbers, ARP_INTERVAL) && !numbers.iter().any(|(attribute, _)| *attribute == MII) {
        numbers.push((MII, BondNumber::U32(MIIMON)));
    }
    if has(&numbers, MII) {
        for attribute in [ARP_INTERVAL, ARP_VALIDATE] {
            drop(&mut numbers, attribute, "the carrier is watched (miimon), and both together are not possible");
        }
    } else {
        for attribute in [UPDELAY, DOWNDELAY, PEER_NOTIF_DELAY] {
            drop(&mut numbers, attribute, "it needs miimon");
        }
    }
    options.numbers = numbers;
}

/// Whether it is there and not zero, which is to say: switched on.
fn has(numbers: &[(u16, BondNumber)], attribute: u16) -> bool {
    let off = [BondNumber::U8(0), BondNumber::U16(0), BondNumber::U32(0)];
    numbers.iter().any(|(other, number)| *other == attribute && !off.contains(number))
}

/// As [`options`] reads them.
impl Display for BondOptions {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "mode={}", MODES[self.mode as usize].0)?;
        for (attribute, number) in &self.numbers {
            let number = match *number {
                BondNumber::U8(number) => number.into(),
                BondNumber::U16(number) => number.into(),
                BondNumber::U32(number) => number,
            };
            let Some(known) = NUMERIC.iter().find(|known| known.attribute == *attribute) else { continue };
            match &known.values {
                Values::Words(words) => write!(f, ",{}={}", known.name, words[number as usize])?,
                Values::Range(..) => write!(f, ",{}={number}", known.name)?,
            }
        }
        let mut list = |name: &str, all: Vec<String>| match all.is_empty() {
            true => Ok(()),
            false => write!(f, ",{name}={}", all.join(";")),
        };
        list("arp_ip_target", self.arp_ip_target.iter().map(ToString::to_string).collect())?;
        list("ns_ip6_target", self.ns_ip6_target.iter().map(ToString::to_string).collect())?;
        list("primary", self.primary.iter().cloned().collect())?;
        list("ad_actor_system", self.ad_actor_system.iter().map(show_mac).collect())
    }
}

#[cfg(test)]
mod tests;
