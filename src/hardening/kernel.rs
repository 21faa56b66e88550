//! The system calls that confine a process: seccomp(2), landlock(7). Neither std, nix 0.31 nor rustix 1.1 has them.
#![allow(unsafe_code)] // one block for each call, below

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::libc::{self, c_long, sock_filter, sock_fprog};

/// `LANDLOCK_CREATE_RULESET_VERSION` and `LANDLOCK_RULE_PATH_BENEATH` of `include/uapi/linux/landlock.h`, Linux 6.12.
const ABI_VERSION: u32 = 1;
const PATH_BENEATH: u32 = 1;

/// What a ruleset forbids unless a rule allows it: `struct landlock_ruleset_attr`. A kernel that knows fewer fields takes
/// it as long as those it doesn't know are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled {
    pub files: u64,
    pub network: u64,
    pub scoped: u64,
}

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    directory: i32,
}

/// Whether the kernel filters system calls: seccomp(2) says that asking with a null pointer fails with EFAULT then.
pub fn has_filters() -> io::Result<()> {
    // SAFETY: the kernel only reads through the pointer, checks it first, and a null pointer is what is meant.
    let result = unsafe {
        let none = ptr::null::<sock_fprog>();
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, none)
    };
    match checked(result) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::Other.into()),
    }
}

/// Filters all system calls of this process, every thread of it, from now on. Needs no-new-privs.
pub fn filter_calls(program: &mut [sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: `program` says where the instructions are and how many, both live until the call returns, and the kernel
    // copies and checks them.
    let result = unsafe {
        let all_threads = libc::SECCOMP_FILTER_FLAG_TSYNC;
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, all_threads, &raw const program)
    };
    match checked(result)? {
        0 => Ok(()),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

/// The version of Landlock's interface that the kernel has, from 1; an error says that it has none.
pub fn landlock_version() -> io::Result<u32> {
    // SAFETY: with this flag the kernel takes no pointer.
    let result = unsafe {
        let none = ptr::null::<Handled>();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, ABI_VERSION)
    };
    u32::try_from(checked(result)?).map_err(io::Error::other)
}

/// A ruleset without rules: all that it handles is forbidden.
pub fn landlock_ruleset(handled: &Handled) -> io::Result<OwnedFd> {
    // SAFETY: the pointer is to an initialised structure of the size that goes with it, which the kernel only reads.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::from_ref(handled), size_of::<Handled>(), 0) };
    let fd = i32::try_from(checked(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Allows these accesses to whatever is below the directory.
pub fn landlock_allow(ruleset: BorrowedFd, directory: BorrowedFd, allowed: u64) -> io::Result<()> {
    let rule = PathBeneath { allowed, directory: directory.as_raw_fd() };
    // SAFETY: the pointer is to an initialised structure of the kind that the number before it names, which the kernel only
    // reads; both descriptors are open while they are borrowed.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0) };
    checked(result).map(drop)
}

/// Puts this thread, and whatever it starts, under the ruleset for ever. Needs no-new-privs.
pub fn landlock_restrict(ruleset: BorrowedFd) -> io::Result<()> {
    // SAFETY: the call takes two integers; the descriptor is open while it is borrowed.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    checked(result).map(drop)
}

fn checked(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
