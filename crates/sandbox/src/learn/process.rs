//! Reads a process whose call waits, from the host's `/proc`.
//!
//! It is not trusted: every read is bounded, and what a path leads to is looked up inside the process's own root.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use nix::libc;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::net::{SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::call::{Inside, Transport, Who};

/// The longest path (PATH_MAX).
const LONGEST: usize = 4096;

/// A thread of the sandbox, by its id on the host.
pub(crate) struct Process {
    folder: PathBuf,
    /// The host's id that is 0 inside.
    base: u32,
    status: String,
}

impl Process {
    pub(crate) fn new(thread: u32, base: u32) -> Self {
        let folder = Path::new("/proc").join(thread.to_string());
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        Self { folder, base, status }
    }

    fn field(&self, name: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(':')).unwrap_or_default().trim()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let ids = self
            .field(name)
            .split_whitespace()
            .filter_map(|id| id.parse::<u32>().ok());
        ids.map(|id| id.checked_sub(self.base).unwrap_or(u32::MAX)).collect()
    }

    /// The real path inside of what is at a path inside; none if there is nothing.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        let found = self.look_up(path)?;
        let real = fs::read_link(Path::new("/proc/self/fd").join(found.as_raw_fd().to_string())).ok()?;
        let there = real.is_absolute() && !real.to_string_lossy().ends_with(" (deleted)");
        there.then_some(real)
    }

    fn look_up(&self, path: &Path) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = openat(CWD, self.folder.join("root"), flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&root, path, flags, Mode::empty(), resolve).ok()
    }
}

impl Inside for Process {
    fn who(&self) -> Who {
        Who {
            name: self.field("Name").to_owned(),
            users: self.ids("Uid"),
            groups: self.ids("Gid"),
            others: self.ids("Groups"),
        }
    }

    fn bytes(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length.min(LONGEST)];
        let memory = File::open(self.folder.join("mem")).ok()?;
        // Less where the next page is not there.
        let read = memory.read_at(&mut bytes, at).ok()?;
        bytes.truncate(read);
        Some(bytes)
    }

    fn text(&self, at: u64) -> Option<String> {
        let bytes = self.bytes(at, LONGEST)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn path(&self, folder: i32, path: &str, follow: bool) -> String {
        let mut whole = PathBuf::from(path);
        if !whole.is_absolute() {
            let begin = self.open_path(folder).unwrap_or_else(|| "/".to_owned());
            whole = Path::new(&begin).join(path);
        }
        let real = if follow { self.real(&whole) } else { None };
        let real = real.or_else(|| {
            let (parent, last) = (whole.parent()?, whole.file_name()?);
            Some(self.real(parent)?.join(last))
        });
        real.unwrap_or_else(|| plain(&whole)).to_string_lossy().into_owned()
    }

    fn open_path(&self, descriptor: i32) -> Option<String> {
        let link = match descriptor {
            libc::AT_FDCWD => self.folder.join("cwd"),
            number => self.folder.join("fd").join(number.to_string()),
        };
        Some(fs::read_link(link).ok()?.to_string_lossy().into_owned())
    }

    fn transport(&self, descriptor: i32) -> Transport {
        let kind = || {
            // What the caller gave may be no descriptor at all.
            let descriptor = (descriptor >= 0).then_some(descriptor)?;
            // The thread's number is no process's; the group's is.
            let process = Pid::from_raw(self.field("Tgid").parse().ok()?)?;
            let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
            let socket = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).ok()?;
            sockopt::socket_type(&socket).ok()
        };
        match kind() {
            Some(SocketType::STREAM) => Transport::Tcp,
            Some(SocketType::DGRAM) => Transport::Udp,
            _ => Transport::Other,
        }
    }

    fn set_id(&self, path: &str) -> bool {
        let found = self.look_up(Path::new(path)).map(File::from);
        let mode = found.and_then(|file| file.metadata().ok()).map(|file| file.mode());
        mode.is_some_and(|mode| mode & (libc::S_ISUID | libc::S_ISGID) != 0)
    }
}

/// A path without `.` and `..`, where nothing tells more.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This very thread, whose memory and descriptors are known.
    fn own() -> Process {
        Process::new(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned(), 0)
    }

    #[test]
    fn memory_is_read_up_to_its_end_and_no_further() {
        let process = own();
        let text = std::ffi::CString::new("/a text").unwrap();
        assert_eq!(process.text(text.as_ptr() as u64).as_deref(), Some("/a text"));
        assert_eq!(process.text(0), None);
        assert_eq!(process.bytes(text.as_ptr() as u64, 2).as_deref(), Some(&b"/a"[..]));
        let endless = vec![b'x'; 3 * LONGEST];
        assert_eq!(process.text(endless.as_ptr() as u64), None);
    }

    #[test]
    fn paths_are_real_ones() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        fs::create_dir(at.join("real")).unwrap();
        fs::write(at.join("real/file"), "").unwrap();
        std::os::unix::fs::symlink("real", at.join("link")).unwrap();
        std::os::unix::fs::symlink("real/file", at.join("to-file")).unwrap();
        let process = own();
        let name = |path: PathBuf| path.to_string_lossy().into_owned();
        let path = |path: &str, follow| process.path(libc::AT_FDCWD, &name(at.join(path)), follow);
        assert_eq!(path("link/file", true), name(at.join("real/file")));
        assert_eq!(path("link/new", true), name(at.join("real/new")));
        assert_eq!(path("to-file", true), name(at.join("real/file")));
        assert_eq!(path("to-file", false), name(at.join("to-file")));
        assert_eq!(path("nowhere/./x/../new", true), name(at.join("nowhere/new")));
        let open = File::open(&at).unwrap();
        assert_eq!(
            process.path(open.as_raw_fd(), "link/file", true),
            name(at.join("real/file"))
        );
    }

    #[test]
    fn sockets_and_programs_tell_what_they_are() {
        let process = own();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(process.transport(udp.as_raw_fd()), Transport::Udp);
        assert_eq!(process.transport(tcp.as_raw_fd()), Transport::Tcp);
        assert_eq!(process.transport(-1), Transport::Other);
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(!process.set_id(path));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        file.as_file().set_permissions(mode).unwrap();
        assert!(process.set_id(path));
        let who = process.who();
        assert_eq!(who.users, [rustix::process::getuid().as_raw(); 4]);
    }
}
