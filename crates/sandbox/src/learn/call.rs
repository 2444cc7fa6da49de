//! From a call's number, arguments and memory to what it means. What is read of the process comes through [`Inside`], so that
//! every call can be tested without one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::libc;

/// One call that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The call's name; `number N` if it is not known.
    pub name: String,
    /// Its argument in words: a path, an address; often empty.
    pub detail: String,
    /// The calling thread's name.
    pub process: String,
    /// Whether the ordinary filter would have refused it.
    pub refused: bool,
    /// What it means.
    pub events: Vec<Event>,
}

impl Heard {
    /// Who did what: `mariadbd: openat(/var/lib/mysql/x)`.
    #[must_use]
    pub fn example(&self) -> String {
        format!("{}: {}({})", self.process, self.name, self.detail)
    }
}

/// What a call means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file or folder is opened for reading.
    Read(String),
    /// A file or folder is opened for writing, made, changed or removed.
    Write(String),
    /// A program is run.
    Run {
        /// Its real path inside.
        path: String,
        /// Whether its file has the set-user-id or set-group-id bit.
        set_id: bool,
    },
    /// A socket gets this address.
    Bind(Place),
    /// A socket is connected to this address, or sends to it.
    Connect(Place),
    /// The kernel does it only for this capability, by a unit's name for it.
    Capability(&'static str),
    /// Memory is to be writable and executable, or to become executable.
    WritableCode,
}

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Transport {
    Tcp,
    Udp,
    Other,
}

/// A socket's address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An address of IPv4 or IPv6; an IPv4 address in IPv6's form is the former.
    Ip {
        /// What it speaks.
        transport: Transport,
        /// Address and port.
        at: SocketAddr,
    },
    /// A Unix socket by its real path inside.
    Path(String),
    /// A Unix socket by an abstract name.
    Abstract(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip { transport, at } => {
                let word = match transport {
                    Transport::Tcp => "tcp ",
                    Transport::Udp => "udp ",
                    Transport::Other => "",
                };
                write!(f, "{word}{at}")
            }
            Self::Path(path) => f.write_str(path),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// A process's identity, in ids inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Who {
    /// The thread's name.
    pub(crate) name: String,
    /// Real, effective, saved and file system user id.
    pub(crate) users: Vec<u32>,
    /// The same of the group.
    pub(crate) groups: Vec<u32>,
    /// Supplementary groups.
    pub(crate) others: Vec<u32>,
}

/// What is read of the process whose call waits.
pub(crate) trait Inside {
    fn who(&self) -> Who;
    /// So many bytes of its memory.
    fn bytes(&self, at: u64, length: usize) -> Option<Vec<u8>>;
    /// A text of its memory that ends with zero.
    fn text(&self, at: u64) -> Option<String>;
    /// The real path inside; `follow` where a link at its end is followed.
    fn path(&self, folder: i32, path: &str, follow: bool) -> String;
    /// What a descriptor is open on.
    fn open_path(&self, descriptor: i32) -> Option<String>;
    fn transport(&self, descriptor: i32) -> Transport;
    /// Whether a file has the set-user-id or set-group-id bit.
    fn set_id(&self, path: &str) -> bool;
}

/// Where relative paths begin without a folder.
const HERE: i32 = libc::AT_FDCWD;

/// Reads one call: its detail and what it means.
pub(crate) fn read(name: &str, args: &[u64; 6], inside: &impl Inside) -> (String, Vec<Event>) {
    let call = Call { args, inside };
    let events = call.events(name);
    let detail = match events.first() {
        Some(Event::Read(path) | Event::Write(path) | Event::Run { path, .. }) => path.clone(),
        Some(Event::Bind(place) | Event::Connect(place)) => place.to_string(),
        _ => call.detail(name),
    };
    (detail, events)
}

struct Call<'a, I> {
    args: &'a [u64; 6],
    inside: &'a I,
}

impl<I: Inside> Call<'_, I> {
    /// An argument that is a descriptor, an id or flags: its lower half.
    fn number(&self, index: usize) -> i32 {
        self.args[index] as u32 as i32
    }

    fn id(&self, index: usize) -> u32 {
        self.args[index] as u32
    }

    /// The path at an argument, below the folder at another.
    fn path(&self, folder: Option<usize>, index: usize, follow: bool) -> Option<String> {
        let folder = folder.map_or(HERE, |index| self.number(index));
        let text = self.inside.text(self.args[index])?;
        if text.is_empty() {
            // The folder itself (AT_EMPTY_PATH), or an error.
            return self.inside.open_path(folder).filter(|path| path.starts_with('/'));
        }
        Some(self.inside.path(folder, &text, follow))
    }

    fn write(&self, folder: Option<usize>, index: usize, follow: bool) -> Vec<Event> {
        self.path(folder, index, follow).map(Event::Write).into_iter().collect()
    }

    fn opened(&self, path: Option<String>, flags: u64) -> Vec<Event> {
        let has = |flag: i32| flags & flag as u64 != 0;
        let writes = matches!(flags as i32 & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR);
        match path {
            // Without a way to its content.
            _ if has(libc::O_PATH) => Vec::new(),
            Some(path) if writes || has(libc::O_CREAT) || has(libc::O_TRUNC) => vec![Event::Write(path)],
            Some(path) => vec![Event::Read(path)],
            None => Vec::new(),
        }
    }

    fn events(&self, name: &str) -> Vec<Event> {
        match name {
            "open" => self.opened(self.path(None, 0, true), self.args[1]),
            "openat" => self.opened(self.path(Some(0), 1, true), self.args[2]),
            "openat2" => {
                // struct open_how begins with the flags.
                let how = self.inside.bytes(self.args[2], 8).and_then(|how| how.try_into().ok());
                self.opened(self.path(Some(0), 1, true), how.map_or(0, u64::from_ne_bytes))
            }
            "creat" | "truncate" | "chmod" => self.write(None, 0, true),
            "mkdir" | "rmdir" | "unlink" => self.write(None, 0, false),
            "mkdirat" | "unlinkat" => self.write(Some(0), 1, false),
            "fchmodat" | "fchmodat2" => self.write(Some(0), 1, true),
            "rename" => [self.write(None, 0, false), self.write(None, 1, false)].concat(),
            "renameat" | "renameat2" => [self.write(Some(0), 1, false), self.write(Some(2), 3, false)].concat(),
            "link" | "symlink" => self.write(None, 1, false),
            "linkat" => self.write(Some(2), 3, false),
            "symlinkat" => self.write(Some(1), 2, false),
            "mknod" => [self.write(None, 0, false), self.node(1)].concat(),
            "mknodat" => [self.write(Some(0), 1, false), self.node(2)].concat(),
            "chown" => [self.write(None, 0, true), self.owner(1)].concat(),
            "lchown" => [self.write(None, 0, false), self.owner(1)].concat(),
            "fchownat" => [self.write(Some(0), 1, false), self.owner(2)].concat(),
            "fchown" => {
                let path = self.inside.open_path(self.number(0));
                let written = path.filter(|path| path.starts_with('/')).map(Event::Write);
                written.into_iter().chain(self.owner(1)).collect()
            }
            "execve" => self.run(self.path(None, 0, true)),
            "execveat" => self.run(self.path(Some(0), 1, true)),
            "socket" => self.socket(),
            "bind" => match self.place(1, 2) {
                // The socket's file is made.
                Some(Place::Path(path)) => vec![Event::Bind(Place::Path(path.clone())), Event::Write(path)],
                place => place.map(Event::Bind).into_iter().collect(),
            },
            "connect" => self.place(1, 2).map(Event::Connect).into_iter().collect(),
            "sendto" if self.args[4] != 0 => self.place(4, 5).map(Event::Connect).into_iter().collect(),
            "setuid" | "setfsuid" => self.other("setuid", 1),
            "setreuid" => self.other("setuid", 2),
            "setresuid" => self.other("setuid", 3),
            "setgid" | "setfsgid" => self.other("setgid", 1),
            "setregid" => self.other("setgid", 2),
            "setresgid" => self.other("setgid", 3),
            "setgroups" => vec![Event::Capability("setgid")],
            "chroot" => vec![Event::Capability("sys-chroot")],
            "mount" | "umount2" | "pivot_root" | "move_mount" | "open_tree" | "fsopen" | "fsmount" | "fspick"
            | "mount_setattr" | "setns" | "sethostname" | "setdomainname" => vec![Event::Capability("sys-admin")],
            "mmap" if self.args[2] as i32 & W_AND_X == W_AND_X => vec![Event::WritableCode],
            "mprotect" | "pkey_mprotect" if self.args[2] as i32 & libc::PROT_EXEC != 0 => vec![Event::WritableCode],
            _ => Vec::new(),
        }
    }

    fn run(&self, path: Option<String>) -> Vec<Event> {
        let run = |path: String| Event::Run {
            set_id: self.inside.set_id(&path),
            path,
        };
        path.map(run).into_iter().collect()
    }

    /// Whether the first `count` arguments name ids that the process does not have.
    fn other(&self, capability: &'static str, count: usize) -> Vec<Event> {
        let who = self.inside.who();
        let own = if capability == "setuid" { who.users } else { who.groups };
        let other = (0..count)
            .map(|index| self.id(index))
            .any(|id| id != u32::MAX && !own.contains(&id));
        other.then_some(Event::Capability(capability)).into_iter().collect()
    }

    /// Whether a change of owner, with the user at `first` and the group after it, is more than its owner may do.
    fn owner(&self, first: usize) -> Vec<Event> {
        let (user, group, who) = (self.id(first), self.id(first + 1), self.inside.who());
        let other_user = user != u32::MAX && who.users.get(3) != Some(&user);
        let other_group = group != u32::MAX && who.groups.get(3) != Some(&group) && !who.others.contains(&group);
        let needed = other_user || other_group;
        needed.then_some(Event::Capability("chown")).into_iter().collect()
    }

    fn node(&self, mode: usize) -> Vec<Event> {
        let device = matches!(self.id(mode) & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
        device.then_some(Event::Capability("mknod")).into_iter().collect()
    }

    fn socket(&self) -> Vec<Event> {
        // The lower bits of the second argument are the type, the others flags (linux/net.h).
        let (family, kind) = (self.number(0), self.number(1) & 0xf);
        let raw = matches!(family, libc::AF_INET | libc::AF_INET6) && kind == libc::SOCK_RAW;
        let needed = raw || family == libc::AF_PACKET;
        needed.then_some(Event::Capability("net-raw")).into_iter().collect()
    }

    /// The address at an argument, its length at another; the socket is the first one.
    fn place(&self, address: usize, length: usize) -> Option<Place> {
        let length = usize::try_from(self.args[length]).ok()?.min(128);
        let bytes = self.inside.bytes(self.args[address], length)?;
        let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        if family == libc::AF_UNIX {
            let name = &bytes[2..];
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return match name.split(|byte| *byte == 0).next() {
                _ if name.is_empty() => None,
                Some([]) => Some(Place::Abstract(text(name[1..].trim_ascii_end()).replace('\0', "@"))),
                Some(path) => Some(Place::Path(self.inside.path(HERE, &text(path), true))),
                None => None,
            };
        }
        let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
        let ip = match family {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?)),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?)),
            _ => return None,
        };
        Some(Place::Ip {
            transport: self.inside.transport(self.number(0)),
            at: SocketAddr::new(ip.to_canonical(), port),
        })
    }

    /// What a call without an event was about.
    fn detail(&self, name: &str) -> String {
        match name {
            "socket" => {
                let family = match self.number(0) {
                    libc::AF_UNIX => "unix",
                    libc::AF_INET => "inet",
                    libc::AF_INET6 => "inet6",
                    libc::AF_NETLINK => "netlink",
                    libc::AF_PACKET => "packet",
                    libc::AF_VSOCK => "vsock",
                    libc::AF_ALG => "alg",
                    libc::AF_BLUETOOTH => "bluetooth",
                    other => return format!("family {other}"),
                };
                family.to_owned()
            }
            "clone" => format!("flags {:#x}", self.args[0]),
            "personality" | "setuid" | "setgid" | "setfsuid" | "setfsgid" | "unshare" => format!("{:#x}", self.args[0]),
            _ => String::new(),
        }
    }
}

const W_AND_X: i32 = libc::PROT_WRITE | libc::PROT_EXEC;

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
