//! Descriptors: the one handed over by cairn-init, and those made for units.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

/// The one module with `unsafe`: taking over a descriptor by its number, giving one to the reactor, and asking how the clock is kept.
#[allow(unsafe_code)]
mod handed {
    use std::os::fd::{FromRawFd as _, OwnedFd};

    use tokio::io::unix::AsyncFd;

    /// A descriptor known to the reactor.
    pub(crate) fn register(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: an `OwnedFd` always names the same open descriptor, until it is dropped with the `AsyncFd`.
        unsafe { AsyncFd::register(fd) }.map_err(std::io::Error::from)
    }

    /// Whether a program keeps the clock by a time server, and its estimated error then, in microseconds (adjtimex(2)).
    pub(crate) fn clock_kept() -> Option<u64> {
        // SAFETY: `timex` is of integers alone, for which zero is a value; with `modes` 0 the call changes nothing but the struct.
        let (kept, time) = unsafe {
            let mut time: nix::libc::timex = std::mem::zeroed();
            (nix::libc::adjtimex(&raw mut time), time)
        };
        let unsynchronised = kept < 0 || time.status & nix::libc::STA_UNSYNC != 0;
        (!unsynchronised).then(|| u64::try_from(time.maxerror).unwrap_or(0))
    }

    /// The socket to cairn-init. Call once, first thing in `main`.
    pub(crate) fn manager_socket() -> OwnedFd {
        // SAFETY: cairn-init's protocol gives this number to us alone, and nothing has been opened or closed yet. If it is
        // not open, its first use fails with EBADF.
        unsafe { OwnedFd::from_raw_fd(cairn_init::protocol::MANAGER_FD) }
    }
}
pub(crate) use handed::{clock_kept, manager_socket, register};

/// A file in memory with this content, at its start.
pub(crate) fn memory(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// `/dev/null` for reading.
pub(crate) fn null() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// A pipe whose read end never blocks and whose write end does: read end, write end.
pub(crate) fn log_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}

/// A socket pair for a helper's reports: ours, which never blocks, and its.
pub(crate) fn status_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// A unit's notification socket, bound at `path`, telling who sends.
pub(crate) fn notify_socket(path: &Path) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(path);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(path)?)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    // The unit's accounts are nobody here. Only its own sandbox has the socket: the folder is closed to all others.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// A descriptor that is watched.
pub(crate) type Watched = Arc<AsyncFd<OwnedFd>>;

/// Sends `message()` whenever `fd` has become readable. The receiver reads until nothing is left.
pub(crate) fn watch<M: Send + 'static>(
    fd: OwnedFd,
    to: UnboundedSender<M>,
    message: impl Fn() -> M + Send + 'static,
) -> io::Result<(Watched, JoinHandle<()>)> {
    let watched = Arc::new(register(fd)?);
    let own = watched.clone();
    let task = tokio::spawn(async move {
        while let Ok(mut guard) = own.readable().await {
            // The end stays readable for ever: it is told once.
            let end = guard.ready().is_read_closed();
            guard.clear_ready();
            if to.send(message()).is_err() || end {
                return;
            }
        }
    });
    Ok((watched, task))
}
