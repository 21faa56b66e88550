//! mkinitcpio's `cryptdevice=DEVICE:NAME[:OPTION,…]`, as its `encrypt` hook reads it (mkinitcpio 41, `hooks/encrypt`).
//! Pure.

/// What to open, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CryptDevice {
    /// As written: a path, or a tag such as `UUID=…`. Finding it is for mkinitcpio's `resolve_device`.
    pub device: String,
    /// Its name below `/dev/mapper`.
    pub name: String,
    /// Options of `cryptsetup open`.
    options: Vec<String>,
    /// Options that `encrypt` doesn't know either, and leaves out.
    pub unknown: Vec<String>,
}

impl CryptDevice {
    /// The error says what is missing and how to write it.
    pub fn parse(value: &str) -> Result<Self, String> {
        let [device, name, options] = fields(value);
        if device.is_empty() || name.is_empty() {
            return Err(format!("cryptdevice={value} names no volume; write cryptdevice=DEVICE:NAME"));
        }
        if name.contains('/') {
            return Err(format!("cryptdevice={value}: “{name}” can't be the name of a volume, as it has a slash"));
        }
        let mut parsed = Self { device, name, options: Vec::new(), unknown: Vec::new() };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "allow-discards" | "discard" => parsed.options.push("--allow-discards".into()),
                "no-read-workqueue" | "perf-no_read_workqueue" => {
                    parsed.options.push("--perf-no_read_workqueue".into())
                }
                "no-write-workqueue" | "perf-no_write_workqueue" => {
                    parsed.options.push("--perf-no_write_workqueue".into());
                }
                _ => match option.strip_prefix("sector-size=") {
                    Some(size) => parsed.options.extend(["--sector-size".into(), size.into()]),
                    None => parsed.unknown.push(option.into()),
                },
            }
        }
        Ok(parsed)
    }

    /// The arguments that `encrypt` gives to `cryptsetup` when it asks for a passphrase; `device` is where it was found.
    pub fn arguments(&self, device: &str) -> Vec<String> {
        let fixed = ["open", "--type", "luks", device, &self.name].map(str::to_owned);
        fixed.into_iter().chain(self.options.iter().cloned()).collect()
    }
}

/// Three fields between colons, as the shell's `IFS=: read a b c` takes them: a backslash makes the next character an
/// ordinary one (device names such as `usb-…-0\:0`), and the last field gets the rest, its colons included.
fn fields(value: &str) -> [String; 3] {
    let mut fields = [const { String::new() }; 3];
    let mut current = 0;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => fields[current].extend(characters.next()),
            ':' if current < 2 => current += 1,
            character => fields[current].push(character),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rows: value; device, and the arguments for it. The first ones are the examples of the Arch wiki's pages dm-crypt/System
    /// configuration, dm-crypt/Encrypting an entire system, and dm-crypt/Specialties.
    #[test]
    fn understood() {
        for (value, device, arguments) in [
            ("/dev/sdaX:root", "/dev/sdaX", "root"),
            ("UUID=1f2d-4c:root", "UUID=1f2d-4c", "root"),
            ("UUID=1f2d-4c:cryptlvm", "UUID=1f2d-4c", "cryptlvm"),
            ("PARTLABEL=cryptroot:root", "PARTLABEL=cryptroot", "root"),
            ("/dev/MyVolGroup/cryptroot:root", "/dev/MyVolGroup/cryptroot", "root"),
            ("/dev/disk/by-id/ata-ST_1-part2:cryptlvm", "/dev/disk/by-id/ata-ST_1-part2", "cryptlvm"),
            ("/dev/disk/by-uuid/1f2d:root:allow-discards", "/dev/disk/by-uuid/1f2d", "root --allow-discards"),
            (
                "/dev/sdaX:root:no-read-workqueue,no-write-workqueue",
                "/dev/sdaX",
                "root --perf-no_read_workqueue --perf-no_write_workqueue",
            ),
            (
                "/dev/sda2:root:discard,perf-no_read_workqueue",
                "/dev/sda2",
                "root --allow-discards --perf-no_read_workqueue",
            ),
            ("/dev/sda2:root:sector-size=4096", "/dev/sda2", "root --sector-size 4096"),
            ("/dev/sda2:root:", "/dev/sda2", "root"),
            ("/dev/disk/by-id/usb-A-0\\:0:root", "/dev/disk/by-id/usb-A-0:0", "root"),
            ("a\\\\b:root", "a\\b", "root"),
        ] {
            let parsed = CryptDevice::parse(value).expect(value);
            assert_eq!(parsed.device, device, "{value}");
            assert_eq!(parsed.arguments("D").join(" "), format!("open --type luks D {arguments}"), "{value}");
            assert_eq!(parsed.unknown, [""; 0], "{value}");
        }
    }

    #[test]
    fn options_that_encrypt_ignores_are_named() {
        let parsed = CryptDevice::parse("/dev/sda2:root:header,allow-discards,x:y").unwrap();
        assert_eq!(parsed.unknown, ["header", "x:y"]);
        assert_eq!(parsed.arguments("D").len(), 6);
    }

    #[test]
    fn what_names_no_volume_is_refused() {
        for value in ["", "/dev/sda2", "y", ":root", "/dev/sda2:", "/dev/sda2::allow-discards", "/dev/sda2:a/b", "\\"] {
            let reason = CryptDevice::parse(value).expect_err(value);
            assert!(reason.starts_with(&format!("cryptdevice={value}")), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(value in "[a:\\\\,=/]{0,20}|\\PC{0,20}") {
            drop(CryptDevice::parse(&value));
        }
    }
}
