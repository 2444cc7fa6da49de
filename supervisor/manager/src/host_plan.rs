//! Sandboxes of the host's own programs.

use std::path::{Path, PathBuf};

use cairn_sandbox::{Capabilities, Ids, Mount, Namespaces, Network, Plan, Root};

/// A program of the host root, as the host's root, with these capabilities.
pub fn host_program(name: &str, root: &Path, argv: Vec<String>, capabilities: &[&str]) -> Plan {
    let mut plan = Plan::new(name, root, 1, argv);
    plan.ids = Ids::Host;
    plan.root = Root::Tree {
        path: root.to_owned(),
        idmapped: false,
    };
    plan.namespaces = Namespaces {
        pid: false,
        ipc: false,
        uts: false,
        cgroup: false,
        time: false,
    };
    plan.network = Network::Host;
    plan.sysctls.clear();
    plan.mounts.clear();
    plan.masked.clear();
    plan.read_only.clear();
    plan.reaper = false;
    plan.oom_score_adj = Some(0);
    let all: Vec<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
    plan.capabilities = Capabilities {
        bounding: all.clone(),
        ambient: all,
    };
    plan
}

/// `nft` with a ruleset, able to change the network and nothing else.
pub fn firewall(root: &Path, ruleset: &str) -> Plan {
    let argv = ["/usr/sbin/nft", "-f", "/run/ruleset"].map(str::to_owned).to_vec();
    let mut plan = host_program("firewall", root, argv, &["CAP_NET_ADMIN"]);
    plan.mounts.push(Mount::Tmpfs {
        target: "/run".into(),
        size: 16 << 20,
        mode: 0o755,
        uid: 0,
        gid: 0,
        exec: false,
    });
    plan.mounts.push(cairn_sandbox::file("/run/ruleset", ruleset, 0o400));
    plan
}

/// Where `cairn-upgrade` sees the bundle that it is to read.
pub const BUNDLE: &str = "/run/bundle.cairn";

/// `cairn-upgrade`, in the host's network, with these device nodes and nothing else of the machine: able to mount the ESP, to remove EFI variables,
/// which the kernel marks as immutable, and to write its own folders.
pub fn upgrade(
    root: &Path,
    argv: Vec<String>,
    nodes: Vec<PathBuf>,
    resolv: Option<&Path>,
    bundle: Option<&Path>,
) -> Plan {
    let mut plan = host_program("upgrade", root, argv, &["CAP_SYS_ADMIN", "CAP_LINUX_IMMUTABLE"]);
    // Its filter and Landlock would keep it from mounting.
    plan.seccomp = None;
    plan.landlock = false;
    let bind = |source: &Path, target: &str, read_only| Mount::Bind {
        source: source.to_owned(),
        target: target.into(),
        read_only,
        idmapped: false,
        recursive: false,
        exec: false,
        suid: false,
    };
    plan.mounts.push(bind(Path::new("/proc"), "/proc", true));
    plan.mounts.push(bind(Path::new("/sys"), "/sys", true));
    plan.mounts.push(Mount::Dev {
        target: "/dev".into(),
        shm_size: None,
        extra: nodes,
    });
    // Empty folders in memory, in which the few that it may see have a place.
    for (target, size) in [("/run", 1 << 20), ("/data", 1 << 20), ("/tmp", 8 << 20)] {
        plan.mounts.push(Mount::Tmpfs {
            target: target.into(),
            size,
            mode: 0o755,
            uid: 0,
            gid: 0,
            exec: false,
        });
    }
    for folder in ["/run/cairn/upgrade", "/data/upgrade"] {
        plan.mounts.push(bind(Path::new(folder), folder, false));
    }
    plan.mounts
        .extend(resolv.map(|path| bind(path, "/etc/resolv.conf", true)));
    plan.mounts.extend(bundle.map(|path| bind(path, BUNDLE, true)));
    plan
}

/// The agent of test images: the whole host, writable where it is, with every privilege.
pub fn test_agent(root: &Path, program: &str) -> Plan {
    let all = [
        "CAP_SYS_ADMIN",
        "CAP_NET_ADMIN",
        "CAP_SYS_PTRACE",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_KILL",
        "CAP_CHOWN",
        "CAP_FOWNER",
        "CAP_SYS_BOOT",
        "CAP_SYS_CHROOT",
        "CAP_NET_RAW",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SYSLOG",
        "CAP_SYS_RESOURCE",
        "CAP_MKNOD",
    ];
    let mut plan = host_program("test-agent", root, vec![program.to_owned()], &all);
    plan.seccomp = None;
    plan.landlock = false;
    plan.writable_code = true;
    for path in ["/proc", "/sys", "/dev", "/run", "/data"] {
        plan.mounts.push(Mount::Bind {
            source: path.into(),
            target: path.into(),
            read_only: false,
            idmapped: false,
            recursive: true,
            exec: path == "/run",
            suid: false,
        });
    }
    plan
}
