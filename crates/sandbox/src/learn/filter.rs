//! The filter of a unit that is learned from, and the judgement of the ordinary one.
//!
//! A learning filter refuses nothing. What the ordinary one would refuse, and what is of interest among the rest, waits for the
//! listener. Which of the two a call was is found by running the ordinary programs on it once more, so that nobody has to
//! write down a second time what they let through.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompRule};

use crate::plan::{OnViolation, Seccomp};
use crate::report::Failure;
use crate::seccomp::{compile, conditional, known, rule};
use crate::syscalls::number;

/// Calls that are told whatever their arguments: files, programs, sockets, identity.
const TOLD: &[&str] = &[
    "open openat openat2 creat mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat",
    "mknod mknodat truncate chmod fchmodat fchmodat2 chown lchown fchown fchownat execve execveat socket bind connect",
    "setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid",
];

const WRITE: u64 = libc::PROT_WRITE as u64;
const EXECUTE: u64 = libc::PROT_EXEC as u64;

/// What is let through in silence, made from what the ordinary filter lets through.
pub(crate) fn silent(
    mut rules: BTreeMap<i64, Vec<SeccompRule>>,
    seccomp: &Seccomp,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, Failure> {
    for name in TOLD.iter().flat_map(|group| group.split(' ')) {
        if let Some(number) = number(name).flatten() {
            rules.remove(&number);
        }
    }
    let masked = |value| rule(2, SeccompCmpOp::MaskedEq(WRITE | EXECUTE), value);
    // Never writable and executable at once; never executable later on.
    rules.insert(libc::SYS_mmap, vec![masked(0)?, masked(WRITE)?, masked(EXECUTE)?]);
    for call in [libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(call, vec![rule(2, SeccompCmpOp::MaskedEq(EXECUTE), 0)?]);
    }
    // Without an address it goes to a peer that was told before.
    let connected = conditional(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_sendto, vec![connected]);
    // What was granted by name is told, so that a grant which nothing uses is found.
    for name in &seccomp.allow {
        if let Some(number) = known(name)? {
            rules.remove(&number);
        }
    }
    // The listener itself is handed over with these.
    for call in [libc::SYS_sendmsg, libc::SYS_close] {
        rules.insert(call, Vec::new());
    }
    Ok(rules)
}

const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The program with each "log" made an "ask the listener", which seccompiler has no word for.
pub(crate) fn told(mut program: BpfProgram) -> BpfProgram {
    let asks = |code: u16, k: u32| code == RETURN && k == libc::SECCOMP_RET_LOG;
    for step in program.iter_mut().filter(|step| asks(step.code, step.k)) {
        step.k = libc::SECCOMP_RET_USER_NOTIF;
    }
    program
}

/// The filter that the unit has when it is not learned from.
#[derive(Debug)]
pub(crate) struct Ordinary(Vec<BpfProgram>);

impl Ordinary {
    /// Of a plan's filter; what it says about calls outside the list does not matter.
    pub(crate) fn new(seccomp: &Seccomp) -> Result<Self, Failure> {
        let seccomp = Seccomp {
            on_violation: OnViolation::Errno,
            ..seccomp.clone()
        };
        compile(&seccomp).map(Self)
    }

    /// Whether it would refuse a call.
    pub(crate) fn refuses(&self, call: &libc::seccomp_data) -> bool {
        let data = layout(call);
        self.0
            .iter()
            .any(|program| run(program, &data) != libc::SECCOMP_RET_ALLOW)
    }
}

/// A call as the kernel lays it before a filter (`struct seccomp_data`).
fn layout(call: &libc::seccomp_data) -> [u8; 64] {
    let mut data = [0; 64];
    data[..4].copy_from_slice(&call.nr.to_ne_bytes());
    data[4..8].copy_from_slice(&call.arch.to_ne_bytes());
    data[8..16].copy_from_slice(&call.instruction_pointer.to_ne_bytes());
    for (slot, argument) in data[16..].chunks_exact_mut(8).zip(call.args) {
        slot.copy_from_slice(&argument.to_ne_bytes());
    }
    data
}

/// Runs a program of the instructions that seccompiler writes; one that is not known refuses.
fn run(program: &BpfProgram, data: &[u8; 64]) -> u32 {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    let (mut at, mut held) = (0usize, 0u32);
    while let Some(step) = program.get(at) {
        at += 1;
        let held_is = match step.code {
            RETURN => return step.k,
            LOAD => {
                let place = step.k as usize;
                let Some(word) = data.get(place..place + 4) else { break };
                held = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
                continue;
            }
            AND => {
                held &= step.k;
                continue;
            }
            JUMP => {
                at += step.k as usize;
                continue;
            }
            EQUAL => held == step.k,
            GREATER => held > step.k,
            AT_LEAST => held >= step.k,
            _ => break,
        };
        at += usize::from(if held_is { step.jt } else { step.jf });
    }
    libc::SECCOMP_RET_KILL_PROCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Profile;

    const ARCH: u32 = if cfg!(target_arch = "x86_64") {
        0xc000_003e
    } else {
        0xc000_00b7
    };

    fn call(nr: i64, args: [u64; 6]) -> libc::seccomp_data {
        libc::seccomp_data {
            nr: nr as i32,
            arch: ARCH,
            instruction_pointer: 0,
            args,
        }
    }

    fn ordinary(allow: &[&str]) -> Ordinary {
        Ordinary::new(&Seccomp {
            allow: allow.iter().map(|name| (*name).to_owned()).collect(),
            on_violation: OnViolation::UnsafeLearn,
            ..Seccomp::default()
        })
        .unwrap()
    }

    #[test]
    fn what_the_ordinary_filter_refuses_is_told_by_running_it() {
        let tight = ordinary(&[]);
        assert!(tight.refuses(&call(libc::SYS_mount, [0; 6])));
        assert!(!tight.refuses(&call(libc::SYS_openat, [0; 6])));
        // By arguments: families of sockets, flags of clone, also in the upper half of a word.
        let socket = |family: i32| call(libc::SYS_socket, [family as u64, 1, 0, 0, 0, 0]);
        assert!(!tight.refuses(&socket(libc::AF_INET6)));
        assert!(tight.refuses(&socket(libc::AF_PACKET)));
        let clone = |flags: i32| call(libc::SYS_clone, [flags as u64, 0, 0, 0, 0, 0]);
        assert!(!tight.refuses(&clone(libc::CLONE_VM)));
        assert!(tight.refuses(&clone(libc::CLONE_NEWUSER | libc::CLONE_VM)));
        assert!(tight.refuses(&call(libc::SYS_clone3, [0; 6])));
        let wide = ordinary(&["mount", "socket", "clone3"]);
        for granted in [call(libc::SYS_mount, [0; 6]), socket(libc::AF_PACKET)] {
            assert!(!wide.refuses(&granted));
        }
        assert!(!wide.refuses(&call(libc::SYS_clone3, [0; 6])));
        let mut other = call(libc::SYS_openat, [0; 6]);
        other.arch = 0x4000_0003;
        assert!(tight.refuses(&other), "32-bit calls");
    }

    /// What the learning program answers.
    fn answer(allow: &[&str], call: &libc::seccomp_data) -> u32 {
        let seccomp = Seccomp {
            allow: allow.iter().map(|name| (*name).to_owned()).collect(),
            on_violation: OnViolation::UnsafeLearn,
            ..Seccomp::default()
        };
        let programs = compile(&seccomp).unwrap();
        assert_eq!(programs.len() as u32, seccomp.programs());
        run(programs.last().unwrap(), &layout(call))
    }

    #[test]
    fn a_learning_filter_refuses_nothing_and_tells_what_is_refused_granted_or_of_interest() {
        const TELL: u32 = libc::SECCOMP_RET_USER_NOTIF;
        const PASS: u32 = libc::SECCOMP_RET_ALLOW;
        let prot = |call_number, prot: i32| call(call_number, [0, 4096, prot as u64, 0x22, 0, 0]);
        let (r, w, x) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        for (call, want) in [
            (call(libc::SYS_mount, [0; 6]), TELL),
            (call(libc::SYS_openat, [0; 6]), TELL),
            (call(libc::SYS_read, [0; 6]), PASS),
            (call(libc::SYS_sendmsg, [0; 6]), PASS),
            (call(libc::SYS_sendto, [3, 1, 1, 0, 0, 0]), PASS),
            (call(libc::SYS_sendto, [3, 1, 1, 0, 1 << 40, 16]), TELL),
            (prot(libc::SYS_mmap, r | x), PASS),
            (prot(libc::SYS_mmap, r | w), PASS),
            (prot(libc::SYS_mmap, r | w | x), TELL),
            (prot(libc::SYS_mprotect, r), PASS),
            (prot(libc::SYS_mprotect, r | x), TELL),
        ] {
            assert_eq!(answer(&[], &call), want, "{} {:?}", call.nr, call.args);
        }
        assert_eq!(answer(&[], &call(libc::SYS_getpid, [0; 6])), PASS);
        assert_eq!(answer(&["getpid"], &call(libc::SYS_getpid, [0; 6])), TELL, "a grant");
    }

    #[test]
    fn learning_without_the_profile_is_refused_since_the_listener_could_not_be_handed_over() {
        let seccomp = Seccomp {
            profile: Profile::Empty,
            on_violation: OnViolation::UnsafeLearn,
            ..Seccomp::default()
        };
        assert!(compile(&seccomp).unwrap_err().to_string().contains("service profile"));
    }

    #[test]
    fn every_told_name_is_a_system_call() {
        for name in TOLD.iter().flat_map(|group| group.split(' ')) {
            assert!(number(name).is_some(), "{name}");
        }
    }
}
