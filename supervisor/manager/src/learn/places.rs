//! Which of a unit's places can be written, and what would make another one so.

use std::path::Path;

use cairn_sandbox::Mount;

use super::advise::Subject;

/// What writing to a path comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is granted, or needs no grant.
    Granted,
    /// It would be granted by this folder, in `state` or `runtime`.
    Folder(&'static str, String),
    /// No folder can grant it: why.
    Never(&'static str),
}

/// Folders that hold a folder for each service: what outlives it.
const STATE: [&str; 9] = [
    "/var/lib",
    "/var/cache",
    "/var/spool",
    "/var/log",
    "/var/mail",
    "/var/www",
    "/srv",
    "/opt",
    "/home",
];
/// The same for what does not.
const RUNTIME: [&str; 3] = ["/run", "/var/tmp", "/run/lock"];
/// What comes with the image and lies below a service root's packages.
const IMAGE: [&str; 7] = ["/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/boot"];
/// The nodes of every unit's `/dev`.
const NODES: [&str; 13] = [
    "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "log", "fd", "stdout", "stderr",
];

const DEVICE: &str = "a unit has no device nodes but the harmless ones, and no key grants another";
const KERNEL: &str = "the kernel's settings belong to the whole appliance, and no unit can be granted them";
const ROOT: &str = "it comes with the image and is read-only; bring the file in an overlay, as a template where it has to be computed, \
    or have the service write elsewhere";
const TOP: &str = "it lies directly below /, which is read-only; have the service write into a folder of its own";
const SHARED: &str = "another unit shares it, and only that one may write there";

/// What writing to a path comes to, for the unit's own user.
pub(super) fn written(subject: &Subject<'_>, path: &str) -> Written {
    let below = |folder: &str| Path::new(path).starts_with(folder);
    if below("/proc/sys") || below("/sys") {
        return Written::Never(KERNEL);
    }
    if below("/proc") {
        return Written::Granted;
    }
    if let Ok(node) = Path::new(path).strip_prefix("/dev") {
        let node = node.components().next();
        let known = node.is_none_or(|node| NODES.iter().any(|known| Path::new(known) == Path::new(&node)));
        return if known {
            Written::Granted
        } else {
            Written::Never(DEVICE)
        };
    }
    match subject.mount(path) {
        Some(Mount::Bind { read_only: false, .. }) => return Written::Granted,
        Some(Mount::Tmpfs { mode, uid, gid, .. }) => {
            let user = &subject.plan.user;
            let by_user = *uid == user.uid && mode & 0o200 != 0;
            let by_group = (*gid == user.gid || user.groups.contains(gid)) && mode & 0o020 != 0;
            if by_user || by_group || mode & 0o002 != 0 {
                return Written::Granted;
            }
        }
        Some(Mount::Bind { .. }) => return Written::Never(SHARED),
        _ => {}
    }
    if IMAGE.iter().any(|folder| below(folder)) {
        return Written::Never(ROOT);
    }
    for (table, bases) in [("runtime", &RUNTIME[..]), ("state", &STATE[..])] {
        if let Some(base) = bases.iter().filter(|base| below(base)).max_by_key(|base| base.len()) {
            return Written::Folder(table, own_folder(base, path));
        }
    }
    // Elsewhere: the folder that the file is in.
    match Path::new(path).parent().and_then(Path::to_str) {
        None | Some("/") => Written::Never(TOP),
        Some(parent) => Written::Folder("state", parent.to_owned()),
    }
}

/// The service's own folder below a base: the first part below it. What lies directly there is taken for a folder that the
/// service makes, unless it has a file's ending (`/run/web.pid`); then it is the base itself.
fn own_folder(base: &str, path: &str) -> String {
    let mut rest = path[base.len()..].trim_start_matches('/').splitn(2, '/');
    match (rest.next().unwrap_or_default(), rest.next()) {
        ("", _) => base.to_owned(),
        (file, None) if file.contains('.') => base.to_owned(),
        (first, _) => format!("{base}/{first}"),
    }
}
