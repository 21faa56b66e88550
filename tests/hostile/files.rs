//! From inside a file server.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use vestibule::hardening;
use vestibule::hardening::landlock::FileAccess;

use super::{Attempts, inside, parent, tries};

const NOTHING: usize = 0;

/// A directory to serve, with a file, beside another that is none of its business.
struct Fixture {
    top: PathBuf,
    root: OwnedFd,
}

impl Fixture {
    fn confined(top: PathBuf, access: FileAccess) -> Self {
        parent();
        for directory in ["served/sub", "other"] {
            std::fs::create_dir_all(top.join(directory)).unwrap();
        }
        std::fs::write(top.join("served/file"), "text").unwrap();
        std::fs::write(top.join("other/file"), "secret").unwrap();
        let root =
            openat(CWD, top.join("served"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let missing = hardening::confine_sftp(root.as_fd(), access);
        assert!(missing.is_empty(), "{missing:?}");
        Self { top, root }
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<File, Errno> {
        let mode = if flags.contains(OFlags::CREATE) { Mode::from(0o600) } else { Mode::empty() };
        openat2(&self.root, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::BENEATH).map(File::from)
    }

    /// By an absolute path, as somebody would who has taken the server over.
    fn open_anywhere(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(CWD, path.as_ref(), flags | OFlags::CLOEXEC, Mode::from(0o600))
    }

    fn assert_sealed(&self) {
        for path in [self.top.join("other/file"), "/etc/passwd".into(), "/proc/self/mem".into(), "/dev/null".into()] {
            assert_eq!(self.open_anywhere(&path, OFlags::RDONLY).err(), Some(Errno::ACCESS), "{path:?}");
            assert_eq!(self.open_anywhere(&path, OFlags::WRONLY).err(), Some(Errno::ACCESS), "{path:?}");
        }
        assert_eq!(
            self.open_anywhere(self.top.join("other/new"), OFlags::CREATE | OFlags::WRONLY).err(),
            Some(Errno::ACCESS)
        );
        let program = c"/bin/true".as_ptr();
        let mut all = Attempts::default();
        tries!(all;
            SYS_execve(program, NOTHING, NOTHING);
            SYS_execveat(libc::AT_FDCWD, program, NOTHING, NOTHING, 0);
            SYS_clone(libc::SIGCHLD, 0, 0, 0, 0);
            SYS_clone3(NOTHING, 0);
            SYS_socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            SYS_socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
            SYS_connect(0, NOTHING, 0);
            SYS_sendmsg(0, NOTHING, 0);
            SYS_recvmsg(0, NOTHING, 0);
            SYS_ptrace(libc::PTRACE_ATTACH, 1, 0, 0);
            SYS_process_vm_readv(1, NOTHING, 0, NOTHING, 0, 0);
            SYS_kill(1, 0);
            SYS_mknodat(libc::AT_FDCWD, c"x".as_ptr(), libc::S_IFBLK, 0);
            SYS_mount(NOTHING, NOTHING, NOTHING, 0, NOTHING);
            SYS_chroot(c"/".as_ptr());
            SYS_unshare(libc::CLONE_NEWNS);
            SYS_ioctl(0, libc::TIOCSTI, c"x".as_ptr());
            SYS_io_uring_setup(1, NOTHING);
            SYS_open_by_handle_at(0, NOTHING, 0);
            SYS_mmap(NOTHING, 4096, libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
            SYS_setresuid(1, 1, 1);
            SYS_reboot(0, 0, 0, 0);
        );
        all.finish(20);
    }
}

#[test]
#[ignore = "run by a_file_server_reads_below_its_directory_and_nothing_else, in a process of its own"]
fn reading_is_all() {
    let Some(top) = inside() else { return };
    let served = Fixture::confined(top, FileAccess::Read);
    let mut text = String::new();
    served.open("file", OFlags::RDONLY).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
    assert_eq!(served.open("file", OFlags::RDONLY).unwrap().metadata().unwrap().len(), 4);
    let names: Vec<_> = rustix::fs::Dir::read_from(served.open(".", OFlags::RDONLY | OFlags::DIRECTORY).unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_owned())
        .collect();
    assert!(names.iter().any(|name| name.as_c_str() == c"sub"), "{names:?}");

    assert_eq!(served.open("file", OFlags::WRONLY).err(), Some(Errno::ACCESS));
    assert_eq!(served.open("new", OFlags::CREATE | OFlags::WRONLY).err(), Some(Errno::ACCESS));
    assert_eq!(rustix::fs::unlinkat(&served.root, "file", AtFlags::empty()).err(), Some(Errno::PERM));
    assert_eq!(rustix::fs::chmodat(&served.root, "file", Mode::from(0o777), AtFlags::empty()).err(), Some(Errno::PERM));
    served.assert_sealed();
}

#[test]
#[ignore = "run by a_file_server_changes_what_is_below_its_directory_and_nothing_else, in a process of its own"]
fn changes_stay_inside() {
    let Some(top) = inside() else { return };
    let served = Fixture::confined(top, FileAccess::ReadWrite);
    let root = &served.root;
    let mut new = served.open("new", OFlags::CREATE | OFlags::EXCL | OFlags::RDWR).unwrap();
    new.write_all(b"content").unwrap();
    new.set_len(3).unwrap();
    new.sync_all().unwrap();
    rustix::fs::fchmod(&new, Mode::from(0o640)).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::sys::stat::fchmodat(root, "new", mode, nix::sys::stat::FchmodatFlags::NoFollowSymlink).unwrap();
    rustix::fs::mkdirat(root, "directory", Mode::from(0o700)).unwrap();
    rustix::fs::renameat(root, "new", root, "directory/moved").unwrap();
    rustix::fs::renameat_with(root, "file", root, "sub/file", rustix::fs::RenameFlags::NOREPLACE).unwrap();
    rustix::fs::linkat(root, "sub/file", root, "linked", AtFlags::empty()).unwrap();
    rustix::fs::symlinkat("sub/file", root, "pointer").unwrap();
    assert_eq!(rustix::fs::readlinkat(root, "pointer", Vec::new()).unwrap().as_c_str(), c"sub/file");
    rustix::fs::utimensat(
        root,
        "linked",
        &rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
            last_modification: rustix::fs::Timespec { tv_sec: 2, tv_nsec: 0 },
        },
        AtFlags::empty(),
    )
    .unwrap();
    assert_eq!(rustix::fs::statat(root, "linked", AtFlags::empty()).unwrap().st_mtime, 2);
    assert!(rustix::fs::fstatvfs(served.open("sub", OFlags::RDONLY).unwrap()).unwrap().f_bsize > 0);
    rustix::fs::unlinkat(root, "directory/moved", AtFlags::empty()).unwrap();
    rustix::fs::unlinkat(root, "directory", AtFlags::REMOVEDIR).unwrap();

    // Out of it, into it, and through a link.
    let other = served.top.join("other");
    let outside = [
        rustix::fs::renameat(root, "linked", CWD, other.join("stolen")).err(),
        rustix::fs::renameat(CWD, other.join("file"), root, "stolen").err(),
        rustix::fs::linkat(CWD, other.join("file"), root, "stolen", AtFlags::empty()).err(),
        rustix::fs::unlinkat(CWD, other.join("file"), AtFlags::empty()).err(),
        rustix::fs::mkdirat(CWD, other.join("new"), Mode::from(0o700)).err(),
    ];
    for (at, error) in outside.iter().enumerate() {
        assert!(matches!(error, Some(Errno::ACCESS | Errno::XDEV)), "{at}: {error:?}");
    }
    rustix::fs::symlinkat(other.join("file"), root, "way-out").unwrap();
    let followed = openat(root, "way-out", OFlags::RDONLY, Mode::empty());
    assert_eq!(followed.err(), Some(Errno::ACCESS), "even without RESOLVE_BENEATH");
    served.assert_sealed();
}

#[test]
#[ignore = "run by a_file_server_that_only_takes_files_gives_none, in a process of its own"]
fn nothing_is_read() {
    let Some(top) = inside() else { return };
    let served = Fixture::confined(top, FileAccess::Write);
    served.open("new", OFlags::CREATE | OFlags::WRONLY).unwrap().write_all(b"content").unwrap();
    for name in ["file", "new"] {
        assert_eq!(served.open(name, OFlags::RDONLY).err(), Some(Errno::ACCESS));
        assert_eq!(served.open(name, OFlags::RDWR).err(), Some(Errno::ACCESS));
    }
    assert_eq!(served.open("file", OFlags::WRONLY | OFlags::TRUNC).unwrap().metadata().unwrap().len(), 0);
    served.assert_sealed();
}
