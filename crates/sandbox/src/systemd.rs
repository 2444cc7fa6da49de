//! A plan in systemd's words (systemd.exec(5)), so that others' tools can judge it.
//!
//! A directive is written only where the sandbox does what it says, or more; next to each stands which part does. What the
//! sandbox does and systemd has no word for (Landlock, own clocks, an id range of its own) is not written, and neither is
//! what only looks alike: `RestrictSUIDSGID`, `RestrictRealtime` and `ProcSubset` are absent
//! because no filter of ours does that. The text is for judging, not for running.

use std::fmt::Write as _;
use std::path::Path;

use crate::mounts::{Mount, Root};
use crate::network::Network;
use crate::plan::{Ids, Plan, Resource};
use crate::seccomp;

impl Plan {
    /// The `.service` file that mirrors this plan.
    #[must_use]
    pub fn to_systemd(&self) -> String {
        let mut text = format!("[Unit]\nDescription={}\n\n[Service]\n", self.name);
        let mut say = |directive: &str, value: &str| {
            let _ = writeln!(text, "{directive}={value}");
        };
        say("ExecStart", &self.argv.join(" "));
        self.identity(&mut say);
        self.files(&mut say);
        self.kernel(&mut say);
        self.rest(&mut say);
        text
    }

    fn identity(&self, say: &mut dyn FnMut(&str, &str)) {
        say("User", &self.user.uid.to_string());
        say("Group", &self.user.gid.to_string());
        let groups: Vec<String> = self.user.groups.iter().map(u32::to_string).collect();
        if !groups.is_empty() {
            say("SupplementaryGroups", &groups.join(" "));
        }
        // A user namespace; the id range is stricter still, as not even root inside is root of the host.
        if self.ids != Ids::Host {
            say("PrivateUsers", "yes");
        }
        // The bounding set is cut before the command runs.
        say("CapabilityBoundingSet", &self.capabilities.bounding.join(" "));
        say("AmbientCapabilities", &self.capabilities.ambient.join(" "));
        if self.no_new_privs {
            say("NoNewPrivileges", "yes");
        }
        // By PR_SET_MDWE, which is also what systemd uses where the kernel has it.
        if !self.writable_code {
            say("MemoryDenyWriteExecute", "yes");
        }
        say("UMask", &format!("{:04o}", self.umask));
    }

    fn files(&self, say: &mut dyn FnMut(&str, &str)) {
        let has = |path: &str| self.mounts.iter().any(|mount| mount.target().starts_with(path));
        if let Root::Tree { path, .. } = &self.root {
            say("RootDirectory", &path.display().to_string());
        }
        // The root is always mounted read-only; what is writable is mounted on it and follows as ReadWritePaths.
        say("ProtectSystem", "strict");
        for mount in &self.mounts {
            if let Mount::Bind {
                target,
                read_only: false,
                ..
            } = mount
            {
                say("ReadWritePaths", &target.display().to_string());
            }
        }
        // The tree holds packages and no person's files; nothing of the host's homes is in it.
        if !has("/home")
            && !has("/root")
            && self.root
                != (Root::Tree {
                    path: "/".into(),
                    idmapped: false,
                })
        {
            say("ProtectHome", "yes");
        }
        let tmpfs = |mount: &Mount| matches!(mount, Mount::Tmpfs { target, .. } if target == Path::new("/tmp"));
        if self.mounts.iter().any(tmpfs) {
            say("PrivateTmp", "yes");
        }
        // A /dev of its own; nodes beside the harmless ones are listed.
        for mount in &self.mounts {
            let Mount::Dev { extra, .. } = mount else { continue };
            say("DevicePolicy", "closed");
            if extra.is_empty() {
                say("PrivateDevices", "yes");
            }
            for node in extra {
                say("DeviceAllow", &node.display().to_string());
            }
        }
        // There is no cgroup file system at all.
        if !has("/sys") {
            say("ProtectControlGroups", "yes");
        }
        // The settings below /proc/sys are read-only, and there is no /sys.
        if !has("/sys") && self.read_only.iter().any(|path| path == Path::new("/proc/sys")) {
            say("ProtectKernelTunables", "yes");
        }
    }

    fn kernel(&self, say: &mut dyn FnMut(&str, &str)) {
        // Processes of the host and of other units do not exist in the namespace.
        if self.namespaces.pid {
            say("ProtectProc", "invisible");
        }
        // Message queues end with the namespace.
        if self.namespaces.ipc {
            say("PrivateIPC", "yes");
            say("RemoveIPC", "yes");
        }
        // The name is the namespace's own; CAP_SYS_ADMIN would be needed to change it.
        if self.namespaces.uts && !self.holds("CAP_SYS_ADMIN") {
            say("ProtectHostname", "yes");
        }
        // Only with loopback: PrivateNetwork means no other interface.
        if self.network == Network::Loopback {
            say("PrivateNetwork", "yes");
        }
        let Some(filter) = self.seccomp.as_ref().filter(|filter| filter.on_violation.refuses()) else {
            return;
        };
        let allowed = seccomp::names(filter);
        let none_of = |names: &str| names.split(' ').all(|name| !allowed.contains(&name));
        say("SystemCallFilter", &allowed.join(" "));
        // Calls of another architecture end the process.
        say("SystemCallArchitectures", "native");
        // These lie in arguments that the filter looks at, unless a unit has the call without a condition.
        let unconditional = |name: &str| filter.allow.iter().any(|allowed| allowed == name);
        if !unconditional("socket") {
            say("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK");
        }
        if none_of("unshare setns") && !unconditional("clone") && !unconditional("clone3") {
            say("RestrictNamespaces", "yes");
        }
        if !unconditional("personality") {
            say("LockPersonality", "yes");
        }
        if none_of("init_module finit_module delete_module") {
            say("ProtectKernelModules", "yes");
        }
        let masked = |path: &str| self.masked.iter().any(|masked| masked == Path::new(path));
        if none_of("syslog") && masked("/proc/kmsg") {
            say("ProtectKernelLogs", "yes");
        }
        if none_of("clock_settime clock_settime64 settimeofday adjtimex clock_adjtime")
            && !self.holds("CAP_SYS_TIME")
            && !self.seccomp.as_ref().is_some_and(|seccomp| seccomp.clock)
        {
            say("ProtectClock", "yes");
        }
        // The session keyring cannot be reached: no call for it is left.
        if none_of("keyctl add_key request_key") {
            say("KeyringMode", "private");
        }
    }

    fn rest(&self, say: &mut dyn FnMut(&str, &str)) {
        if let Some(score) = self.oom_score_adj {
            say("OOMScoreAdjust", &score.to_string());
        }
        for limit in &self.rlimits {
            let name = match limit.resource {
                Resource::Nofile => "LimitNOFILE",
                Resource::Core => "LimitCORE",
                Resource::Nproc => "LimitNPROC",
                _ => continue,
            };
            say(name, &format!("{}:{}", limit.soft, limit.hard));
        }
        say("WorkingDirectory", &self.cwd.display().to_string());
    }

    fn holds(&self, capability: &str) -> bool {
        self.capabilities.bounding.iter().any(|name| name == capability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::OnViolation;
    use crate::plan::Seccomp;

    fn plan() -> Plan {
        Plan::new("web", Path::new("/services/web"), 100_000, vec!["/usr/bin/web".into()])
    }

    fn without(change: impl FnOnce(&mut Plan), directive: &str) {
        let mut plan = plan();
        let has = |plan: &Plan| plan.to_systemd().lines().any(|line| line.starts_with(directive));
        assert!(has(&plan), "{directive} is there at all: {}", plan.to_systemd());
        change(&mut plan);
        assert!(!has(&plan), "{directive} is still there");
    }

    #[test]
    fn what_a_plan_gives_up_leaves_the_text() {
        let allow = |name: &str| {
            let allow = vec![name.to_owned()];
            move |plan: &mut Plan| plan.seccomp.as_mut().unwrap().allow = allow
        };
        without(|plan| plan.ids = Ids::Host, "PrivateUsers=");
        without(|plan| plan.no_new_privs = false, "NoNewPrivileges=");
        without(|plan| plan.writable_code = true, "MemoryDenyWriteExecute=");
        without(|plan| plan.namespaces.pid = false, "ProtectProc=");
        without(|plan| plan.namespaces.ipc = false, "PrivateIPC=");
        without(|plan| plan.namespaces.uts = false, "ProtectHostname=");
        without(|plan| plan.network = Network::Host, "PrivateNetwork=");
        without(|plan| plan.mounts.clear(), "PrivateTmp=");
        without(|plan| plan.mounts.clear(), "PrivateDevices=");
        without(|plan| plan.read_only.clear(), "ProtectKernelTunables=");
        without(|plan| plan.masked.clear(), "ProtectKernelLogs=");
        without(|plan| plan.seccomp = None, "SystemCallFilter=");
        without(|plan| plan.seccomp = None, "SystemCallArchitectures=");
        without(allow("socket"), "RestrictAddressFamilies=");
        without(allow("unshare"), "RestrictNamespaces=");
        without(allow("clone3"), "RestrictNamespaces=");
        without(allow("personality"), "LockPersonality=");
        without(allow("finit_module"), "ProtectKernelModules=");
        without(allow("clock_settime"), "ProtectClock=");
        without(allow("keyctl"), "KeyringMode=");
        let log = |plan: &mut Plan| plan.seccomp.as_mut().unwrap().on_violation = OnViolation::UnsafeLog;
        without(log, "SystemCallFilter=");
    }

    #[test]
    fn what_a_plan_grants_is_in_the_text() {
        let mut plan = plan();
        plan.capabilities.bounding = vec!["CAP_CHOWN".into()];
        plan.seccomp = Some(Seccomp {
            allow: vec!["chroot".into()],
            deny: vec!["mknod".into()],
            ..Seccomp::default()
        });
        let text = plan.to_systemd();
        assert!(text.contains("\nCapabilityBoundingSet=CAP_CHOWN\n"), "{text}");
        let filter = text
            .lines()
            .find_map(|line| line.strip_prefix("SystemCallFilter="))
            .unwrap();
        let filter: Vec<&str> = filter.split(' ').collect();
        assert!(filter.contains(&"chroot") && filter.contains(&"read") && filter.contains(&"socket"));
        assert!(!filter.contains(&"mknod") && !filter.contains(&"mount"));
    }
}
