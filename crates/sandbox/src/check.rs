//! What a plan must satisfy before anything is done. No I/O.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::mounts::{Mount, Root};
use crate::network::{Network, Veth};
use crate::plan::{Ids, Plan};
use crate::report::Failure;

impl Plan {
    /// Checks what can be known without doing anything: paths, ids, names, and fields that exclude each other.
    ///
    /// # Errors
    /// A [`Failure`] of the step `plan` that names the field.
    pub fn check(&self) -> Result<(), Failure> {
        self.check_command()?;
        self.check_ids()?;
        self.check_tree()?;
        match &self.network {
            Network::Veth(veth) => check_veth(veth)?,
            Network::Joined(_) if self.ids == Ids::Single => {
                return refuse("network", "one that stands already needs real root");
            }
            Network::Joined(veth) => check_veth(veth)?,
            Network::Host if !self.sysctls.is_empty() => {
                return refuse("sysctls", "need an own network; remove them or the host network");
            }
            Network::Host | Network::Loopback => {}
        }
        for name in self.sysctls.keys() {
            let fine = name.starts_with("net.") && name.split('.').all(|part| !part.is_empty() && !part.contains('/'));
            if !fine {
                return refuse(
                    &format!("sysctls.{name}"),
                    "only dotted names that start with net. belong to a sandbox",
                );
            }
        }
        if self.reaper && !self.namespaces.pid {
            return refuse("reaper", "needs namespaces.pid, or set reaper = false");
        }
        match &self.hostname {
            Some(_) if !self.namespaces.uts => refuse("hostname", "needs namespaces.uts, or leave it out"),
            Some(name) if name.is_empty() || name.len() > 64 => refuse("hostname", "has 1 to 64 bytes"),
            _ => Ok(()),
        }
    }

    fn check_command(&self) -> Result<(), Failure> {
        match self.argv.first() {
            None => return refuse("argv", "is empty; name the command"),
            Some(command) => absolute("argv", Path::new(command))?,
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return refuse("argv", "has a zero byte");
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return refuse(
                    &format!("env.{name}"),
                    "a name is not empty and has no =, and neither part has a zero byte",
                );
            }
        }
        if self.umask > 0o777 {
            return refuse("umask", "is at most 0o777");
        }
        if self.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            return refuse("oom_score_adj", "is -1000 to 1000");
        }
        if self.rlimits.iter().any(|limit| limit.soft > limit.hard) {
            return refuse("rlimits", "a soft limit is at most its hard limit");
        }
        if self.listen_fds.iter().any(|name| name.contains([':', '\0'])) || self.listen_fds.len() > 128 {
            return refuse("listen_fds", "are at most 128, and a name has no colon");
        }
        let caps = &self.capabilities;
        if let Some(name) = caps.ambient.iter().find(|name| !caps.bounding.contains(name)) {
            return refuse(
                "capabilities.ambient",
                &format!("{name} is not in capabilities.bounding"),
            );
        }
        absolute("cwd", &self.cwd)
    }

    fn check_ids(&self) -> Result<(), Failure> {
        let mut inside = self.user.groups.iter().chain([&self.user.uid, &self.user.gid]);
        match self.ids {
            Ids::Range { base: 0, .. } => refuse("ids.range.base", "0 is the host's root; use a range of its own"),
            Ids::Range { count: 0, .. } => refuse("ids.range.count", "is at least 1"),
            Ids::Range { base, count } if base.checked_add(count).is_none() => {
                refuse("ids.range", "goes past the last id")
            }
            Ids::Range { count, .. } if inside.any(|id| *id >= count) => refuse("user", "an id lies outside the range"),
            Ids::Single if !self.user.groups.is_empty() => refuse("user.groups", "must be empty with single ids"),
            Ids::Single if inside.any(|id| *id != 0) => refuse("user", "the only ids are 0 with single ids"),
            _ => Ok(()),
        }
    }

    fn check_tree(&self) -> Result<(), Failure> {
        let shifts = matches!(self.ids, Ids::Range { .. });
        if let Root::Tree { path, idmapped } = &self.root {
            absolute("root.path", path)?;
            if *idmapped && !shifts {
                return refuse("root.idmapped", "needs ids of a range");
            }
        }
        for mount in &self.mounts {
            absolute("mounts.target", mount.target())?;
            if mount.target() == Path::new("/") {
                return refuse("mounts.target", "/ is the root's; change root");
            }
            match mount {
                Mount::Bind { source, idmapped, .. } => {
                    absolute("mounts.source", source)?;
                    if *idmapped && !shifts {
                        return refuse("mounts.idmapped", "needs ids of a range");
                    }
                }
                Mount::Proc { .. } if !self.namespaces.pid => {
                    return refuse(
                        "mounts.proc",
                        "needs namespaces.pid: it would show the host's processes",
                    );
                }
                Mount::Dev { extra, .. } => {
                    extra.iter().try_for_each(|node| absolute("mounts.dev.extra", node))?;
                }
                _ => {}
            }
        }
        self.masked.iter().try_for_each(|path| absolute("masked", path))?;
        self.read_only.iter().try_for_each(|path| absolute("read_only", path))
    }
}

fn check_veth(veth: &Veth) -> Result<(), Failure> {
    for (field, name) in [
        ("host_name", Some(&veth.host_name)),
        ("name", Some(&veth.name)),
        ("bridge", veth.bridge.as_ref()),
    ] {
        let Some(name) = name else { continue };
        if name.is_empty() || name.len() > 15 || name.bytes().any(|byte| byte <= b' ' || byte == b'/' || byte == b':') {
            return refuse(
                &format!("network.{field}"),
                "has 1 to 15 bytes, none of them a space, a slash or a colon",
            );
        }
    }
    if veth.mac.as_deref().is_some_and(|mac| parse_mac(mac).is_none()) {
        return refuse("network.mac", "is six hexadecimal bytes with colons between");
    }
    if veth.ipv4.is_some_and(|ip| !(1..=32).contains(&ip.prefix)) {
        return refuse("network.ipv4.prefix", "is 1 to 32");
    }
    if veth.ipv6.is_some_and(|ip| !(1..=128).contains(&ip.prefix)) {
        return refuse("network.ipv6.prefix", "is 1 to 128");
    }
    Ok(())
}

/// The six bytes of `02:00:00:00:00:01`.
pub(crate) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next()?;
        *byte = (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok())??;
    }
    parts.next().is_none().then_some(bytes)
}

fn absolute(field: &str, path: &Path) -> Result<(), Failure> {
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || path.as_os_str().as_bytes().contains(&0) {
        return refuse(
            field,
            &format!("{} is not an absolute path without dots", path.display()),
        );
    }
    Ok(())
}

fn refuse<T>(field: &str, why: &str) -> Result<T, Failure> {
    Err(Failure::new("plan", field, why))
}
