//! The system call filter: from names to the kernel's programs.
//!
//! The filter is an allowlist. clone3, whose flags a filter cannot see, is answered `ENOSYS`; every libc then falls back to
//! clone, whose flags are checked. Calls of another architecture (32-bit x86) kill the process.
//!
//! While a unit is learned from, the allowlist is another program, made by [`crate::learn`], and clone3 has one of its own before
//! it. For the kernel the stricter answer of the two counts.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::clock;
use crate::learn::filter;
use crate::plan::{OnViolation, Profile, Seccomp};
use crate::report::Failure;
use crate::search::{self, Answer};
use crate::syscalls::{here, number};

/// The groups of the `service` profile.
const SERVICE: &[&str] = &[
    // files
    "access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fallocate",
    "fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat",
    "fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1",
    "inotify_rm_watch lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod",
    "mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead",
    "readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx symlink",
    "symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev ioctl",
    "fanotify_mark cachestat",
    // memory
    "brk madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap",
    "pkey_alloc pkey_free pkey_mprotect get_mempolicy mbind set_mempolicy map_shadow_stack mseal remap_file_pages",
    // processes, threads and signals
    "arch_prctl capget capset execve execveat exit exit_group fork futex futex_wait futex_waitv futex_wake futex_requeue",
    "get_robust_list getpgid getpgrp getpid getppid getpriority getrandom getrlimit getrusage getsid gettid kill pause pidfd_open",
    "pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn",
    "rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr",
    "sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler",
    "sched_yield set_robust_list set_tid_address setpgid setpriority setrlimit setsid sigaltstack tgkill tkill vfork wait4 waitid",
    "ioprio_get ioprio_set getcpu landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp uname sysinfo times",
    "signalfd signalfd4 process_madvise process_mrelease clone3",
    // identity
    "getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups setregid setresgid setresuid",
    "setreuid setuid",
    // events, pipes, message queues, asynchronous input and output
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 pipe",
    "pipe2 poll ppoll pselect6 select io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit mq_getsetattr mq_notify",
    "mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt",
    "shmget",
    // network; socket itself is below
    "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto",
    "setsockopt shutdown socketpair",
    // time: reading and waiting, not setting
    "alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create timer_delete",
    "timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime",
];

/// Their numbers here, found when this is compiled: at every start it would take longer than all else that leads to the filter.
const NUMBERS: [Option<i64>; count(SERVICE)] = numbers(SERVICE);

const fn count(groups: &[&str]) -> usize {
    let (mut group, mut count) = (0, 0);
    while group < groups.len() {
        let (bytes, mut at) = (groups[group].as_bytes(), 0);
        count += 1;
        while at < bytes.len() {
            count += (bytes[at] == b' ') as usize;
            at += 1;
        }
        group += 1;
    }
    count
}

const fn numbers<const COUNT: usize>(groups: &[&str]) -> [Option<i64>; COUNT] {
    let (mut group, mut found, mut next) = (0, [None; COUNT], 0);
    while group < groups.len() {
        let mut rest = groups[group].as_bytes();
        loop {
            let mut end = 0;
            while end < rest.len() && rest[end] != b' ' {
                end += 1;
            }
            let (name, after) = rest.split_at(end);
            found[next] = here(name);
            next += 1;
            let [_, after @ ..] = after else { break };
            rest = after;
        }
        group += 1;
    }
    found
}

/// The calls that wait until something is on the disk.
const SYNC: &[&str] = &["fdatasync", "fsync", "msync", "sync", "sync_file_range", "syncfs"];

/// The flags of clone that make a new namespace, `CLONE_NEWTIME` aside, which clone cannot carry.
const NAMESPACE_FLAGS: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Compiles the filter: the programs to install, in order.
pub(crate) fn compile(seccomp: &Seccomp) -> Result<Vec<BpfProgram>, Failure> {
    if seccomp.has_listener() && seccomp.profile != Profile::Service {
        let why = "what has a listener needs the service profile: with less it could not be handed over";
        return Err(Failure::new("seccomp", "listener", why));
    }
    let refused = match seccomp.on_violation {
        OnViolation::Errno => SeccompAction::Errno(libc::EPERM as u32),
        OnViolation::Kill => SeccompAction::KillProcess,
        OnViolation::UnsafeLog => SeccompAction::Log,
        OnViolation::UnsafeLearn => return learning(seccomp),
    };
    let program = search::program_answering(&answers(seccomp)?, rules(seccomp)?, refused, SeccompAction::Allow)?;
    Ok(vec![program])
}

/// The calls that wait for a listener.
fn waiting(seccomp: &Seccomp) -> Result<Vec<i64>, Failure> {
    let calls = clock::CALLS.iter().filter(|_| seccomp.clock);
    calls.filter_map(|name| known(name).transpose()).collect()
}

/// The calls that are not done, and what they are answered.
fn answers(seccomp: &Seccomp) -> Result<Vec<(i64, Answer)>, Failure> {
    let mut answers: Vec<_> = waiting(seccomp)?
        .into_iter()
        .map(|call| (call, Answer::Listener))
        .collect();
    if seccomp.hides_clone3() {
        answers.push((libc::SYS_clone3, Answer::Number(libc::ENOSYS as u16)));
    }
    for name in SYNC.iter().filter(|_| seccomp.skip_sync) {
        // What the unit may not call stays refused.
        let denied = seccomp.deny.iter().any(|denied| denied == name);
        if let Some(number) = known(name)?.filter(|_| !denied) {
            answers.push((number, Answer::Number(0)));
        }
    }
    Ok(answers)
}

/// The programs of a unit that is learned from. The last one has to be installed with a listener.
fn learning(seccomp: &Seccomp) -> Result<Vec<BpfProgram>, Failure> {
    if seccomp.clock {
        let why = "a unit that keeps the clock is not learned from: it has a listener already";
        return Err(Failure::new("seccomp", "listener", why));
    }
    let mut programs = Vec::new();
    if seccomp.hides_clone3() {
        let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
        programs.push(search::program(rules, SeccompAction::Allow, unknown)?);
    }
    let silent = filter::silent(rules(seccomp)?, seccomp)?;
    programs.push(filter::told(search::program(
        silent,
        SeccompAction::Log,
        SeccompAction::Allow,
    )?));
    Ok(programs)
}

pub(crate) fn rules(seccomp: &Seccomp) -> Result<BTreeMap<i64, Vec<SeccompRule>>, Failure> {
    let mut rules = BTreeMap::new();
    if seccomp.profile == Profile::Service {
        rules.extend(NUMBERS.iter().flatten().map(|number| (*number, Vec::new())));
        rules.insert(
            libc::SYS_clone,
            vec![rule(0, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)?],
        );
        let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
        let families: Result<_, _> = families
            .iter()
            .map(|family| rule(0, SeccompCmpOp::Eq, *family as u64))
            .collect();
        rules.insert(libc::SYS_socket, families?);
        // Asking for the personality, and setting the ordinary one.
        let personalities = [0xffff_ffff, 0].map(|value| rule(0, SeccompCmpOp::Eq, value));
        rules.insert(
            libc::SYS_personality,
            personalities.into_iter().collect::<Result<_, _>>()?,
        );
    }
    for name in &seccomp.allow {
        if let Some(number) = known(name)? {
            rules.insert(number, Vec::new());
        }
    }
    for name in &seccomp.deny {
        if let Some(number) = known(name)? {
            rules.remove(&number);
        }
    }
    Ok(rules)
}

/// The names of the calls that a filter lets through, some of them only with certain arguments.
pub(crate) fn names(seccomp: &Seccomp) -> Vec<&str> {
    let profile = match seccomp.profile {
        Profile::Service => SERVICE,
        Profile::Empty => &[],
    };
    let conditional = ["clone", "socket", "personality"]
        .into_iter()
        .filter(|_| !profile.is_empty());
    let profile = profile.iter().flat_map(|group| group.split(' '));
    // clone3 is answered as if the kernel lacked it.
    let mut names: Vec<&str> = profile.filter(|name| *name != "clone3").chain(conditional).collect();
    names.extend(seccomp.allow.iter().map(String::as_str));
    names.retain(|name| !seccomp.deny.iter().any(|denied| denied == name));
    names
}

/// The number of a call that a plan names, none where this machine lacks it.
pub(crate) fn known(name: &str) -> Result<Option<i64>, Failure> {
    number(name).ok_or_else(|| {
        Failure::new(
            "seccomp",
            name,
            "there is no system call of this name; correct the allow or deny list",
        )
    })
}

pub(crate) fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Failure> {
    conditional(argument, SeccompCmpArgLen::Dword, operator, value)
}

/// As [`rule`], for an argument of this length.
pub(crate) fn conditional(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, Failure> {
    let condition = SeccompCondition::new(argument, length, operator, value).map_err(failed)?;
    SeccompRule::new(vec![condition]).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new("seccomp", "filter", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_profile_is_a_system_call() {
        for name in SERVICE.iter().flat_map(|group| group.split(' ')) {
            assert!(number(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_profile_leaves_out_what_reaches_the_host() {
        let rules = rules(&Seccomp::default()).unwrap();
        for name in "mount umount2 move_mount open_tree fsopen mount_setattr pivot_root chroot init_module finit_module \
                     delete_module ptrace process_vm_readv process_vm_writev reboot kexec_load clock_settime settimeofday \
                     adjtimex clock_adjtime keyctl add_key request_key bpf perf_event_open unshare setns userfaultfd \
                     io_uring_setup open_by_handle_at syslog swapon quotactl iopl ioperm acct kcmp pidfd_getfd"
            .split_whitespace()
        {
            let number = number(name).unwrap_or_else(|| panic!("{name}"));
            assert!(number.is_none_or(|number| !rules.contains_key(&number)), "{name}");
        }
    }

    #[test]
    fn the_constant_has_the_number_of_every_name() {
        let names = SERVICE.iter().flat_map(|group| group.split(' '));
        let found: Vec<_> = names.map(|name| number(name).unwrap()).collect();
        assert_eq!(found, NUMBERS);
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        let seccomp = Seccomp {
            allow: vec!["opan".into()],
            ..Seccomp::default()
        };
        let failure = compile(&seccomp).unwrap_err();
        assert_eq!(
            (failure.step.as_str(), failure.path.to_str()),
            ("seccomp", Some("opan"))
        );
    }

    #[test]
    fn there_are_as_many_programs_as_said() {
        let with = Seccomp {
            allow: vec!["clone3".into()],
            ..Seccomp::default()
        };
        for seccomp in [Seccomp::default(), with] {
            assert_eq!(compile(&seccomp).unwrap().len() as u32, seccomp.programs());
        }
    }

    #[test]
    fn where_nothing_waits_for_the_disk_such_calls_are_answered_and_stay_refused_where_they_were() {
        let mut seccomp = Seccomp::default();
        let success = |seccomp: &Seccomp| {
            answers(seccomp)
                .unwrap()
                .iter()
                .filter(|(_, answer)| *answer == Answer::Number(0))
                .count()
        };
        assert_eq!(success(&seccomp), 0);
        seccomp.skip_sync = true;
        assert_eq!(success(&seccomp), SYNC.len());
        assert!(
            answers(&seccomp)
                .unwrap()
                .contains(&(libc::SYS_fsync, Answer::Number(0)))
        );
        seccomp.deny.push("fsync".into());
        assert!(
            !answers(&seccomp)
                .unwrap()
                .contains(&(libc::SYS_fsync, Answer::Number(0)))
        );
    }

    #[test]
    fn the_clocks_calls_wait_where_the_unit_keeps_the_clock_and_nowhere_else() {
        let mut seccomp = Seccomp::default();
        let asks = |seccomp: &Seccomp| {
            let programs = compile(seccomp).unwrap();
            let asks = |step: &seccompiler::sock_filter| step.code == 6 && step.k == libc::SECCOMP_RET_USER_NOTIF;
            programs.iter().flatten().filter(|step| asks(step)).count()
        };
        assert_eq!((asks(&seccomp), seccomp.has_listener()), (0, false));
        seccomp.clock = true;
        assert!(asks(&seccomp) > 0 && seccomp.has_listener());
        assert_eq!(waiting(&seccomp).unwrap().len(), clock::CALLS.len());
        seccomp.on_violation = OnViolation::UnsafeLearn;
        assert!(compile(&seccomp).unwrap_err().to_string().contains("keeps the clock"));
    }

    #[test]
    fn a_denied_call_leaves_the_profile() {
        let seccomp = Seccomp {
            deny: vec!["socket".into()],
            ..Seccomp::default()
        };
        assert!(!rules(&seccomp).unwrap().contains_key(&libc::SYS_socket));
    }
}
