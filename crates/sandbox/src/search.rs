//! A filter that finds a call by halving.
//!
//! Before a filter is in force the kernel goes through it once for each system call there is, to know which need not be asked
//! again, and it compiles it; a comparison for each allowed call, one after the other, makes both slow. Here calls whose
//! arguments do not matter are found by a tree of comparisons. The others are left to seccompiler's program, at the end.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter};

use crate::report::Failure;

/// Instructions of classic BPF (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const CALL: u32 = 0;
const ARCH: u32 = 4;
/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64` (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const OWN_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OWN_ARCH: u32 = 0xc000_00b7;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Matched,
    Other,
    /// Its arguments decide.
    Asked,
    /// Not done here, whatever the rules say.
    Answered(Answer),
}

/// What answers a call that the kernel does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This error; 0 is success.
    Number(u16),
    /// Whoever listens.
    Listener,
}

/// As [`SeccompFilter`]'s program: `matched` for a call with an empty list of rules or one of whose rules fits, `other` for the
/// rest, and death for a call of another architecture.
pub(crate) fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    other: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Failure> {
    program_answering(&[], rules, other, matched)
}

/// The same, where some calls are answered in another way, whatever the rules say.
pub(crate) fn program_answering(
    answers: &[(i64, Answer)],
    mut rules: BTreeMap<i64, Vec<SeccompRule>>,
    other: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Failure> {
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    for (call, rules) in &rules {
        let call = u32::try_from(*call).map_err(failed)?;
        fates.insert(call, if rules.is_empty() { Fate::Matched } else { Fate::Asked });
    }
    for (call, answer) in answers {
        rules.remove(call);
        fates.insert(u32::try_from(*call).map_err(failed)?, Fate::Answered(*answer));
    }
    rules.retain(|_, rules| !rules.is_empty());
    let asked: BpfProgram = if rules.is_empty() {
        Vec::new()
    } else {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
        SeccompFilter::new(rules, other.clone(), matched.clone(), arch)
            .and_then(TryInto::try_into)
            .map_err(failed)?
    };
    let ends = Ends {
        matched: matched.into(),
        other: other.into(),
    };
    let mut all = vec![
        step(LOAD, ARCH),
        branch(JUMP_EQUAL, OWN_ARCH, 1, 0),
        step(RETURN, SeccompAction::KillProcess.into()),
        step(LOAD, CALL),
    ];
    // A tree is made from its end, so that every way forward is known.
    all.extend(ends.tree(&stretches(&fates), 0));
    all.extend(asked);
    Ok(all)
}

/// The first call of each stretch of calls with one fate, from 0 up.
fn stretches(fates: &BTreeMap<u32, Fate>) -> Vec<(u32, Fate)> {
    let mut found = vec![(0, Fate::Other)];
    let mut add = |from: u32, fate: Fate| match found.last_mut() {
        Some((_, last)) if *last == fate => {}
        Some((first, last)) if *first == from => *last = fate,
        _ => found.push((from, fate)),
    };
    for (call, fate) in fates {
        add(*call, *fate);
        if !fates.contains_key(&(call + 1)) {
            add(call + 1, Fate::Other);
        }
    }
    found
}

struct Ends {
    matched: u32,
    other: u32,
}

impl Ends {
    /// The tree of these stretches, of which there is at least one. The program for calls that are asked stands `after`
    /// instructions behind its end.
    fn tree(&self, stretches: &[(u32, Fate)], after: usize) -> BpfProgram {
        let half = stretches.len() / 2;
        let (below, [(first, fate), ..]) = stretches.split_at(half) else {
            return Vec::new();
        };
        if below.is_empty() {
            return vec![match fate {
                Fate::Matched => step(RETURN, self.matched),
                Fate::Other => step(RETURN, self.other),
                Fate::Asked => step(JUMP, after as u32),
                Fate::Answered(Answer::Number(number)) => step(RETURN, SeccompAction::Errno(u32::from(*number)).into()),
                // For which seccompiler has no word.
                Fate::Answered(Answer::Listener) => step(RETURN, libc::SECCOMP_RET_USER_NOTIF),
            }];
        }
        let upper = self.tree(&stretches[half..], after);
        let lower = self.tree(below, after + upper.len());
        let mut all = match u8::try_from(lower.len()) {
            Ok(over) => vec![branch(JUMP_AT_LEAST, *first, over, 0)],
            // Further than a branch reaches.
            Err(_) => vec![branch(JUMP_AT_LEAST, *first, 0, 1), step(JUMP, lower.len() as u32)],
        };
        all.extend(lower);
        all.extend(upper);
        all
    }
}

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new("seccomp", "filter", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// What the kernel would answer (Documentation/networking/filter, the part that these programs use), and how many
    /// instructions it took.
    fn run(program: &BpfProgram, arch: u32, call: u32, arguments: [u64; 6]) -> (u32, usize) {
        let mut data = [call, arch, 0, 0].map(u32::to_ne_bytes).concat();
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let (mut at, mut a, mut steps) = (0, 0u32, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            steps += 1;
            at += 1;
            let taken = match code {
                LOAD => {
                    a = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().unwrap());
                    continue;
                }
                0x54 => {
                    a &= k;
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return (k, steps),
                JUMP_EQUAL => a == k,
                JUMP_AT_LEAST => a >= k,
                0x25 => a > k,
                _ => panic!("instruction {code:#x}"),
            };
            at += usize::from(if taken { jt } else { jf });
        }
    }

    fn judge(rules: &Rules, other: SeccompAction, matched: SeccompAction) {
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let theirs: BpfProgram = SeccompFilter::new(rules.clone(), other.clone(), matched.clone(), arch)
            .unwrap()
            .try_into()
            .unwrap();
        let ours = program(rules.clone(), other, matched).unwrap();
        let calls = (0..2_000).chain([0x4000_0000, 0x4000_0001, 0x4000_0038, 0x7fff_ffff, u32::MAX]);
        for call in calls {
            for first in [
                0,
                1,
                2,
                3,
                10,
                16,
                0x1000_0000,
                0x1000_0001,
                0xffff_ffff,
                1 << 32,
                1 << 33 | 1,
            ] {
                for second in [0, 7] {
                    let arguments = [first, second, 0, 0, 0, 0];
                    let answer = run(&ours, OWN_ARCH, call, arguments).0;
                    assert_eq!(
                        answer,
                        run(&theirs, OWN_ARCH, call, arguments).0,
                        "{call} {arguments:?}"
                    );
                }
            }
        }
        for arch in [0x4000_0003, 0, OWN_ARCH ^ 1] {
            assert_eq!(run(&ours, arch, 1, [0; 6]).0, u32::from(SeccompAction::KillProcess));
        }
    }

    fn fits(argument: u8, value: u64) -> SeccompRule {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    }

    const REFUSED: SeccompAction = SeccompAction::Errno(1);

    #[test]
    fn every_call_gets_the_answer_of_a_filter_that_looks_at_one_after_the_other() {
        let service = crate::seccomp::rules(&crate::Seccomp::default()).unwrap();
        judge(&service, REFUSED, SeccompAction::Allow);
        judge(&service, SeccompAction::KillProcess, SeccompAction::Log);
        let clone3 = Rules::from([(435, vec![])]);
        judge(&clone3, SeccompAction::Allow, SeccompAction::Errno(38));
        judge(&Rules::new(), REFUSED, SeccompAction::Allow);
    }

    #[test]
    fn calls_at_the_edges_and_side_by_side_are_told_apart() {
        let both = vec![fits(0, 1), fits(1, 7)];
        judge(
            &Rules::from([(0, vec![]), (1, both.clone()), (2, vec![])]),
            REFUSED,
            SeccompAction::Allow,
        );
        judge(
            &Rules::from([(0, both.clone()), (1, both), (3, vec![])]),
            REFUSED,
            SeccompAction::Allow,
        );
    }

    #[test]
    fn a_tree_that_is_larger_than_a_branch_reaches_holds_too() {
        let every_other: Rules = (0..1_500).step_by(2).map(|call| (call, vec![])).collect();
        assert!(
            program(every_other.clone(), REFUSED, SeccompAction::Allow)
                .unwrap()
                .len()
                > 1_024
        );
        judge(&every_other, REFUSED, SeccompAction::Allow);
    }

    #[test]
    fn a_call_is_found_in_few_steps() {
        let service = crate::seccomp::rules(&crate::Seccomp::default()).unwrap();
        let program = program(service, REFUSED, SeccompAction::Allow).unwrap();
        let most = (0..600)
            .map(|call| run(&program, OWN_ARCH, call, [0; 6]).1)
            .max()
            .unwrap();
        assert!(most < 40, "{most} steps, {} instructions", program.len());
    }
}
