//! Landlock: which files this process may reach, and that it connects to nothing (landlock(7)).
//!
//! Best effort: each version of the interface forbids more, and what the kernel's has is forbidden. Descriptors that are
//! open already, and those that are received, are not judged.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::kernel::{self, Handled};

/// `LANDLOCK_ACCESS_FS_…` of `include/uapi/linux/landlock.h`, Linux 6.12; in its order.
mod file {
    pub const WRITE: u64 = 1 << 1;
    pub const READ: u64 = 1 << 2;
    pub const LIST: u64 = 1 << 3;
    pub const REMOVE_DIRECTORY: u64 = 1 << 4;
    pub const REMOVE: u64 = 1 << 5;
    pub const MAKE_DIRECTORY: u64 = 1 << 7;
    pub const MAKE: u64 = 1 << 8;
    pub const MAKE_LINK: u64 = 1 << 12;
    /// The first version has the thirteen up to here: the others are execution, devices, sockets and FIFOs.
    pub const FIRST: u64 = (1 << 13) - 1;
    /// Moves and links between directories. Without it the kernel allows none.
    pub const REFER: u64 = 1 << 13;
    pub const TRUNCATE: u64 = 1 << 14;
    pub const DEVICE_CONTROL: u64 = 1 << 15;
}
/// `LANDLOCK_ACCESS_NET_…`: bind and connect, TCP.
const TCP: u64 = 0b11;
/// `LANDLOCK_SCOPE_…`: abstract UNIX sockets of others, and signals to others.
const OTHERS: u64 = 0b11;

/// What a process may do with the files below a directory. Programs, devices, sockets and FIFOs there stay out of reach in
/// any case: they can be neither executed nor made, and no device that is opened there takes an ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    Read,
    /// The names can be listed, but no content can be read.
    Write,
    ReadWrite,
}

/// The version of the interface that the kernel has; an error says why it has none.
pub fn version() -> io::Result<u32> {
    kernel::landlock_version()
}

/// Everything that the kernel's version can forbid, without exception.
pub fn forbid_everything() -> io::Result<()> {
    let ruleset = kernel::landlock_ruleset(&handled(version()?))?;
    kernel::landlock_restrict(ruleset.as_fd())
}

/// The same, but for the files below this directory. Where the kernel has the first version only (before Linux 5.19), files
/// can't be moved from one directory to another.
pub fn forbid_all_but(root: BorrowedFd, access: FileAccess) -> io::Result<()> {
    let handled = handled(version()?);
    let ruleset = kernel::landlock_ruleset(&handled)?;
    kernel::landlock_allow(ruleset.as_fd(), root, allowed(access) & handled.files)?;
    kernel::landlock_restrict(ruleset.as_fd())
}

/// What the kernel's version of the interface can forbid, of what is known here.
fn handled(version: u32) -> Handled {
    let since = |first, bits| if version >= first { bits } else { 0 };
    Handled {
        files: file::FIRST | since(2, file::REFER) | since(3, file::TRUNCATE) | since(5, file::DEVICE_CONTROL),
        network: since(4, TCP),
        scoped: since(6, OTHERS),
    }
}

fn allowed(access: FileAccess) -> u64 {
    let read = file::READ | file::LIST;
    let make = file::MAKE | file::MAKE_DIRECTORY | file::MAKE_LINK;
    let remove = file::REMOVE | file::REMOVE_DIRECTORY;
    let write = file::WRITE | file::TRUNCATE | make | remove | file::REFER;
    match access {
        FileAccess::Read => read,
        FileAccess::Write => write | file::LIST,
        FileAccess::ReadWrite => read | write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_asked_for_what_it_knows() {
        // The numbers of the kernel's own tests: tools/testing/selftests/landlock, Linux 5.13, 5.19, 6.2, 6.7, 6.10, 6.12.
        for (version, files, network, scoped) in [
            (1, 0x1fff, 0, 0),
            (2, 0x3fff, 0, 0),
            (3, 0x7fff, 0, 0),
            (4, 0x7fff, 3, 0),
            (5, 0xffff, 3, 0),
            (6, 0xffff, 3, 3),
            (99, 0xffff, 3, 3),
        ] {
            assert_eq!(handled(version), Handled { files, network, scoped }, "version {version}");
        }
    }

    #[test]
    fn nothing_below_a_directory_is_executed_or_is_a_device() {
        let (execute, make_character, make_socket, make_fifo, make_block) = (1, 1 << 6, 1 << 9, 1 << 10, 1 << 11);
        let never = execute | make_character | make_socket | make_fifo | make_block | file::DEVICE_CONTROL;
        for access in [FileAccess::Read, FileAccess::Write, FileAccess::ReadWrite] {
            assert_eq!(allowed(access) & never, 0, "{access:?}");
        }
        assert_eq!(allowed(FileAccess::Write) & file::READ, 0);
        assert_eq!(allowed(FileAccess::Read) & !(file::READ | file::LIST), 0);
    }
}
