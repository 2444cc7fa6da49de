//! The plan: everything that one sandboxed process may see and do, as a plain value.
//!
//! A plan is made by whoever knows the unit or the tool, printed, compared, sent as JSON and applied by
//! the application. It holds no handles and reads no files. Unknown keys are refused. [`Plan::new`] is the tightest
//! useful plan (own everything, no capabilities, no network but loopback); the rest is granted by changing fields.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::mounts::{Mount, Root};
use crate::network::Network;

/// The first descriptor number that a plan's [`Plan::listen_fds`] have in the helper (3 is the plan, 4 the status socket).
pub const FIRST_LISTEN_FD: i32 = 5;

/// One sandbox and the command that runs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The unit's or tool's name, for messages only.
    pub name: String,
    /// Which host ids the process's ids are.
    pub ids: Ids,
    /// The namespaces that are new. User and network follow from `ids` and `network`; the mount namespace is always new.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// The host name inside, at most 64 bytes; needs `namespaces.uts`.
    #[serde(default)]
    pub hostname: Option<String>,
    /// What `/` is. Always mounted read-only, without set-user-ID and without device nodes.
    pub root: Root,
    /// Mounted in this order, so a later one can lie on an earlier one. Missing targets are made where the place is
    /// writable (on a `tmpfs`, say); on the read-only root a missing target fails the start.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Paths inside hidden behind `/dev/null` (files) or an empty read-only folder. Under `/proc` a missing one is nothing
    /// to hide; elsewhere it fails the start.
    #[serde(default)]
    pub masked: Vec<PathBuf>,
    /// Paths inside made read-only where they are. Missing ones are treated as in `masked`.
    #[serde(default)]
    pub read_only: Vec<PathBuf>,
    /// Who the command is, inside.
    #[serde(default)]
    pub user: User,
    /// The whole environment: nothing is inherited. `NOTIFY_SOCKET` and `LISTEN_*` are added from the fields below.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The working folder inside.
    #[serde(default = "root_path")]
    pub cwd: PathBuf,
    /// The command; the first is an absolute path inside.
    pub argv: Vec<String>,
    /// The file creation mask, 0 to 0o777.
    #[serde(default = "default_umask")]
    pub umask: u32,
    /// Resource limits; what is not listed is inherited.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Kernel settings of the sandbox's own namespaces, written before `/proc/sys` becomes read-only: dotted names that
    /// start with `net.` (needs an own network).
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities left; none by default.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Refuse privileges by exec (set-user-ID, file capabilities). Default true.
    #[serde(default = "yes")]
    pub no_new_privs: bool,
    /// Let memory be writable and executable, or become executable after it was writable (just-in-time compilers). Default
    /// false: refused by `PR_SET_MDWE`, Linux 6.3.
    #[serde(default)]
    pub writable_code: bool,
    /// The system call allowlist; none lets every call through.
    #[serde(default)]
    pub seccomp: Option<Seccomp>,
    /// Landlock over the same paths as the mounts: read and execute everywhere, write only on writable mounts. Default true;
    /// fails the start on a kernel that cannot (before 6.12).
    #[serde(default = "yes")]
    pub landlock: bool,
    /// -1000 to 1000; higher is killed first. None inherits.
    #[serde(default)]
    pub oom_score_adj: Option<i16>,
    /// The network inside.
    #[serde(default)]
    pub network: Network,
    /// Names of the sockets passed to the service by the `sd_listen_fds` protocol: descriptors [`FIRST_LISTEN_FD`].. of the
    /// helper become 3.. of the command, in this order, with `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` set.
    #[serde(default)]
    pub listen_fds: Vec<String>,
    /// Path inside of the notification socket, set as `NOTIFY_SOCKET`. The socket itself is bound by a mount.
    #[serde(default)]
    pub notify_socket: Option<PathBuf>,
    /// Run a small PID 1 that reaps orphans, forwards signals to the command and ends with its status. Default true.
    /// Without it the command is PID 1 itself.
    #[serde(default = "yes")]
    pub reaper: bool,
}

impl Plan {
    /// The tightest plan for `argv` with `root` as `/`: a private range of 65,536 ids from `base_id` with an idmapped root,
    /// all namespaces new, `/proc`, a minimal `/dev` and a 64 MiB `/tmp`, loopback only (ports from 1 up need no capability
    /// there), no capabilities, the `service` system calls, Landlock, reaper.
    #[must_use]
    pub fn new(name: &str, root: &Path, base_id: u32, argv: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            ids: Ids::Range {
                base: base_id,
                count: 65_536,
            },
            namespaces: Namespaces::default(),
            hostname: None,
            root: Root::Tree {
                path: root.to_owned(),
                idmapped: true,
            },
            mounts: vec![
                Mount::Proc { target: "/proc".into() },
                Mount::Dev {
                    target: "/dev".into(),
                    shm_size: Some(64 << 20),
                    extra: Vec::new(),
                },
                Mount::Tmpfs {
                    target: "/tmp".into(),
                    size: 64 << 20,
                    mode: 0o1777,
                    uid: 0,
                    gid: 0,
                    exec: false,
                },
            ],
            masked: masked_by_default(),
            read_only: read_only_by_default(),
            user: User::default(),
            env: BTreeMap::new(),
            cwd: root_path(),
            argv,
            umask: default_umask(),
            rlimits: Vec::new(),
            sysctls: BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "1".to_owned())]),
            capabilities: Capabilities::default(),
            no_new_privs: true,
            writable_code: false,
            seccomp: Some(Seccomp::default()),
            landlock: true,
            oom_score_adj: None,
            network: Network::Loopback,
            listen_fds: Vec::new(),
            notify_socket: None,
            reaper: true,
        }
    }
}

/// The parts of `/proc` that tell about the host and that no service needs: [`Plan::new`] hides them.
#[must_use]
pub fn masked_by_default() -> Vec<PathBuf> {
    [
        "acpi",
        "asound",
        "kallsyms",
        "kcore",
        "keys",
        "key-users",
        "kmsg",
        "latency_stats",
        "sched_debug",
        "scsi",
        "slabinfo",
        "sysrq-trigger",
        "timer_list",
        "vmallocinfo",
        "modules",
        "config.gz",
    ]
    .iter()
    .map(|name| Path::new("/proc").join(name))
    .collect()
}

/// The parts of `/proc` that can be read but never written: [`Plan::new`] makes them read-only.
#[must_use]
pub fn read_only_by_default() -> Vec<PathBuf> {
    ["sys", "bus", "fs", "irq"]
        .iter()
        .map(|name| Path::new("/proc").join(name))
        .collect()
}

/// How ids inside relate to ids of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ids {
    /// A user namespace where 0..`count` inside is `base`.. outside. Needs real root.
    Range {
        /// The first host id, never 0.
        base: u32,
        /// How many, at least 1.
        count: u32,
    },
    /// A user namespace where 0 inside is the caller and there is nobody else. Works without privileges.
    Single,
    /// No user namespace: ids inside are the host's. An exception that a unit has to state. Needs real root.
    Host,
}

/// Namespaces that are new for the sandbox; all by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Namespaces {
    /// Own process ids: host processes do not exist inside. Needed by the reaper.
    pub pid: bool,
    /// Own System V and POSIX message queues and shared memory.
    pub ipc: bool,
    /// Own host name.
    pub uts: bool,
    /// Own cgroup root: paths outside are not shown.
    pub cgroup: bool,
    /// Own monotonic and boot clocks.
    pub time: bool,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            pid: true,
            ipc: true,
            uts: true,
            cgroup: true,
            time: true,
        }
    }
}

/// The command's identity, in ids inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups; must be empty with [`Ids::Single`].
    #[serde(default)]
    pub groups: Vec<u32>,
}

/// One resource limit (setrlimit(2)). `u64::MAX` is unlimited. Raising the hard limit needs real root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Which.
    pub resource: Resource,
    /// The limit in force.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// The resources that setrlimit(2) limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rtprio,
    Sigpending,
    Stack,
}

/// The capabilities left, by name (`CAP_NET_BIND_SERVICE`). They hold over the sandbox's own namespaces only, unless
/// [`Ids::Host`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    /// What root inside or a file capability can have at most.
    pub bounding: Vec<String>,
    /// What the command has from the start as whatever user; must be in `bounding`.
    pub ambient: Vec<String>,
}

impl Capabilities {
    /// The names' bits as the kernel prints them; none if one is not a capability's name.
    #[must_use]
    pub fn mask(names: &[String]) -> Option<u64> {
        names.iter().try_fold(0, |mask, name| {
            let capability: caps::Capability = name.parse().ok()?;
            Some(mask | capability.bitmask())
        })
    }

    /// The names of a mask's bits.
    #[must_use]
    pub fn names(mask: u64) -> Vec<String> {
        let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
        all.sort_by_key(|capability| capability.index());
        let set = all.iter().filter(|capability| mask & capability.bitmask() != 0);
        set.map(ToString::to_string).collect()
    }
}

/// The system call filter: the profile, and additions and removals by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seccomp {
    /// The starting set.
    pub profile: Profile,
    /// Calls also allowed, whatever their arguments.
    pub allow: Vec<String>,
    /// Calls refused though the profile has them.
    pub deny: Vec<String>,
    /// What a refused call does.
    pub on_violation: OnViolation,
    /// Calls that wait for the disk (fsync, fdatasync, msync, sync, syncfs, sync_file_range) succeed at once and do nothing: for work
    /// that is flushed as a whole afterwards, or not kept at all.
    #[serde(skip_serializing_if = "is_false")]
    pub skip_sync: bool,
    /// Calls that read and set the machine's clock (adjtimex, clock_adjtime, clock_settime, settimeofday) wait for a
    /// [`crate::clock::Keeper`]. Its listener comes over the status socket with [`crate::Report::Listener`], and until it is read the
    /// command waits.
    #[serde(skip_serializing_if = "is_false")]
    pub clock: bool,
}

impl Seccomp {
    /// How many programs it is for the kernel: the allowlist, and to learn one before it that makes clone3 unknown.
    #[must_use]
    pub fn programs(&self) -> u32 {
        1 + u32::from(self.on_violation == OnViolation::UnsafeLearn && self.hides_clone3())
    }

    /// Whether some calls wait for a listener.
    pub(crate) fn has_listener(&self) -> bool {
        self.clock || self.on_violation == OnViolation::UnsafeLearn
    }

    /// Whether clone3 is answered as if the kernel lacked it: always, unless it is granted.
    pub(crate) fn hides_clone3(&self) -> bool {
        self.allow.iter().all(|name| name != "clone3")
    }
}

/// A named set of system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// What an ordinary daemon uses. No mount, modules, ptrace, reboot, clocks, keyrings, bpf, perf, namespaces, io_uring;
    /// sockets of the Unix, IPv4, IPv6 and netlink families only.
    #[default]
    Service,
    /// Nothing: only what `allow` lists.
    Empty,
}

/// What a system call outside the list does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnViolation {
    /// Fails with `EPERM`.
    #[default]
    Errno,
    /// Kills the process with `SIGSYS`.
    Kill,
    /// Is let through and logged by the kernel; never for a shipped unit.
    UnsafeLog,
    /// Is let through after it was told on a listener, as are calls of interest that the list has: see [`crate::learn`]. The
    /// listener comes over the status socket with [`crate::Report::Listener`], and until it is read the command waits.
    UnsafeLearn,
}

impl OnViolation {
    /// Whether such a call is not done.
    #[must_use]
    pub fn refuses(self) -> bool {
        matches!(self, Self::Errno | Self::Kill)
    }
}

fn yes() -> bool {
    true
}

fn is_false(value: &bool) -> bool {
    !value
}

fn root_path() -> PathBuf {
    PathBuf::from("/")
}

fn default_umask() -> u32 {
    0o022
}

/// A file's content with the mode and owner that the sandbox gives it; a convenience for [`Mount::File`].
#[must_use]
pub fn file(target: &str, content: impl Into<Vec<u8>>, mode: u32) -> Mount {
    Mount::File {
        target: target.into(),
        content: Content::new(content),
        mode,
        uid: 0,
        gid: 0,
    }
}
