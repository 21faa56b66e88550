//! From a list of system calls to a filter program: what is not on the list fails with EPERM.
//!
//! It fails and does not kill, so that a C library which asks for one harmless call more locks nobody out. Only a call by
//! another architecture's numbers, which no program of ours makes, ends the process. Instructions: Linux
//! `Documentation/networking/filter.rst` and `Documentation/userspace-api/seccomp_filter.rst`.

use nix::libc::{self, c_long, sock_filter};

/// `include/uapi/linux/audit.h`: the ELF machine, and whether it has 64 bits and is little-endian. `None` where our lists
/// are not known to be right: then there is no filter.
pub const ARCHITECTURE: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xc000_003e)
} else if cfg!(all(target_arch = "aarch64", target_endian = "little", target_pointer_width = "64")) {
    Some(0xc000_00b7)
} else if cfg!(all(target_arch = "arm", target_endian = "little")) {
    Some(0x4000_0028)
} else {
    None
};

/// Numbers from here on are those of x32 on x86_64 (`__X32_SYSCALL_BIT`), and of nothing on the others.
const X32: u32 = 0x4000_0000;

/// A system call that is allowed, if its arguments pass every check.
#[derive(Clone, Copy)]
pub struct Call {
    pub number: c_long,
    pub checks: &'static [Check],
}

/// A check of one argument, counted from 0.
#[derive(Clone, Copy)]
pub enum Check {
    /// Its low 32 bits (all that the kernel looks at in an `int`) are one of these.
    Is(u8, &'static [u32]),
    /// Its low 32 bits have none of these.
    Without(u8, u32),
    /// It is a null pointer.
    Null(u8),
    /// It is the process that is being confined.
    Own(u8),
}

/// `struct seccomp_data`: the number, the architecture, an address of 8 bytes, and six arguments of 8 bytes each.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// The program for the process `own`.
pub fn program(architecture: u32, calls: &[Call], own: u32) -> Vec<sock_filter> {
    let kill = finish(libc::SECCOMP_RET_KILL_PROCESS);
    let mut program = vec![load(ARCH), jump(libc::BPF_JEQ, architecture, 1, 0), kill, load(NUMBER)];
    program.extend([jump(libc::BPF_JGE, X32, 0, 1), kill]);
    for call in calls {
        let judge = judge(call, own);
        program.push(jump(libc::BPF_JEQ, call.number as u32, 0, distance(judge.len())));
        program.extend(judge);
    }
    program.push(finish(DENY));
    program
}

/// What follows when the number is this call's. Every way through it ends with a verdict.
fn judge(call: &Call, own: u32) -> Vec<sock_filter> {
    let mut judge = Vec::new();
    for check in call.checks {
        match *check {
            Check::Is(argument, values) => {
                judge.push(load(low(argument)));
                for (at, value) in values.iter().enumerate() {
                    judge.push(jump(libc::BPF_JEQ, *value, distance(values.len() - at), 0));
                }
                judge.push(finish(DENY));
            }
            Check::Without(argument, bits) => {
                judge.extend([load(low(argument)), jump(libc::BPF_JSET, bits, 0, 1), finish(DENY)]);
            }
            Check::Null(argument) => {
                judge.extend([load(low(argument)), jump(libc::BPF_JEQ, 0, 1, 0), finish(DENY)]);
                judge.extend([load(high(argument)), jump(libc::BPF_JEQ, 0, 1, 0), finish(DENY)]);
            }
            Check::Own(argument) => {
                judge.extend([load(low(argument)), jump(libc::BPF_JEQ, own, 1, 0), finish(DENY)]);
            }
        }
    }
    judge.push(finish(libc::SECCOMP_RET_ALLOW));
    judge
}

/// Where an argument's halves are: every architecture with a filter is little-endian.
fn low(argument: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(argument)
}

fn high(argument: u8) -> u32 {
    low(argument) + 4
}

/// A jump reaches no further than this; lists are far shorter.
fn distance(instructions: usize) -> u8 {
    u8::try_from(instructions).expect("no more than 255 instructions for one call")
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(test: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: then, jf: otherwise, k: value }
}

fn finish(verdict: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: verdict }
}

#[cfg(test)]
mod tests;
