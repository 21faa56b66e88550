//! Reads the iSCSI Boot Firmware Table, which the kernel's module `iscsi_ibft` shows below `/sys/firmware/ibft`.

use std::{fs, path::Path};

use super::{cmdline::CommandLine, network::ibft};
use crate::root::Root;

/// Interfaces in the table that are looked at. Two is what the specification has room for; some firmware has more.
const MOST: usize = 8;

/// Adds what the table says, if `line` wants it. The problems are for a person.
pub fn add(root: &Root, line: &mut CommandLine) -> Vec<String> {
    let (words, problems) = ibft::arguments(line, &blocks(root));
    words.into_iter().for_each(|(key, value)| line.add(key, value));
    problems
}

fn blocks(root: &Root) -> Vec<ibft::Block> {
    let names = list(&root.join("/sys/firmware/ibft"));
    let names = names.into_iter().filter(|name| name.starts_with("ethernet")).take(MOST);
    let block = |name: String| {
        let directory = root.join(format!("/sys/firmware/ibft/{name}"));
        // Some can't be read, or are none: what they would say is not said.
        let value = |key: String| Some((key.clone(), super::read_text(&directory.join(key)).ok()?.trim().to_owned()));
        let values = list(&directory).into_iter().filter_map(value).collect();
        ibft::Block { name, values, interfaces: list(&directory.join("device/net")) }
    };
    names.map(block).collect()
}

/// Names in a directory, in order; none if there is none.
fn list(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::network::NetworkConfig, root::tests::Fixture};

    #[test]
    fn a_table_as_the_kernel_shows_it() {
        let file = |key: &str| format!("sys/firmware/ibft/ethernet0/{key}");
        let root = Fixture::new(&[("sys/firmware/ibft/target0/ip-addr", b"198.51.100.1\n")]);
        for (key, value) in [
            ("mac", "00:11:25:9d:8b:01\n"),
            ("vlan", "0\n"),
            ("flags", "7\n"),
            ("origin", "1\n"),
            ("ip-addr", "192.0.2.7\n"),
            ("subnet-mask", "255.255.255.0"), // without an end of the line
            ("gateway", "192.0.2.1\n"),
        ] {
            root.put(&file(key), value.as_bytes());
        }
        std::fs::create_dir_all(root.join(file("device/net/ens3"))).unwrap();
        for wish in ["ip=ibft", "ip=ens3:ibft", "rd.iscsi.ibft=1"] {
            let mut line = CommandLine::parse(wish);
            assert_eq!(add(&root, &mut line), [""; 0]);
            let (config, problems) = NetworkConfig::parse(&line);
            assert_eq!(problems, [""; 0], "{wish}");
            assert_eq!(config.lines(), ["00:11:25:9d:8b:01: 192.0.2.7/24 gateway 192.0.2.1"], "{wish}");
        }
        let mut line = CommandLine::parse("ip=ens9:ibft");
        add(&root, &mut line);
        assert_eq!(NetworkConfig::parse(&line).1.len(), 2, "another interface");
    }
}
