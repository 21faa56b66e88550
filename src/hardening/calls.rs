//! The system calls that a confined process may make. Found by watching one (strace(1)) from its start to its end, with
//! musl and with glibc; those of other architectures by reading what musl 1.2 and rustix 1.1 call instead.

use nix::libc::{self, c_long};

use super::seccomp::Call;
use super::seccomp::Check::{Is, Null, Own, Without};

const EXECUTABLE: u32 = libc::PROT_EXEC as u32;
/// `sendto` with it connects first (tcp(7)).
const CONNECTING: u32 = libc::MSG_FASTOPEN as u32;

/// 32-bit architectures have calls of their own for times after 2038, with the same numbers on all of them
/// (`scripts/syscall.tbl`, Linux 6.12), and libc does not name them for ARM.
#[cfg(target_arch = "arm")]
mod time64 {
    pub const CLOCK_GETTIME: super::c_long = 403;
    pub const UTIMENSAT: super::c_long = 412;
    pub const PPOLL: super::c_long = 414;
    pub const FUTEX: super::c_long = 422;
}
/// Since Linux 6.6, the same number everywhere.
const FCHMODAT2: c_long = 452;

/// A session: moves bytes between descriptors that it has or is handed, waits, and has memory. The most frequent come
/// first.
pub const SESSION: &[&[Call]] = &[
    &[
        any(libc::SYS_recvfrom),
        // Only where it is connected to: with an address, or this flag, it would be a connect(2).
        only(libc::SYS_sendto, &[Null(4), Without(3, CONNECTING)]),
        #[cfg(target_arch = "arm")]
        any(libc::SYS_recv),
        #[cfg(target_arch = "arm")]
        only(libc::SYS_send, &[Without(3, CONNECTING)]),
        #[cfg(target_arch = "x86_64")]
        any(libc::SYS_epoll_wait),
        #[cfg(target_arch = "arm")]
        any(libc::SYS_epoll_wait),
        any(libc::SYS_epoll_pwait),
        any(libc::SYS_epoll_ctl),
        // Descriptors are received, never sent: there is no sendmsg.
        any(libc::SYS_recvmsg),
        any(libc::SYS_shutdown),
        only(libc::SYS_setsockopt, &[Is(1, &[libc::IPPROTO_TCP as u32]), Is(2, &[libc::TCP_QUICKACK as u32])]),
        only(libc::SYS_getsockopt, &[Is(1, &[libc::SOL_SOCKET as u32]), Is(2, &[libc::SO_ERROR as u32])]),
        only(libc::SYS_ioctl, &[Is(1, &[libc::FIONBIO as u32])]),
    ],
    EVERY,
];

/// A file server that reads.
pub const READER: &[&[Call]] = &[EVERY, WAIT, FILES];
/// A file server that may write as well.
pub const WRITER: &[&[Call]] = &[EVERY, WAIT, FILES, CHANGES];

/// Every process: its open descriptors, its memory, the time, random numbers, signals to itself, its end.
const EVERY: &[Call] = &[
    any(libc::SYS_read),
    any(libc::SYS_write),
    any(libc::SYS_readv),
    any(libc::SYS_writev),
    any(libc::SYS_close),
    #[cfg(not(target_arch = "arm"))]
    any(libc::SYS_fstat),
    #[cfg(target_arch = "arm")]
    any(libc::SYS_fstat64),
    #[cfg(not(target_arch = "arm"))]
    only(libc::SYS_fcntl, &[Is(1, FCNTL)]),
    #[cfg(target_arch = "arm")]
    only(libc::SYS_fcntl64, &[Is(1, FCNTL)]),
    #[cfg(not(target_arch = "arm"))]
    only(libc::SYS_mmap, &[Without(2, EXECUTABLE)]),
    #[cfg(target_arch = "arm")]
    only(libc::SYS_mmap2, &[Without(2, EXECUTABLE)]),
    only(libc::SYS_mprotect, &[Without(2, EXECUTABLE)]),
    any(libc::SYS_munmap),
    any(libc::SYS_mremap),
    any(libc::SYS_brk),
    // Others poison memory (MADV_HWPOISON), or undo what keeps it out of core dumps.
    only(libc::SYS_madvise, &[Is(2, &[libc::MADV_DONTNEED as u32, libc::MADV_FREE as u32])]),
    any(libc::SYS_mlock),
    any(libc::SYS_munlock),
    any(libc::SYS_futex),
    #[cfg(target_arch = "arm")]
    any(time64::FUTEX),
    any(libc::SYS_clock_gettime),
    #[cfg(target_arch = "arm")]
    any(time64::CLOCK_GETTIME),
    any(libc::SYS_getrandom),
    any(libc::SYS_getpid),
    any(libc::SYS_gettid),
    any(libc::SYS_sched_yield),
    any(libc::SYS_rt_sigaction),
    any(libc::SYS_rt_sigprocmask),
    any(libc::SYS_rt_sigreturn),
    #[cfg(target_arch = "arm")]
    any(libc::SYS_sigreturn),
    any(libc::SYS_sigaltstack),
    any(libc::SYS_restart_syscall),
    // abort(3) of glibc and of musl. Thread and process have the same number: there is one thread, and stays one.
    only(libc::SYS_tgkill, &[Own(0)]),
    only(libc::SYS_tkill, &[Own(0)]),
    any(libc::SYS_exit),
    any(libc::SYS_exit_group),
];

const FCNTL: &[u32] = &[
    libc::F_DUPFD_CLOEXEC as u32,
    libc::F_GETFD as u32,
    libc::F_SETFD as u32,
    libc::F_GETFL as u32,
    libc::F_SETFL as u32,
];

const WAIT: &[Call] = &[
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    any(libc::SYS_poll),
    any(libc::SYS_ppoll),
    #[cfg(target_arch = "arm")]
    any(time64::PPOLL),
];

/// Whether what is opened may be written to, and where it may be, is Landlock's to judge: a filter sees no paths.
const FILES: &[Call] = &[
    any(libc::SYS_openat),
    any(libc::SYS_openat2),
    any(libc::SYS_pread64),
    any(libc::SYS_getdents64),
    any(libc::SYS_statx),
    any(libc::SYS_readlinkat),
    any(libc::SYS_faccessat),
    any(libc::SYS_faccessat2),
    any(libc::SYS_lseek),
    // musl's fstatat and fchmodat come to these for a path that is not below a descriptor, such as /proc/self/fd/3.
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_stat),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_lstat),
    #[cfg(target_arch = "arm")]
    any(libc::SYS_stat64),
    #[cfg(target_arch = "arm")]
    any(libc::SYS_lstat64),
    #[cfg(not(target_arch = "arm"))]
    any(libc::SYS_newfstatat),
    #[cfg(not(target_arch = "arm"))]
    any(libc::SYS_fstatfs),
    #[cfg(target_arch = "arm")]
    any(libc::SYS_fstatat64),
    #[cfg(target_arch = "arm")]
    any(libc::SYS__llseek),
    #[cfg(target_arch = "arm")]
    any(libc::SYS_fstatfs64),
];

/// By descriptor, or by a name below one. No devices, sockets or FIFOs are made.
const CHANGES: &[Call] = &[
    any(libc::SYS_pwrite64),
    any(libc::SYS_mkdirat),
    any(libc::SYS_unlinkat),
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
    any(libc::SYS_renameat),
    any(libc::SYS_renameat2),
    any(libc::SYS_linkat),
    any(libc::SYS_symlinkat),
    any(libc::SYS_fchmod),
    any(libc::SYS_fchmodat),
    // glibc's fchmodat, which is given no link to follow, comes to it by /proc/self/fd.
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    any(libc::SYS_chmod),
    any(FCHMODAT2),
    any(libc::SYS_fchown),
    any(libc::SYS_fchownat),
    any(libc::SYS_utimensat),
    any(libc::SYS_ftruncate),
    any(libc::SYS_fallocate),
    any(libc::SYS_fsync),
    any(libc::SYS_fdatasync),
    any(libc::SYS_umask),
    #[cfg(target_arch = "arm")]
    any(time64::UTIMENSAT),
    #[cfg(target_arch = "arm")]
    any(libc::SYS_ftruncate64),
    #[cfg(target_arch = "arm")]
    any(libc::SYS_fchown32),
];

const fn any(number: c_long) -> Call {
    Call { number, checks: &[] }
}

const fn only(number: c_long, checks: &'static [super::seccomp::Check]) -> Call {
    Call { number, checks }
}
