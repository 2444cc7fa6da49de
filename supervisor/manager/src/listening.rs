//! Sockets that stand before their unit does: where each one is, and how it is opened.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use cairn_sandbox::{Failure, Plan, Veth, in_network, make_network};
use cairn_unit::{Listen, ListenSocket, Manifest, ManifestUnit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::config::{Config, escape};
use crate::data;
use crate::error::Error;
use crate::plan;

/// What a unit's connections come to.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// The network that the unit will join, if one of its sockets has a port.
    pub(crate) network: Option<OwnedFd>,
    /// Its sockets, in the order of their names.
    pub(crate) sockets: Vec<OwnedFd>,
}

/// Whether the unit's network has to stand before it does.
pub(crate) fn needs_network(unit: &ManifestUnit) -> bool {
    let has_port = |socket: &ListenSocket| !matches!(socket.listen, Listen::Unix(_));
    unit.unit.sockets.values().any(has_port)
}

/// Where a socket listens, in words.
pub(crate) fn place(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(port) => format!("TCP port {port}"),
        Listen::Udp(port) => format!("UDP port {port}"),
        Listen::Unix(path) => path.to_string(),
    }
}

/// Opens a unit's sockets, in the network that stands already if there is one. Blocks; runs in a thread of its own, whose file mode
/// mask it changes.
///
/// # Errors
/// A socket or the network cannot be made; nothing is left of those before it.
pub(crate) fn open(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    standing: Option<OwnedFd>,
) -> Result<Opened, Error> {
    let Some(unit) = manifest.units.get(name) else {
        return Ok(Opened::default());
    };
    // From here on this thread alone has this mask.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).map_err(Error::io("leave", "the shared file mode mask"))?;
    rustix::process::umask(Mode::empty());
    data::shared_folders(config, manifest, name, unit)?;
    let failed = |failure: Failure| Error::Sandbox {
        unit: name.to_owned(),
        why: failure.to_string(),
    };
    let network = match plan::link_of(unit).filter(|_| needs_network(unit)) {
        Some(veth) if config.network => Some(standing.map_or_else(|| made(&veth), Ok).map_err(failed)?),
        _ => None,
    };
    let mut sockets = Vec::new();
    for socket in unit.unit.sockets.values() {
        sockets.push(match &socket.listen {
            Listen::Unix(path) => at_path(config, name, unit, path.as_ref(), socket)?,
            listen => {
                let open = || at_port(config.network, socket).map_err(|e| Failure::new("listen", place(listen), e));
                match &network {
                    Some(network) => in_network(network, open),
                    None => open(),
                }
                .map_err(failed)?
            }
        });
    }
    Ok(Opened { network, sockets })
}

fn made(veth: &Veth) -> Result<OwnedFd, Failure> {
    make_network(veth, &Plan::new("", Path::new("/"), 1, Vec::new()).sysctls)
}

/// A socket on a port of every address, by IPv6 and IPv4; without networks of our own, of loopback alone.
fn at_port(everywhere: bool, socket: &ListenSocket) -> std::io::Result<OwnedFd> {
    let (kind, port) = match socket.listen {
        Listen::Tcp(port) => (SocketType::STREAM, port),
        Listen::Udp(port) => (SocketType::DGRAM, port),
        Listen::Unix(_) => return Err(std::io::ErrorKind::InvalidInput.into()),
    };
    let open = |family| rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None);
    let (own, address): (OwnedFd, SocketAddr) = match open(AddressFamily::INET6) {
        Ok(own) if everywhere => {
            sockopt::set_ipv6_v6only(&own, false)?;
            (own, (Ipv6Addr::UNSPECIFIED, port).into())
        }
        _ if everywhere => (open(AddressFamily::INET)?, (Ipv4Addr::UNSPECIFIED, port).into()),
        _ => (open(AddressFamily::INET)?, (Ipv4Addr::LOCALHOST, port).into()),
    };
    sockopt::set_socket_reuseaddr(&own, true)?;
    rustix::net::bind(&own, &address)?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&own, i32::from(socket.backlog))?;
    }
    Ok(own)
}

/// A Unix socket in a folder that the unit will see; it belongs to the service's account.
fn at_path(
    config: &Config,
    name: &str,
    unit: &ManifestUnit,
    path: &Path,
    socket: &ListenSocket,
) -> Result<OwnedFd, Error> {
    let (Some(folder), Some(file)) = (path.parent().and_then(Path::to_str), path.file_name()) else {
        return Err(Error::io("listen on", path)(std::io::Error::from(
            std::io::ErrorKind::InvalidInput,
        )));
    };
    let shared = config.shared(name).join(escape(folder));
    let account = plan::account(name, unit, &unit.unit.service.user)?;
    let make = || -> std::io::Result<OwnedFd> {
        // By the folder's descriptor: its path can be longer than an address may be.
        let folder = File::open(&shared)?;
        match rustix::fs::unlinkat(&folder, file, AtFlags::empty()) {
            Err(error) if error != rustix::io::Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        let own = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // The file gets the socket's own mode, so that there is no moment with another one.
        rustix::fs::fchmod(&own, Mode::from_raw_mode(socket.mode.0))?;
        let at = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), file.display());
        rustix::net::bind(&own, &SocketAddrUnix::new(at)?)?;
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(account.uid),
            rustix::fs::Gid::from_raw(account.gid),
        );
        rustix::fs::chownat(&folder, file, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::net::listen(&own, i32::from(socket.backlog))?;
        Ok(own)
    };
    make().map_err(Error::io("listen on", shared.join(file)))
}

/// Whether somebody waits at one of the sockets.
pub(crate) fn is_asked<Fd: AsFd>(sockets: &[Fd]) -> bool {
    let mut watched: Vec<PollFd<'_>> = sockets.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut watched, Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    const ON_DEMAND: &str = r#"{"service":{"command":["/bin/x"],"user":"root"},"runtime":{"/run/web":{"user":"root"}},
        "sockets":{"a":{"listen":{"unix":"/run/web/s"},"mode":"0620"}}}"#;

    #[test]
    fn a_unix_socket_has_its_mode_from_the_start_and_survives_the_unit() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        std::fs::create_dir_all(config.at("/run/cairn")).unwrap();
        let manifest = crate::testing::manifest(&[("web", ON_DEMAND)]);
        let opened =
            std::thread::scope(|scope| scope.spawn(|| open(&config, &manifest, "web", None)).join().unwrap()).unwrap();
        assert!(opened.network.is_none());
        let path = config.shared("web").join("run-web/s");
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket() && found.mode() & 0o7777 == 0o620);
        assert!(!is_asked(&opened.sockets));
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"hello").unwrap();
        assert!(is_asked(&opened.sockets));
        // A start clears what an earlier run of the unit left, and nothing else.
        std::fs::write(path.with_file_name("left"), "x").unwrap();
        data::prepare(
            &config,
            &manifest,
            "web",
            &manifest.units["web"],
            "",
            &Default::default(),
        )
        .unwrap();
        assert!(path.exists() && !path.with_file_name("left").exists());
        let listener = UnixListener::from(opened.sockets.into_iter().next().unwrap());
        drop(client);
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}
