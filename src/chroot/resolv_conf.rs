//! `/etc/resolv.conf` of the chroot: whom programs in it ask for names.

use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, ensure};

use super::android::properties;
use super::definition::ResolvConf;
use super::place::Place;
use crate::root::Root;

const PATH: &str = "/etc/resolv.conf";
/// resolv.conf(5): everybody's.
const MODE: u32 = 0o644;
/// In bytes; resolvers read the first few lines.
const MAX_LENGTH: usize = 64 << 10;
/// Those of the network that Android prefers. Since Android 8 they are empty: "a change that improves privacy on the
/// platform" (<https://developer.android.com/about/versions/oreo/android-8.0-changes>).
const PROPERTIES: [&str; 4] = ["net.dns1", "net.dns2", "net.dns3", "net.dns4"];
/// `MAXNS` of resolv.h: no resolver asks more.
const MAX_SERVERS: usize = 3;

/// Writes it, if that is wanted, as it is now: who moves to another network starts the chroot again. Returns what people
/// should know when it could not be made as wanted; the chroot's own is then left alone.
pub fn write(place: &Place, wanted: ResolvConf, root: &Root) -> anyhow::Result<Option<String>> {
    let found = match wanted {
        ResolvConf::Keep => return Ok(None),
        ResolvConf::Copy => outside(root)?,
        ResolvConf::Android => from_properties(|name| properties::get(name, root))?,
    };
    let text = match found {
        Ok(text) => text,
        Err(why) => {
            return Ok(Some(format!("{} is left as it is: {why}", place.path().join("etc/resolv.conf").display())));
        }
    };
    // What is the same is not written, to spare flash memory. What can't be read, as a link can't, is replaced.
    let path = Path::new(PATH);
    if !place.read(path, MAX_LENGTH).is_ok_and(|old| old.as_deref() == Some(&text)) {
        place.write(path, &text, MODE)?;
    }
    Ok(None)
}

/// Text, or why there is none.
type Found = Result<Vec<u8>, String>;

fn outside(root: &Root) -> anyhow::Result<Found> {
    let path = root.join(PATH);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Err(format!("there is no {} to copy", path.display())));
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mut text = Vec::new();
    let limit = MAX_LENGTH as u64 + 1;
    file.take(limit).read_to_end(&mut text).with_context(|| format!("reading {}", path.display()))?;
    ensure!(text.len() <= MAX_LENGTH, "{} is longer than {MAX_LENGTH} bytes", path.display());
    Ok(Ok(text))
}

fn from_properties(get: impl Fn(&str) -> anyhow::Result<Option<String>>) -> anyhow::Result<Found> {
    let mut servers: Vec<IpAddr> = Vec::new();
    for name in PROPERTIES {
        // What is no address, or one of a single link (`fe80::1%wlan0`), helps no resolver.
        let address = get(name)?.and_then(|value| value.parse().ok());
        servers.extend(address.filter(|it: &IpAddr| !it.is_unspecified() && !servers.contains(it)));
    }
    if servers.is_empty() {
        return Ok(Err(
            "Android's properties net.dns1 to net.dns4 name no server, as always since Android 8: write one into \
             it by hand (nameserver ADDRESS), and resolv-conf = \"keep\" into the chroot's file"
                .into(),
        ));
    }
    let mut text = String::from("# Written by vestibule when it started this chroot, from Android's properties.\n");
    text.extend(servers.iter().take(MAX_SERVERS).map(|server| format!("nameserver {server}\n")));
    Ok(Ok(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::os::unix::fs::symlink;

    #[test]
    fn copies() {
        let root = Fixture::new(&[("/chroot/etc/resolv.conf", b"old"), ("/run/real", b"nameserver 192.0.2.1\n")]);
        let place = Place::open(&root.join("/chroot")).unwrap();
        let inside = || std::fs::read_to_string(root.join("/chroot/etc/resolv.conf")).unwrap();
        assert_eq!(write(&place, ResolvConf::Keep, &root).unwrap(), None);
        let why = write(&place, ResolvConf::Copy, &root).unwrap().unwrap();
        assert!(why.contains("/chroot/etc/resolv.conf is left as it is: there is no"), "{why}");
        assert_eq!(inside(), "old");

        // Outside, links are the administrator's; inside they are not followed.
        std::fs::create_dir(root.join("/etc")).unwrap();
        symlink(root.join("/run/real"), root.join("/etc/resolv.conf")).unwrap();
        std::fs::remove_file(root.join("/chroot/etc/resolv.conf")).unwrap();
        root.put("/victim", b"kept");
        symlink(root.join("/victim"), root.join("/chroot/etc/resolv.conf")).unwrap();
        assert_eq!(write(&place, ResolvConf::Copy, &root).unwrap(), None);
        assert_eq!(inside(), "nameserver 192.0.2.1\n");
        assert_eq!(std::fs::read(root.join("/victim")).unwrap(), b"kept");

        // The second time, nothing is written: a new file would have a new number.
        let number = || std::os::unix::fs::MetadataExt::ino(&root.join("/chroot/etc/resolv.conf").metadata().unwrap());
        let held = std::fs::File::open(root.join("/chroot/etc/resolv.conf")).unwrap();
        let before = number();
        assert_eq!(write(&place, ResolvConf::Copy, &root).unwrap(), None);
        assert_eq!(number(), before);
        drop(held);
    }

    #[test]
    fn servers_of_android() {
        let given = |values: [&'static str; 4]| {
            let get =
                move |name: &str| Ok(Some(values[PROPERTIES.iter().position(|it| *it == name).unwrap()].to_owned()));
            from_properties(get)
                .unwrap()
                .map(|text| String::from_utf8(text).unwrap().lines().skip(1).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            given(["192.0.2.1", "fe80::1%wlan0", "192.0.2.1", "2001:db8::1"]).unwrap(),
            "nameserver 192.0.2.1 nameserver 2001:db8::1"
        );
        assert_eq!(
            given(["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]).unwrap().matches("nameserver").count(),
            MAX_SERVERS
        );
        assert!(given(["", "0.0.0.0", "none\nnameserver 1.2.3.4", "::"]).unwrap_err().contains("since Android 8"));
        assert!(from_properties(|_| anyhow::bail!("no getprop")).is_err());
    }
}
