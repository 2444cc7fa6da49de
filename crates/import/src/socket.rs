//! The socket and the path unit of the same name: systemd.socket(5), systemd.path(5).

use crate::draft::Socket;
use crate::job::{Job, Part};
use crate::values::boolean;

/// A unit has at most so many.
const SOCKETS: usize = 8;

pub(crate) fn read(job: &mut Job) {
    sockets(job);
    path(job);
}

fn sockets(job: &mut Job) {
    let accepts = job
        .last_of(Part::Socket, "Accept")
        .is_some_and(|(id, value)| match boolean(&value) {
            Some(false) => {
                job.covered(id);
                false
            }
            _ => {
                job.decide(
                    id,
                    "a unit is not started once for each connection: it needs a service that stays and accepts them",
                );
                true
            }
        });
    let backlog = job.last_of(Part::Socket, "Backlog");
    let mode = job.last_of(Part::Socket, "SocketMode");
    let named = job.last_of(Part::Socket, "FileDescriptorName");
    let mut found = Vec::new();
    for (key, tcp) in [("ListenStream", true), ("ListenDatagram", false)] {
        for (id, value) in job.list_of(Part::Socket, key) {
            let value = job.expand(id, &value);
            match place(job, id, &value, tcp) {
                // By IPv4 and by IPv6, which is one socket in a unit.
                Some(listen) if found.iter().any(|(_, other)| *other == listen) => job.covered(id),
                Some(listen) => found.push((id, listen)),
                None => {}
            }
        }
    }
    for (id, value) in job.list_of(Part::Socket, "ListenSequentialPacket") {
        job.decide(id, &format!("a unit's Unix socket is a stream, which `{value}` is not"));
    }
    if accepts || found.len() > SOCKETS {
        let why = match accepts {
            true => "it goes with `Accept=yes`",
            false => "a unit has at most 8 sockets",
        };
        found
            .drain(..)
            .for_each(|(id, _)| job.decide(id, &format!("not carried over: {why}")));
    }
    let base = named.as_ref().map_or(job.name.stem.as_str(), |(_, name)| name.as_str());
    let base = name(base);
    let many = found.len() > 1;
    if let Some((id, given)) = &named {
        match (!many && base == *given, *given == job.name.stem) {
            _ if found.is_empty() => job.covered(*id),
            (true, true) => job.covered(*id),
            (true, false) => job.carried(*id),
            (false, _) => job.decide(
                *id,
                "each socket has a name of its own in a unit, and they are handed over in the order of the names: if the service asks for this name, name them so that it finds them",
            ),
        }
    }
    for (number, (id, listen)) in found.into_iter().enumerate() {
        let unix = listen.starts_with("unix");
        let socket = Socket {
            listen,
            backlog: backlog
                .as_ref()
                .and_then(|(_, value)| value.parse::<u64>().ok())
                .filter(|backlog| *backlog > 0)
                .map(|backlog| backlog.min(u16::MAX.into()).to_string()),
            mode: mode.as_ref().filter(|_| unix).map(|(_, value)| value.clone()),
        };
        let own = if many {
            format!("{base}-{}", number + 1)
        } else {
            base.clone()
        };
        job.draft.sockets.insert(own, socket);
        job.carried(id);
    }
    let carried = !job.draft.sockets.is_empty();
    for (id, value) in backlog.into_iter().chain(mode) {
        match carried && value.bytes().all(|b| b.is_ascii_digit()) {
            true => job.carried(id),
            false if carried => job.not_understood(id),
            false => job.covered(id),
        }
    }
}

/// Where a line says to listen, in the words of a unit.
fn place(job: &mut Job, id: usize, value: &str, tcp: bool) -> Option<String> {
    let (host, port) = value.rsplit_once(':').unwrap_or(("", value));
    if let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0 && host != "vsock") {
        if !matches!(host, "" | "0.0.0.0" | "[::]" | "*") {
            job.hint(id, "the unit's socket is on all addresses of its own network, where only those that [[network.publish]] and `provides` let in can reach it");
        }
        return Some(format!("{} = {port}", if tcp { "tcp" } else { "udp" }));
    }
    let value = value.replacen("/var/run/", "/run/", 1);
    let folder = value.rsplit_once('/').map_or("", |(folder, _)| folder);
    let fine = value.starts_with("/run/") && value.parse::<cairn_unit::Path>().is_ok();
    if !tcp || !fine {
        job.decide(
            id,
            &format!("`{value}` is nothing that a unit can have Cairn listen on: TCP, UDP, or a Unix stream socket in a folder of [runtime]"),
        );
        return None;
    }
    if folder == "/run" {
        job.decide(
            id,
            &format!("`{value}` needs a folder of its own below /run, which [runtime] names: other units then see that folder only"),
        );
        return None;
    }
    let runtime = &mut job.draft.runtime;
    runtime.entry(folder.to_owned()).or_insert_with(|| "0755".to_owned());
    Some(format!("unix = {}", crate::draft::quoted(&value)))
}

/// A name that a socket of a unit can have.
fn name(text: &str) -> String {
    let fine = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    };
    let name: String = text.to_ascii_lowercase().chars().map(fine).collect();
    let name: String = name.trim_matches('-').chars().take(28).collect();
    match name.starts_with(|c: char| c.is_ascii_lowercase()) {
        true => name.trim_end_matches('-').to_owned(),
        false => format!("s-{name}").trim_end_matches('-').to_owned(),
    }
}

fn path(job: &mut Job) {
    for (key, own) in [
        ("PathExists", Some("exists")),
        ("DirectoryNotEmpty", Some("not_empty")),
        ("PathChanged", Some("changed")),
        ("PathModified", Some("changed")),
        ("PathExistsGlob", None),
    ] {
        for (id, value) in job.list_of(Part::Path, key) {
            let value = job.expand(id, &value);
            let parsed = value.parse::<cairn_unit::Path>().ok();
            let seen = parsed.is_some_and(|path| {
                let within = |folder: &String| folder.parse().is_ok_and(|folder| path.is_within(&folder));
                job.draft.state.keys().any(within)
            });
            match own {
                Some(own) if seen && job.draft.path.is_none() => {
                    job.draft.path = Some((own, value));
                    job.carried(id);
                    if key == "PathModified" {
                        job.hint(id, "a file counts as changed when it is closed, and not at each write");
                    }
                }
                Some(_) if seen => job.decide(id, "a unit waits for one path, and another line has named it"),
                Some(own) => job.decide(
                    id,
                    &format!("a unit waits for a path that it sees: write `path = {{ {own} = \"{value}\" }}` and name its folder in [state], or need the unit that provides it"),
                ),
                None => job.decide(id, "a unit waits for a path and not for a pattern: `not_empty` of its folder may do"),
            }
        }
    }
}
