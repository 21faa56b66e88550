//! What the iSCSI Boot Firmware Table says about interfaces (`ip=ibft`, `rd.iscsi.ibft`), as the arguments that dracut's
//! `ibft_to_cmdline` (net-lib.sh) makes of it. Pure; who reads the files is [`crate::config::firmware`].
//!
//! Two things are otherwise. An interface is named by its Ethernet address, and so keeps its name, unless it has a VLAN,
//! which needs one. And the address then belongs to the VLAN, as for NetworkManager (nmi-ibft-reader.c); dracut gives it
//! to the interface below.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Mac, Which, field,
    ip::{self, Argument},
    names, show,
};
use crate::config::cmdline::CommandLine;

/// One interface in the table: a directory `/sys/firmware/ibft/ethernetN` (drivers/firmware/iscsi_ibft.c).
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The name of the directory.
    pub name: String,
    /// Its files, without white space at the ends.
    pub values: BTreeMap<String, String>,
    /// What the kernel calls the interface now, if it is there.
    pub interfaces: Vec<String>,
}

/// Flags of a block (iBFT specification, table of the NIC structure): it is valid, and the firmware has booted by it.
const VALID: u32 = 1;
const SELECTED: u32 = 2;
/// Origin of the address: DHCP (the same values as in Windows' NL_PREFIX_ORIGIN).
const BY_DHCP: &str = "3";

/// The arguments that the table adds to `line`, and one sentence for each block that can't be used. None if `line` does
/// not want the table, or dracut has written what is in it to /etc/cmdline.d already.
pub fn arguments(line: &CommandLine, blocks: &[Block]) -> (Vec<(&'static str, String)>, Vec<String>) {
    let (mut words, mut problems) = (Vec::new(), Vec::new());
    let wanted = wanted(line);
    if wanted.is_empty() || line.values("ip").any(|value| value.split([':', '[', ']']).any(is_dracuts)) {
        return (words, problems);
    }
    let usable = usable(line, blocks);
    for block in &usable {
        let is_it = |which: &Which| match which {
            Which::Named(name) => block.interfaces.contains(name) || block.interfaces.is_empty() && usable.len() == 1,
            Which::Mac(mac) => block.mac() == Some(*mac),
            Which::Every | Which::First => true,
        };
        if wanted.iter().any(is_it) {
            match block.arguments(line) {
                Ok(more) => words.extend(more),
                Err(reason) => problems.push(format!("/sys/firmware/ibft/{}: {reason}", block.name)),
            }
        }
    }
    (words, problems)
}

/// The interfaces that are to be configured as the table says.
fn wanted(line: &CommandLine) -> Vec<Which> {
    let arguments = line.values("ip").filter_map(|value| ip::parse(value, line, &mut Vec::new()).ok());
    let mut wanted: Vec<Which> =
        arguments.filter_map(|it| if let Argument::Ibft(which) = it { Some(which) } else { None }).collect();
    wanted.extend(line.flag("rd.iscsi.ibft", false).then_some(Which::Every));
    wanted
}

/// dracut calls the interfaces in the table ibft0, ibft1, ….
fn is_dracuts(name: &str) -> bool {
    name.strip_prefix("ibft").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Without `rd.iscsi.mp`, those by which the machine was booted.
fn usable<'a>(line: &CommandLine, blocks: &'a [Block]) -> Vec<&'a Block> {
    let needed = if line.flag("rd.iscsi.mp", false) { VALID } else { VALID | SELECTED };
    let flags = |block: &Block| block.value("flags").and_then(field::number).unwrap_or(0);
    blocks.iter().filter(|block| block.mac().is_some() && flags(block) & needed == needed).collect()
}

impl Block {
    fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn mac(&self) -> Option<Mac> {
        self.value("mac").and_then(|text| field::mac(text).ok())
    }

    /// One that is not all zeros, which stands for none.
    fn address(&self, key: &str) -> Option<IpAddr> {
        self.value(key).and_then(|text| text.parse().ok()).filter(|address: &IpAddr| !address.is_unspecified())
    }

    fn arguments(&self, line: &CommandLine) -> Result<Vec<(&'static str, String)>, String> {
        let mac = self.mac().ok_or("it has no MAC address")?;
        let mut words = Vec::new();
        let interface = match self.value("vlan").and_then(field::number) {
            None | Some(0) => show::show_mac(&mac).replace(':', "-"),
            Some(id) => {
                let named = line.values("ifname").filter_map(|value| names::ifname(value).ok());
                let named = named.into_iter().find(|(_, other)| *other == mac).map(|(name, _)| name);
                let parent = named.unwrap_or_else(|| {
                    let name = format!("ibft{}", self.name.trim_start_matches("ethernet"));
                    words.push(("ifname", format!("{name}:{}", show::show_mac(&mac))));
                    name
                });
                words.push(("vlan", format!("{parent}.{id}:{parent}")));
                format!("{parent}.{id}")
            }
        };
        let own = self.address("ip-addr");
        if self.address("dhcp").is_some() || self.value("origin") == Some(BY_DHCP) {
            let method = if own.is_some_and(|address| address.is_ipv6()) { "dhcp6" } else { "dhcp" };
            words.push(("ip", format!("{interface}:{method}")));
            return Ok(words);
        }
        let own = own.ok_or("it has neither an address nor DHCP; write ip= in its place")?;
        // The kernel writes a mask for IPv6 too, which is none.
        let mask = if own.is_ipv4() { self.value("subnet-mask") } else { None };
        let mask = mask.or_else(|| self.value("prefix-len")).or(own.is_ipv6().then_some("128"));
        let mask = mask.ok_or("it has an address without netmask; write ip= in its place")?;
        let gateway = self.address("gateway").map(bracketed).unwrap_or_default();
        let host = self.value("hostname").filter(|name| field::host(name).is_ok()).unwrap_or_default();
        let servers = ["primary-dns", "secondary-dns"].map(|key| self.address(key));
        let servers: String = servers.into_iter().flatten().map(|server| format!(":{}", bracketed(server))).collect();
        words.push(("ip", format!("{}::{gateway}:{mask}:{host}:{interface}:none{servers}", bracketed(own))));
        Ok(words)
    }
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::NetworkConfig;

    /// `ethernetN` with these files, each `key=value`.
    fn block(number: u32, values: &str) -> Block {
        let values = values.split(' ').map(|it| it.split_once('=').unwrap());
        let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Block { name: format!("ethernet{number}"), values, interfaces: vec![format!("ens{number}")] }
    }

    fn shown(line: &str, blocks: &[Block]) -> (String, Vec<String>) {
        let mut line = CommandLine::parse(line);
        let (words, mut problems) = arguments(&line, blocks);
        words.into_iter().for_each(|(key, value)| line.add(key, value));
        let (config, more) = NetworkConfig::parse(&line);
        problems.extend(more);
        (config.lines().join("; "), problems)
    }

    const STATIC: &str = "mac=00:11:25:9d:8b:01 vlan=0 gateway=192.0.2.1 origin=0 subnet-mask=255.255.255.0 \
        ip-addr=192.0.2.7 flags=7 index=0 primary-dns=192.0.2.53 secondary-dns=0.0.0.0 hostname=box";

    #[test]
    fn blocks_are_arguments() {
        for (line, values, expected) in [
            (
                "ip=ibft",
                STATIC.to_owned(),
                "00:11:25:9d:8b:01: 192.0.2.7/24 gateway 192.0.2.1, host name box, name server 192.0.2.53",
            ),
            ("rd.iscsi.ibft", "mac=00:11:25:9d:8b:01 flags=3 dhcp=192.0.2.1".to_owned(), "00:11:25:9d:8b:01: DHCP"),
            ("rd.iscsi.ibft=0", "mac=00:11:25:9d:8b:01 flags=3 origin=3".to_owned(), "every Ethernet interface: DHCP"),
            (
                "ip=ens0:ibft",
                "mac=00:11:25:9d:8b:01 flags=3 origin=3 dhcp=0.0.0.0".to_owned(),
                "00:11:25:9d:8b:01: DHCP",
            ),
            (
                "ip=:::::00-11-25-9d-8b-01:ibft",
                "mac=00:11:25:9d:8b:01 flags=3 origin=3 ip-addr=2001:db8::7".to_owned(),
                "00:11:25:9d:8b:01: DHCPv6",
            ),
            (
                "ip=ibft",
                "mac=00:11:25:9d:8b:01 flags=3 origin=0 ip-addr=2001:db8::7 prefix-len=64 gateway=fe80::1 \
                 subnet-mask=0.0.0.0 primary-dns=2001:db8::53"
                    .to_owned(),
                "00:11:25:9d:8b:01: 2001:db8::7/64 gateway fe80::1, name server 2001:db8::53",
            ),
            (
                "ip=ibft",
                STATIC.replace("vlan=0", "vlan=5").replace(" primary-dns=192.0.2.53", ""),
                "ibft0: the name of 00:11:25:9d:8b:01; ibft0.5: VLAN 5 on ibft0; \
                 ibft0.5: 192.0.2.7/24 gateway 192.0.2.1, host name box",
            ),
        ] {
            let (lines, problems) = shown(line, &[block(0, &values)]);
            assert_eq!((lines.as_str(), problems), (expected, Vec::new()), "{line} {values}");
        }
    }

    #[test]
    fn a_vlan_takes_the_name_that_the_interface_is_given() {
        let values = STATIC.replace("vlan=0", "vlan=5");
        let (lines, _) = shown("ip=ibft ifname=lan0:00:11:25:9d:8b:01", &[block(0, &values)]);
        assert!(lines.contains("lan0.5: VLAN 5 on lan0") && !lines.contains("ibft0"), "{lines}");
    }

    #[test]
    fn those_that_the_machine_was_booted_by() {
        let blocks = [
            block(0, "mac=00:11:25:9d:8b:01 flags=3 origin=3"),
            block(1, "mac=00:11:25:9d:8b:02 flags=1 origin=3"),
            block(2, "mac=00:11:25:9d:8b:03 flags=2 origin=3"),
            block(3, "flags=3 origin=3"),
        ];
        for (line, expected) in [
            ("ip=ibft", "00:11:25:9d:8b:01: DHCP"),
            ("ip=ibft rd.iscsi.mp=1", "00:11:25:9d:8b:01: DHCP; 00:11:25:9d:8b:02: DHCP"),
            ("ip=ens1:ibft rd.iscsi.mp", "00:11:25:9d:8b:02: DHCP"),
            // dracut has read the table.
            ("ip=ibft ip=ibft0:dhcp", "ibft0: DHCP"),
        ] {
            let (lines, problems) = shown(line, &blocks);
            assert_eq!(
                (lines.split("; 00:11:25:9d:8b:01 is preferred").next().unwrap(), problems),
                (expected, Vec::new()),
                "{line}"
            );
        }
    }

    #[test]
    fn what_can_not_be_used_is_told_and_the_default_counts() {
        for (values, told) in [
            ("mac=00:11:25:9d:8b:01 flags=3 origin=0 ip-addr=0.0.0.0", "neither an address nor DHCP"),
            ("mac=00:11:25:9d:8b:01 flags=3 origin=0 ip-addr=192.0.2.7", "without netmask"),
        ] {
            let (lines, problems) = shown("ip=ibft", &[block(0, values)]);
            assert_eq!(lines, "every Ethernet interface: DHCP");
            assert!(
                problems[0].starts_with("/sys/firmware/ibft/ethernet0: ") && problems[0].contains(told),
                "{problems:?}"
            );
        }
        let (lines, problems) = shown("ip=ibft", &[]);
        assert_eq!((lines.as_str(), problems.len()), ("every Ethernet interface: DHCP", 2));
    }

    #[test]
    fn nonsense_of_the_firmware_is_survived() {
        let (lines, problems) = shown("ip=ibft", &[block(0, &STATIC.replace("vlan=0", "vlan=9999"))]);
        assert!(problems.iter().any(|it| it.contains("9999 is no VLAN number")), "{lines} {problems:?}");
        let (lines, _) = shown("ip=ibft", &[block(0, &STATIC.replace("hostname=box", "hostname=a:b"))]);
        assert!(!lines.contains("a:b"), "{lines}");
    }
}
