//! Phones have old kernels. Here is one that knows the system calls of Linux 3.10 and no later ones, for the launcher, the
//! supervisor, our server and everything that it starts.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::libc;

use crate::lab::{Beside, on_own_machine, outcome, table, until};
use crate::server::{Client, HOST_KEY, LOG, PORT, answer, log, put_needs_of_the_test};
use crate::trees;

/// What came after finit_module(2), the last one that Linux 3.10 has.
#[cfg(target_arch = "x86_64")]
const FIRST_UNKNOWN: u32 = 314;
/// The same, in the numbers of the newer architectures.
#[cfg(not(target_arch = "x86_64"))]
const FIRST_UNKNOWN: u32 = 274;
/// Of Linux 4.13.
const TIOCGPTPEER: u32 = 0x5441;

/// What the command becomes, and all that it starts, is refused what is newer.
fn on_linux_3_10(command: &mut Command) -> &mut Command {
    // struct seccomp_data: the number is its first word, the second argument of a call begins at 24.
    let load = |at| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, (0, 0));
    let give = |result| instruction(libc::BPF_RET | libc::BPF_K, result, (0, 0));
    let refuse = |error: i32| give(libc::SECCOMP_RET_ERRNO | error.cast_unsigned());
    let filter = [
        load(0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, FIRST_UNKNOWN, (0, 1)),
        refuse(libc::ENOSYS),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, u32::try_from(libc::SYS_ioctl).unwrap(), (0, 3)),
        load(24),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, TIOCGPTPEER, (0, 1)),
        refuse(libc::EINVAL),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: a system call, which reads the program and its instructions; both live until it returns.
        let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: prctl is a system call alone, without memory or locks (signal-safety(7)).
    unsafe { command.pre_exec(install) }
}

fn instruction(code: u32, k: u32, (jt, jf): (u8, u8)) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

#[test]
fn logins_on_the_kernel_of_an_old_phone() {
    let tree = trees::find("busybox");
    on_own_machine("old_kernel::logins_on_the_kernel_of_an_old_phone", |lab| {
        trees::put(&lab, &tree);
        put_needs_of_the_test(&lab);
        lab.define("x", &[LOG, "[ssh]\nlisten = [\"127.0.0.1\", \"::1\"]\n"].concat());
        let before = table();
        let client = Client::new(&lab, PORT);
        client.is_let_in();
        let started = outcome(on_linux_3_10(&mut lab.command(&["start", "x"])));
        assert_eq!(started.status, Some(0), "{started:?}");
        until("the host key to be made", || lab.tree().join(HOST_KEY).exists());
        client.knows(HOST_KEY);
        until("the first login", || answer(&client, "true").is_some());
        // 2: a filter (proc_pid_status(5)).
        let said = answer(&client, "id -u; pwd; grep Seccomp: /proc/self/status");
        assert_eq!(said.as_deref(), Some("0\n/root\nSeccomp:\t2\n"), "{}", log(&lab));

        let second = outcome(&mut client.command("ssh", &["root@::1", "exit 7"]));
        assert_eq!(second.status, Some(7), "the other socket: {second:?}");

        let mut shell = client.command("ssh", &["-tt", "root@127.0.0.1"]);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut shell = Beside(shell);
        shell.0.stdin.as_mut().unwrap().write_all(b"echo is:$0:$(tty); exit 5\n").unwrap();
        let mut shown = String::new();
        shell.0.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        assert_eq!(shell.0.wait().unwrap().code(), Some(5), "{shown}\n{}", log(&lab));
        assert!(shown.contains("is:-ash:/dev/pts/"), "{shown}");

        fs::write(lab.path("bytes"), vec![7; 1 << 20]).unwrap();
        fs::write(lab.path("batch"), format!("put {} /root/there\n", lab.path("bytes").display())).unwrap();
        let batch = lab.path("batch");
        let sftp = outcome(&mut client.command("sftp", &["-b", batch.to_str().unwrap(), "root@127.0.0.1"]));
        assert_eq!(sftp.status, Some(0), "{sftp:?}\n{}", log(&lab));
        assert_eq!(fs::read(lab.tree().join("root/there")).unwrap(), vec![7; 1 << 20]);

        let exec =
            outcome(on_linux_3_10(&mut lab.command(&["exec", "x", "--", "sh", "-c", "ls /proc/self/fd; exit 7"])));
        assert_eq!((exec.status, exec.out.as_str()), (Some(7), "0\n1\n2\n3\n"), "{exec:?}");
        let stopped = outcome(on_linux_3_10(&mut lab.command(&["stop", "x"])));
        assert_eq!((stopped.status, table()), (Some(0), before), "{stopped:?}");
    });
}
