//! What the service does and its unit refuses.

use std::collections::BTreeMap;
use std::path::Path;

use cairn_api::{Advice, Direction};
use cairn_sandbox::Mount;
use cairn_sandbox::learn::{Seen, Trace};
use cairn_unit::{ManifestUnit, Protocol};

use super::advise::{Subject, Where, addresses, advice, note, quoted, word};
use super::places::{self, Written};

/// Calls that act on the whole machine: the kernel refuses them to whoever is not its root, whatever a unit is granted.
const MACHINE: &[&str] = &[
    "acct",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "quotactl",
    "swapoff",
    "swapon",
    "syslog",
    "uselib",
];

/// Calls that read and set the machine's clock.
const CLOCK: &[&str] = &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"];

/// Calls that open much of the kernel, and that most programs try and do without.
const OPEN: &[&str] = &[
    "add_key",
    "bpf",
    "chroot",
    "clone",
    "clone3",
    "fsopen",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "mount",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "request_key",
    "setns",
    "umount2",
    "unshare",
    "userfaultfd",
];

/// Up to here a UDP port is a service's choice, and above one that a client was given (ip_local_port_range).
const CHOSEN: u16 = 32_768;

pub(super) fn advise(subject: &Subject<'_>, trace: &Trace) -> Vec<Advice> {
    let mut all = Vec::new();
    calls(trace, &mut all);
    capabilities(subject, trace, &mut all);
    if let Some(seen) = trace.writable_code.as_ref().filter(|_| !subject.plan.writable_code) {
        let why = "makes memory executable that is or was writable, which is refused: a just-in-time compiler does; look for its \
            switch before you grant it";
        all.push(wider("sandbox.writable_code", "true", why, Some(seen)));
    }
    programs(subject, trace, &mut all);
    files(subject, trace, &mut all);
    listening(subject, trace, &mut all);
    peers(subject, trace, &mut all);
    all
}

fn wider(key: impl Into<String>, value: impl Into<String>, why: impl Into<String>, seen: Option<&Seen>) -> Advice {
    advice(Direction::Wider, key, value, why, seen)
}

fn calls(trace: &Trace, all: &mut Vec<Advice>) {
    for (name, seen) in &trace.refused {
        if name.starts_with("number ") {
            all.push(note(
                format!("calls {name}, which has no name here, so that no unit can be granted it"),
                Some(seen),
            ));
            continue;
        }
        if CLOCK.contains(&name.as_str()) {
            let why = format!("calls {name}, which is for the machine's clock; one unit of an appliance may keep it");
            if !all.iter().any(|one| one.key == "sandbox.clock") {
                all.push(wider("sandbox.clock", "true", why, Some(seen)));
            }
            continue;
        }
        if MACHINE.contains(&name.as_str()) {
            let why = format!("calls {name}, which acts on the whole machine: no unit can be granted it");
            all.push(note(why, Some(seen)));
            continue;
        }
        let mut why = format!("calls {name}, which is refused otherwise");
        match name.as_str() {
            "socket" => why.push_str(" for this family; granted, it opens every family"),
            "clone" => why.push_str(" with flags that make namespaces; granted, it takes all"),
            "personality" => why.push_str(" with this value; granted, it takes all"),
            _ => {}
        }
        if OPEN.contains(&name.as_str()) {
            why.push_str(
                "; it opens much of the kernel and most programs do without: grant it only if the service fails",
            );
        }
        all.push(wider("sandbox.system_calls", quoted(name), why, Some(seen)));
    }
}

fn capabilities(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    let granted = &subject.unit.unit.sandbox.capabilities;
    for (name, seen) in trace.capabilities.iter().filter(|(name, _)| !granted.contains(name)) {
        let why = match name.as_str() {
            "mknod" => {
                all.push(note(
                    "makes a device node, which the kernel refuses in every unit",
                    Some(seen),
                ));
                continue;
            }
            "setuid" | "setgid" if subject.plan.user.uid == 0 => {
                "changes to other ids, which is refused; if it only gives up root, set `service.user` to the account that it changes to"
            }
            "setuid" | "setgid" => "changes to other ids, which is refused",
            "chown" => {
                "gives files to other ids, which is refused; if it only sets up its own folders, declare them with their owner"
            }
            "net-raw" => "opens a raw socket, which is refused",
            _ => "does what the kernel refuses without this capability",
        };
        all.push(wider("sandbox.capabilities", quoted(name), why, Some(seen)));
    }
}

fn programs(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    for (path, program) in &trace.programs {
        let exec = match subject.mount(path) {
            Some(Mount::Bind { exec, .. } | Mount::Tmpfs { exec, .. }) => *exec,
            _ => true,
        };
        if !exec {
            let why = format!("runs {path}, where nothing can be run: bring the program with the image");
            all.push(note(why, Some(&program.seen)));
        }
        let told = |advice: &Advice| advice.key == "sandbox.new_privileges";
        if program.set_id && !subject.unit.unit.sandbox.new_privileges && !all.iter().any(told) {
            let why = format!("runs {path}, a set-user-id program, which gets no privileges by that");
            all.push(wider("sandbox.new_privileges", "true", why, Some(&program.seen)));
        }
    }
}

/// Seen several times: all of it, with the example of the first.
fn add(to: &mut Seen, seen: &Seen) {
    if to.times == 0 {
        to.example.clone_from(&seen.example);
    }
    to.times += seen.times;
}

fn files(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    let mut folders: BTreeMap<(&str, String), Seen> = BTreeMap::new();
    let mut never: BTreeMap<(&str, String), Seen> = BTreeMap::new();
    for (path, seen) in &trace.written {
        match places::written(subject, path) {
            Written::Granted => {}
            Written::Folder(table, folder) => add(folders.entry((table, folder)).or_default(), seen),
            Written::Never(why) => {
                let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
                add(never.entry((why, folder.display().to_string())).or_default(), seen);
            }
        }
    }
    for ((table, folder), seen) in folders {
        let why = match table {
            "runtime" => "writes there; a folder in memory, empty at every start",
            _ if folder.starts_with("/var/log") => {
                "writes there; better have it write to its standard output, which `cairn logs` keeps"
            }
            _ => "writes there; a folder that outlives the unit",
        };
        all.push(wider(format!("{table}.{}", quoted(&folder)), "{}", why, Some(&seen)));
    }
    for ((why, folder), seen) in never {
        all.push(note(format!("writes in {folder}: {why}"), Some(&seen)));
    }
}

fn listening(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    let open = subject.open_ports();
    let mut told = Vec::new();
    for (protocol, at, seen) in addresses(&trace.bound) {
        let (port, listed) = (
            at.port(),
            open.iter().any(|(own, port, _)| (*own, *port) == (protocol, at.port())),
        );
        let client = protocol == Protocol::Udp && port >= CHOSEN;
        if at.ip().is_loopback() || listed || client || told.contains(&(protocol, port)) {
            continue;
        }
        told.push((protocol, port));
        let what = format!("listens on {} port {port}, which nobody can reach", word(protocol));
        if !subject.connected() {
            all.push(note(format!("{what}: the unit's network is `none`"), Some(seen)));
        } else if protocol == Protocol::Tcp {
            let why = format!("{what}; for other units, or in `network.publish` for the outside");
            let value = format!("{{ kind = \"service\", port = {port} }}");
            all.push(wider(
                format!("provides.{}-{port}", template(subject)),
                value,
                why,
                Some(seen),
            ));
        } else {
            let value = format!("{{ port = {port}, protocol = \"udp\" }}");
            all.push(wider("network.publish", value, what, Some(seen)));
        }
    }
}

/// A start of a provide's name: the unit's name without its instance, short enough for a port after it.
fn template(subject: &Subject<'_>) -> String {
    let name = subject.name.split('@').next().unwrap_or_default();
    name.chars()
        .take(26)
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}

fn peers(subject: &Subject<'_>, trace: &Trace, all: &mut Vec<Advice>) {
    let mut needs: BTreeMap<&str, (String, Seen)> = BTreeMap::new();
    let mut closed: BTreeMap<String, Seen> = BTreeMap::new();
    let mut outside = Seen::default();
    let bound = |provide: &str| {
        subject
            .unit
            .unit
            .needs
            .values()
            .any(|need| need.from.as_str() == provide)
    };
    for (protocol, at, seen) in addresses(&trace.connected) {
        match subject.place(&at.ip()) {
            Where::Self_ | Where::Group => {}
            Where::Outside => add(&mut outside, seen),
            Where::Gateway => add(
                closed
                    .entry(format!("connects to the appliance itself, {at}, which no unit may"))
                    .or_default(),
                seen,
            ),
            Where::Nowhere => add(
                closed.entry(format!("connects to {at}, where no unit is")).or_default(),
                seen,
            ),
            Where::Unit(name, unit) => match provide_at(unit, protocol, at.port()) {
                Some(provide) if bound(provide) => {}
                Some(provide) => {
                    let entry = needs
                        .entry(provide)
                        .or_insert_with(|| (format!("port {} of {name}", at.port()), Seen::default()));
                    add(&mut entry.1, seen);
                }
                None => {
                    let why = format!(
                        "connects to {} port {} of {name}, which does not provide it: add it to the `[provides]` of {name} and need it here",
                        word(protocol),
                        at.port()
                    );
                    add(closed.entry(why).or_default(), seen);
                }
            },
        }
    }
    for (path, seen) in Trace::paths(&trace.connected) {
        let others = subject
            .manifest
            .units
            .iter()
            .filter(|(name, _)| name.as_str() != subject.name);
        let mut offers = others.flat_map(|(name, unit)| unit.unit.provides.iter().map(move |provide| (name, provide)));
        let here = |socket: Option<&cairn_unit::Path>| socket.is_some_and(|socket| socket.as_str() == path);
        let offer = offers.find(|(_, (_, provide))| here(provide.socket.as_ref()));
        // A socket of its own at the same path is its own.
        let own = trace.bound.keys().any(|place| place.to_string() == path);
        if let Some((name, (provide, _))) = offer.filter(|(_, (provide, _))| !own && !bound(provide.as_str())) {
            let entry = needs.entry(provide.as_str());
            add(
                &mut entry
                    .or_insert_with(|| (format!("{path} of {name}"), Seen::default()))
                    .1,
                seen,
            );
        }
    }
    for (provide, (what, seen)) in needs {
        let why = format!("connects to {what} without a binding, which is refused");
        all.push(wider(format!("needs.{provide}"), quoted(provide), why, Some(&seen)));
    }
    for (why, seen) in closed {
        all.push(note(why, Some(&seen)));
    }
    if outside.times > 0 && !subject.connected() {
        let why = "connects to the outside, which its network `none` cannot; it also needs `network.outbound`";
        all.push(wider("network.mode", quoted("bridge"), why, Some(&outside)));
    }
    if outside.times > 0 && !subject.unit.unit.network.outbound {
        let why = "connects to the outside, which is refused";
        all.push(wider("network.outbound", "true", why, Some(&outside)));
    }
}

/// What a unit provides at a port.
fn provide_at(unit: &ManifestUnit, protocol: Protocol, port: u16) -> Option<&str> {
    let mut provides = unit.unit.provides.iter();
    let found = provides.find(|(_, provide)| protocol == Protocol::Tcp && provide.port == Some(port));
    found.map(|(name, _)| name.as_str())
}
