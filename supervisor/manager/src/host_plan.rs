//! Sandboxes of the host's own programs.

use std::path::Path;

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
