//! The device behind `/dev/console`: `fs/proc/consoles.c`, `Documentation/admin-guide/serial-console.rst`.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{major, minor};

use super::{active_consoles, screen};
use crate::root::Root;

/// Where what is written to /dev/console goes: its device, when no screen shows it.
pub fn unseen(root: &Root) -> Option<PathBuf> {
    if active_consoles(root).iter().any(|name| screen::read(root, name).is_ok()) {
        return None;
    }
    let table = std::fs::read_to_string(root.join("/proc/consoles")).ok()?;
    let (name, number) = preferred(&table)?;
    let path = root.join(format!("/dev/{name}"));
    // A console's name is not always its device's.
    let device = std::fs::metadata(&path).ok()?.rdev();
    ((major(device), minor(device)) == number).then_some(path)
}

/// Name and number of the console that is marked `C`: /dev/console is that one alone, while the kernel's own messages go
/// to all.
fn preferred(table: &str) -> Option<(&str, (u32, u32))> {
    table.lines().find_map(|line| {
        // `ttyS0                -W- (EC  p a)    4:64`
        let (name, rest) = line.split_once(' ')?;
        let (_, rest) = rest.split_once('(')?;
        let (flags, number) = rest.split_once(')')?;
        let (major, minor) = number.trim().split_once(':')?;
        let number = (major.parse().ok()?, minor.parse().ok()?);
        (flags.contains('C') && !name.contains('/')).then_some((name, number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    #[test]
    fn the_preferred_console() {
        let both = "ttyS0                -W- (EC  p a)    4:64\ntty0                 -WU (E   p  )    4:1\n";
        assert_eq!(preferred(both), Some(("ttyS0", (4, 64))));
        let screen = "tty0                 -WU (EC  p  )    4:2\nttyS0                -W- (E   p a)    4:64\n";
        assert_eq!(preferred(screen), Some(("tty0", (4, 2))));
        for none in
            ["", "netcon0              -W- (EC    a)\n", "ttyS0 -W- (E   p a)    4:64\n", "x (C) a:b", "../x (C) 1:2"]
        {
            assert_eq!(preferred(none), None, "{none}");
        }
    }

    #[test]
    fn a_device_that_is_not_the_console_is_left_alone() {
        let table = b"ttyS0                -W- (EC  p a)    4:64\n".as_slice();
        let root = Fixture::new(&[("proc/consoles", table), ("dev/ttyS0", b"a file")]);
        assert_eq!(unseen(&root), None);
    }

    #[test]
    fn a_machine_with_a_screen_is_left_alone() {
        // /dev/null is a character device with a number that is known.
        let root = Fixture::new(&[("proc/consoles", b"null   -W- (EC  p a)    1:3\n"), ("dev/x", b"")]);
        std::os::unix::fs::symlink("/dev/null", root.join("/dev/null")).unwrap();
        assert_eq!(unseen(&root), Some(root.join("/dev/null")));
        root.put("sys/class/tty/console/active", b"tty1 null\n");
        root.put("dev/vcsa1", &[1, 1, 0, 0]);
        root.put("dev/vcs1", b"x");
        assert_eq!(unseen(&root), None);
    }
}
