//! From inside a session process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use nix::libc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vestibule::control::message::Event;
use vestibule::control::{frame, stream};
use vestibule::hardening;

use super::{Attempts, inside, parent, tries};

const NOTHING: usize = 0;
const HERE: libc::c_int = libc::AT_FDCWD;

/// As in `session::main`: what is missing on this machine fails the test, as it would be tested in vain.
fn confine() {
    parent();
    let missing = hardening::confine_session();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
#[ignore = "run by a_session_can_do_nothing_but_its_work, in a process of its own"]
fn everything_else_is_refused() {
    if inside().is_none() {
        return;
    }
    let mut all = Attempts::default();
    let (near, far) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap(); // whatever is not refused returns at least
    let (near, _far, listener, tcp) = (near.as_raw_fd(), far.as_raw_fd(), listener.as_raw_fd(), tcp.as_raw_fd());
    let father = nix::unistd::getppid().as_raw();
    let own = nix::unistd::getpid().as_raw();
    let page = map_page();
    confine();

    let name = |text: &'static std::ffi::CStr| text.as_ptr();
    let (passwd, here, new, program) =
        (name(c"/etc/passwd"), name(c"/"), name(c"/tmp/vestibule-new"), name(c"/bin/true"));
    let how = [u64::from(libc::O_RDONLY as u32), 0, 0];
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    (address.sin_family, address.sin_port, address.sin_addr.s_addr) =
        (libc::AF_INET as u16, 22u16.to_be(), 0x0100_007f);
    let (to, size) = (&raw const address, size_of_val(&address));
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    let message = &raw mut message;

    // Files.
    tries!(all;
        SYS_openat(HERE, passwd, libc::O_RDONLY);
        SYS_openat(HERE, new, libc::O_CREAT | libc::O_WRONLY, 0o600);
        SYS_openat2(HERE, passwd, how.as_ptr(), 24);
        SYS_statx(HERE, passwd, 0, 0, NOTHING);
        SYS_faccessat(HERE, passwd, 0);
        SYS_readlinkat(HERE, name(c"/proc/self/exe"), NOTHING, 0);
        SYS_getdents64(0, NOTHING, 0);
        SYS_memfd_create(name(c"x"), 0);
        SYS_open_by_handle_at(0, NOTHING, 0);
        SYS_unlinkat(HERE, new, 0);
        SYS_renameat2(HERE, passwd, HERE, new, 0);
        SYS_mkdirat(HERE, new, 0o700);
        SYS_mknodat(HERE, new, libc::S_IFIFO, 0);
        SYS_linkat(HERE, passwd, HERE, new, 0);
        SYS_symlinkat(passwd, HERE, new);
        SYS_fchmodat(HERE, passwd, 0o644);
        SYS_fchownat(HERE, passwd, 0, 0, 0);
        SYS_fchmod(1, 0o777);
        SYS_utimensat(HERE, passwd, NOTHING, 0);
        SYS_truncate(passwd, 0);
        SYS_ftruncate(1, 0);
        SYS_setxattr(passwd, name(c"user.x"), NOTHING, 0, 0);
        SYS_chdir(here);
        SYS_chroot(here);
        SYS_fanotify_init(0, 0);
        SYS_inotify_init1(0);
    );
    // Sockets, and programs.
    for family in
        [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK]
    {
        tries!(all; SYS_socket(family, libc::SOCK_STREAM, 0); SYS_socket(family, libc::SOCK_DGRAM, 0););
    }
    let mut pair = [0i32; 2];
    tries!(all;
        SYS_socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr());
        SYS_connect(tcp, to, size);
        SYS_bind(tcp, to, size);
        SYS_listen(listener, 1);
        SYS_accept4(listener, NOTHING, NOTHING, 0);
        SYS_sendto(tcp, c"x".as_ptr(), 1, 0, to, size);
        SYS_sendto(tcp, c"x".as_ptr(), 1, libc::MSG_FASTOPEN, NOTHING, 0);
        SYS_sendmsg(near, message, 0); // which would carry descriptors
        SYS_sendmmsg(near, message, 1, 0);
        SYS_setsockopt(tcp, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, c"lo".as_ptr(), 3);
        SYS_setsockopt(tcp, libc::SOL_SOCKET, libc::SO_MARK, &1, 4);
        SYS_setsockopt(tcp, libc::IPPROTO_TCP, 31 /* TCP_ULP */, c"tls".as_ptr(), 3);
        SYS_getsockopt(tcp, libc::SOL_SOCKET, libc::SO_PEERCRED, NOTHING, NOTHING);
        SYS_execve(program, NOTHING, NOTHING);
        SYS_execveat(HERE, program, NOTHING, NOTHING, 0);
        SYS_clone(libc::SIGCHLD, 0, 0, 0, 0);
        SYS_clone(libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD, 0, 0, 0, 0);
        SYS_clone3(NOTHING, 0);
    );
    #[cfg(target_arch = "x86_64")]
    tries!(all;
        SYS_open(passwd, libc::O_RDONLY); SYS_creat(new, 0o600); SYS_stat(passwd, NOTHING); SYS_access(passwd, 0);
        SYS_unlink(new); SYS_rename(passwd, new); SYS_mkdir(new, 0o700); SYS_link(passwd, new); SYS_symlink(passwd, new);
        SYS_chmod(passwd, 0o644); SYS_fork(); SYS_vfork(); SYS_pipe(pair.as_mut_ptr()); SYS_accept(listener, NOTHING, NOTHING);
        SYS_iopl(3); SYS_ioperm(0, 1, 1); SYS_modify_ldt(0, NOTHING, 0);
    );
    // Other processes.
    tries!(all;
        SYS_kill(1, 0);
        SYS_kill(father, 0);
        SYS_kill(-1, 0);
        SYS_tgkill(father, father, 0);
        SYS_tkill(father, 0);
        SYS_rt_sigqueueinfo(father, 0, NOTHING);
        SYS_pidfd_open(father, 0);
        SYS_pidfd_send_signal(0, 0, NOTHING, 0);
        SYS_pidfd_getfd(0, 0, 0);
        SYS_ptrace(libc::PTRACE_ATTACH, father, 0, 0);
        SYS_process_vm_readv(father, NOTHING, 0, NOTHING, 0, 0);
        SYS_process_vm_writev(father, NOTHING, 0, NOTHING, 0, 0);
        SYS_kcmp(father, own, 0, 0, 0);
        SYS_setpriority(0, father, 0);
        SYS_prlimit64(father, libc::RLIMIT_NOFILE, NOTHING, NOTHING);
        SYS_setpgid(0, father);
        SYS_setsid();
        SYS_fcntl(near, libc::F_SETOWN, father);
        SYS_fcntl(near, 10 /* F_SETSIG */, libc::SIGKILL);
        SYS_fcntl(near, libc::F_NOTIFY, 1);
        SYS_fcntl(near, libc::F_SETLK, NOTHING);
        SYS_ioctl(0, libc::TIOCSTI, c"x".as_ptr());
        SYS_ioctl(0, libc::TIOCSCTTY, 1);
        SYS_ioctl(tcp, libc::SIOCGIFCONF, NOTHING);
    );
    // The system, and what undoes the confinement.
    tries!(all;
        SYS_mount(here, here, NOTHING, libc::MS_BIND, NOTHING);
        SYS_umount2(here, 0);
        SYS_pivot_root(here, here);
        SYS_open_tree(HERE, here, 1);
        SYS_fsopen(name(c"proc"), 0);
        SYS_unshare(libc::CLONE_NEWUSER);
        SYS_setns(0, 0);
        SYS_bpf(0, NOTHING, 0);
        SYS_perf_event_open(NOTHING, 0, -1, -1, 0);
        SYS_io_uring_setup(1, NOTHING);
        SYS_userfaultfd(0);
        SYS_keyctl(0, -3, 0);
        SYS_add_key(name(c"user"), name(c"x"), c"x".as_ptr(), 1, -3);
        SYS_prctl(libc::PR_SET_DUMPABLE, 1);
        SYS_prctl(libc::PR_SET_PTRACER, -1);
        SYS_seccomp(libc::SECCOMP_SET_MODE_FILTER, 0, NOTHING);
        SYS_landlock_create_ruleset(NOTHING, 0, 1);
        SYS_capset(NOTHING, NOTHING);
        SYS_setuid(0);
        SYS_setresuid(0, 0, 0);
        SYS_setgroups(0, NOTHING);
        SYS_personality(0x0400000 /* READ_IMPLIES_EXEC */);
        SYS_mmap(NOTHING, 4096, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        SYS_mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC);
        SYS_pkey_mprotect(page, 4096, libc::PROT_READ, -1);
        SYS_remap_file_pages(page, 4096, 0, 0, 0);
        SYS_madvise(page, 4096, libc::MADV_HWPOISON);
        SYS_munlockall();
        SYS_mlockall(0);
        SYS_setrlimit(libc::RLIMIT_CORE, NOTHING);
        SYS_reboot(0, 0, 0, 0);
        SYS_kexec_load(0, 0, NOTHING, 0);
        SYS_init_module(NOTHING, 0, NOTHING);
        SYS_finit_module(0, NOTHING, 0);
        SYS_swapon(passwd, 0);
        SYS_sethostname(c"x".as_ptr(), 1);
        SYS_syslog(3, NOTHING, 0);
        SYS_settimeofday(NOTHING, NOTHING);
        SYS_clock_settime(0, NOTHING);
        SYS_nfsservctl();
    );
    all.finish(120);
}

/// The runtime, the streams and the control socket are there before, as in `session::main`; all else comes after.
#[test]
#[ignore = "run by a_session_can_do_its_work, in a process of its own"]
fn its_work_goes_on() {
    if inside().is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(b"from the network").unwrap();
    let (daemon, control) = UnixStream::pair().unwrap();
    let (mut program, its_pipe) = UnixStream::pair().unwrap();
    program.write_all(b"from a program").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let descriptors = runtime.block_on(async {
        daemon.set_nonblocking(true).unwrap();
        let (_, mut writer_of_daemon) =
            stream::split(tokio::net::UnixStream::from_std(daemon.try_clone().unwrap()).unwrap());
        writer_of_daemon.attach(vec![its_pipe.into(), reader.into()]);
        frame::write(&mut writer_of_daemon, &(7u32, Event::Done)).await.unwrap();
        writer.as_fd().try_clone_to_owned().unwrap()
    });
    let started = Instant::now();
    confine();

    runtime.block_on(async {
        server.set_nonblocking(true).unwrap();
        let mut stream = tokio::net::TcpStream::from_std(server).unwrap();
        let mut text = [0; 16];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"from the network");
        rustix::net::sockopt::set_tcp_quickack(&stream, true).unwrap();
        stream.write_all(b"to the network").await.unwrap();
        assert!(stream.take_error().unwrap().is_none());

        control.set_nonblocking(true).unwrap();
        let (mut events, mut requests) = stream::split(tokio::net::UnixStream::from_std(control).unwrap());
        let (number, _) = frame::read::<(u32, Event)>(&mut events).await.unwrap().unwrap();
        let mut received = stream::Reader::take(&mut events, 2).unwrap();
        assert_eq!(number, 7);
        frame::write(&mut requests, &(8u32, Event::Done)).await.unwrap();
        let (pipe, relayed) = (received.pop().unwrap(), received.pop().unwrap());
        let relayed = UnixStream::from(relayed);
        relayed.set_nonblocking(true).unwrap();
        let mut relayed = tokio::net::UnixStream::from_std(relayed).unwrap();
        let mut text = [0; 14];
        relayed.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"from a program");
        relayed.write_all(b"to a program").await.unwrap();
        relayed.shutdown().await.unwrap();
        std::fs::File::from(descriptors).write_all(b"x").unwrap();
        let pipe = tokio::net::unix::pipe::Receiver::from_owned_fd_unchecked(pipe).unwrap();
        pipe.readable().await.unwrap();
        assert_eq!(pipe.try_read(&mut text).unwrap(), 1);

        let late = tokio::time::timeout(Duration::from_millis(30), std::future::pending::<()>()).await;
        assert!(late.is_err() && started.elapsed() >= Duration::from_millis(30));
    });
    let mut text = [0; 14];
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"to the network");
    let mut text = String::new();
    program.read_to_string(&mut text).unwrap();
    assert_eq!(text, "to a program");

    let much: Vec<u8> = (0..20u32 << 20).map(|byte| byte as u8).collect();
    assert_eq!(much[much.len() - 1], 255);
    drop(much);
    let mut random = [0; 32];
    assert_eq!(rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty()).unwrap(), 32);
    assert!(random != [0; 32]);
    assert!(SystemTime::now() > SystemTime::UNIX_EPOCH);
    assert_eq!(std::collections::HashMap::from([(1, 2)])[&1], 2);
    // An inner error unwinds in tests; in the release binary it aborts.
    let panicked = std::panic::catch_unwind(|| panic!("an error inside"));
    assert!(panicked.is_err());
}

/// A kernel may have the one and not the other.
#[test]
#[ignore = "run by a_session_without_filter_reaches_nothing_either, in a process of its own"]
fn landlock_alone_holds() {
    if inside().is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    );
    let free = free.unwrap();
    let father = nix::unistd::getppid();
    let version = hardening::landlock::version().unwrap();
    nix::sys::prctl::set_no_new_privs().unwrap();
    hardening::landlock::forbid_everything().unwrap();

    let refused =
        |result: std::io::Result<()>| matches!(result, Err(error) if error.raw_os_error() == Some(libc::EACCES));
    assert!(refused(std::fs::read("/etc/passwd").map(drop)), "a file was read");
    assert!(refused(std::fs::read_dir("/").map(drop)), "a directory was listed");
    assert!(refused(std::fs::write("/tmp/vestibule-landlock", "").map(drop)), "a file was made");
    assert!(refused(std::process::Command::new("/bin/true").status().map(drop)), "a program was run");
    if version < 4 {
        return; // Linux 6.7: the network; 6.12: signals
    }
    assert!(refused(TcpStream::connect(listener.local_addr().unwrap()).map(drop)), "a connection was made");
    let any = nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 0);
    let bound = nix::sys::socket::bind(free.as_raw_fd(), &any);
    assert_eq!(bound, Err(nix::errno::Errno::EACCES), "a port was bound");
    if version < 6 {
        return;
    }
    assert_eq!(nix::sys::signal::kill(father, None), Err(nix::errno::Errno::EPERM), "another process took a signal");
}

#[test]
#[ignore = "run by calls_by_the_numbers_of_another_architecture_end_the_process, in a process of its own"]
#[cfg(target_arch = "x86_64")]
fn another_architecture() {
    if inside().is_none() {
        return;
    }
    confine();
    const X32: libc::c_long = 0x4000_0000;
    // SAFETY: getpid takes no argument, whatever its number.
    unsafe { libc::syscall(X32 + libc::SYS_getpid) };
}

fn map_page() -> *mut libc::c_void {
    // SAFETY: a new page, which nothing else uses.
    unsafe {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0)
    }
}
