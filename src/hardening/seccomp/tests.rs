use super::*;
use crate::hardening::calls;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const HERE: u32 = 0xc000_003e;
const OWN: u32 = 4711;

/// Runs a filter as the kernel does (`Documentation/networking/filter.rst`), and fails where the kernel would not take it.
fn verdict(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let instruction = program.get(at).expect("a program ends with a verdict");
        let (code, k) = (u32::from(instruction.code), instruction.k);
        at += 1;
        match code & 0x07 {
            libc::BPF_LD => {
                assert_eq!((code, k % 4), (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0));
                let word = &data[k as usize..k as usize + 4];
                accumulator = u32::from_le_bytes(word.try_into().unwrap());
            }
            libc::BPF_JMP => {
                let holds = match code & 0xf0 {
                    libc::BPF_JEQ => accumulator == k,
                    libc::BPF_JGE => accumulator >= k,
                    libc::BPF_JSET => accumulator & k != 0,
                    other => panic!("no jump of ours: {other:#x}"),
                };
                at += usize::from(if holds { instruction.jt } else { instruction.jf });
            }
            libc::BPF_RET => return k,
            other => panic!("no instruction of ours: {other:#x}"),
        }
    }
}

#[test]
fn the_architecture_and_the_list_decide() {
    let program = program(HERE, &[Call { number: 3, checks: &[] }, Call { number: 7, checks: &[] }], OWN);
    for number in 0..20 {
        let expected = if [3, 7].contains(&number) { ALLOW } else { DENY };
        assert_eq!(verdict(&program, HERE, number, [0; 6]), expected, "call {number}");
        assert_eq!(verdict(&program, 0x4000_0003, number, [0; 6]), KILL, "call {number} of i386");
        assert_eq!(verdict(&program, HERE, X32 + number, [0; 6]), KILL, "call {number} of x32");
    }
    assert_eq!(verdict(&program, HERE, u32::MAX, [0; 6]), KILL);
}

#[test]
fn arguments_decide() {
    use Check::{Is, Null, Own, Without};
    let list = [
        Call { number: 1, checks: &[Is(1, &[10, 20, 30])] },
        Call { number: 2, checks: &[Without(2, 4)] },
        Call { number: 3, checks: &[Null(4)] },
        Call { number: 4, checks: &[Own(0)] },
        Call { number: 5, checks: &[Is(0, &[1]), Is(1, &[2]), Without(5, 0x8000_0000)] },
    ];
    let program = program(HERE, &list, OWN);
    let with = |at: usize, value| {
        let mut arguments = [99; 6];
        arguments[at] = value;
        arguments
    };
    for (number, arguments, expected) in [
        (1, with(1, 10), ALLOW),
        (1, with(1, 20), ALLOW),
        (1, with(1, 30), ALLOW),
        (1, with(1, 11), DENY),
        (1, with(0, 10), DENY),
        (2, with(2, 3), ALLOW),
        (2, with(2, 4), DENY),
        (2, with(2, 7), DENY),
        (3, with(4, 0), ALLOW),
        (3, with(4, 1), DENY),
        (3, with(4, 1 << 32), DENY),
        (4, with(0, u64::from(OWN)), ALLOW),
        (4, with(0, 1), DENY),
        (5, [1, 2, 0, 0, 0, 0], ALLOW),
        (5, [1, 3, 0, 0, 0, 0], DENY),
        (5, [2, 2, 0, 0, 0, 0], DENY),
        (5, [1, 2, 0, 0, 0, 0x8000_0000], DENY),
        (6, [0; 6], DENY),
    ] {
        assert_eq!(verdict(&program, HERE, number, arguments), expected, "call {number} with {arguments:?}");
    }
}

#[test]
fn the_lists_are_whole() {
    let Some(architecture) = ARCHITECTURE else { return };
    for lists in [calls::SESSION, calls::READER, calls::WRITER] {
        let calls = lists.concat();
        let program = program(architecture, &calls, OWN);
        assert!(program.len() < libc::BPF_MAXINSNS as usize / 8, "{} instructions", program.len());
        for call in &calls {
            let times = calls.iter().filter(|other| other.number == call.number).count();
            assert_eq!(times, 1, "call {} is listed {times} times, and the first decides", call.number);
            if call.checks.is_empty() {
                assert_eq!(verdict(&program, architecture, call.number as u32, [u64::MAX; 6]), ALLOW);
            }
        }
    }
}

#[test]
fn what_no_confined_process_may_call() {
    let Some(architecture) = ARCHITECTURE else { return };
    let never = [
        ("socket", libc::SYS_socket),
        ("connect", libc::SYS_connect),
        ("bind", libc::SYS_bind),
        ("listen", libc::SYS_listen),
        ("accept4", libc::SYS_accept4),
        ("sendmsg", libc::SYS_sendmsg),
        ("sendmmsg", libc::SYS_sendmmsg),
        ("execve", libc::SYS_execve),
        ("execveat", libc::SYS_execveat),
        ("clone", libc::SYS_clone),
        ("clone3", libc::SYS_clone3),
        ("kill", libc::SYS_kill),
        ("ptrace", libc::SYS_ptrace),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("mknodat", libc::SYS_mknodat),
        ("mount", libc::SYS_mount),
        ("chroot", libc::SYS_chroot),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("bpf", libc::SYS_bpf),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("prctl", libc::SYS_prctl),
        ("seccomp", libc::SYS_seccomp),
        ("setresuid", libc::SYS_setresuid),
        ("reboot", libc::SYS_reboot),
    ];
    for (name, lists) in [("session", calls::SESSION), ("reader", calls::READER), ("writer", calls::WRITER)] {
        let program = program(architecture, &lists.concat(), OWN);
        for (call, number) in never {
            assert_eq!(verdict(&program, architecture, number as u32, [0; 6]), DENY, "{call} by a {name}");
        }
    }
    let [session, reader] = [calls::SESSION, calls::READER].map(|lists| program(architecture, &lists.concat(), OWN));
    for number in [libc::SYS_openat, libc::SYS_statx, libc::SYS_readlinkat, libc::SYS_unlinkat] {
        assert_eq!(verdict(&session, architecture, number as u32, [0; 6]), DENY, "{number} by a session");
    }
    for number in [libc::SYS_unlinkat, libc::SYS_fchmod, libc::SYS_renameat2, libc::SYS_symlinkat, libc::SYS_ftruncate]
    {
        assert_eq!(verdict(&reader, architecture, number as u32, [0; 6]), DENY, "{number} by a reader");
    }
}
