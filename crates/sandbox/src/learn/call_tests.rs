use super::*;
use std::collections::BTreeMap;

/// A process with user 100, group 100 and 7, whose memory is a table.
#[derive(Default)]
struct Fake {
    memory: BTreeMap<u64, Vec<u8>>,
    udp: bool,
}

impl Fake {
    fn with(memory: &[(u64, &[u8])]) -> Self {
        let memory = memory.iter().map(|(at, bytes)| (*at, bytes.to_vec())).collect();
        Self { memory, udp: false }
    }
}

impl Inside for Fake {
    fn who(&self) -> Who {
        Who {
            name: "fake".into(),
            users: vec![100; 4],
            groups: vec![100; 4],
            others: vec![7],
        }
    }
    fn bytes(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let bytes = self.memory.get(&at)?;
        Some(bytes[..length.min(bytes.len())].to_vec())
    }
    fn text(&self, at: u64) -> Option<String> {
        Some(String::from_utf8(self.memory.get(&at)?.clone()).unwrap())
    }
    fn path(&self, folder: i32, path: &str, _follow: bool) -> String {
        match folder {
            _ if path.starts_with('/') => path.to_owned(),
            HERE => format!("/here/{path}"),
            folder => format!("/folder{folder}/{path}"),
        }
    }
    fn open_path(&self, descriptor: i32) -> Option<String> {
        Some(if descriptor == 9 {
            "pipe:[1]".into()
        } else {
            format!("/folder{descriptor}")
        })
    }
    fn transport(&self, _descriptor: i32) -> Transport {
        if self.udp { Transport::Udp } else { Transport::Tcp }
    }
    fn set_id(&self, path: &str) -> bool {
        path.ends_with("sudo")
    }
}

fn of(name: &str, args: &[u64], memory: &[(u64, &[u8])]) -> Vec<Event> {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    read(name, &all, &Fake::with(memory)).1
}

fn writes(path: &str) -> Vec<Event> {
    vec![Event::Write(path.into())]
}

fn reads(path: &str) -> Vec<Event> {
    vec![Event::Read(path.into())]
}

const CWD: u64 = HERE as u32 as u64;

#[test]
fn opening_is_reading_or_writing_by_its_flags() {
    let memory: &[(u64, &[u8])] = &[(16, b"a"), (32, b"/b")];
    let flags = |flags: i32| flags as u64;
    for (flag, want) in [
        (libc::O_RDONLY, reads("/here/a")),
        (libc::O_RDONLY | libc::O_DIRECTORY, reads("/here/a")),
        (libc::O_WRONLY, writes("/here/a")),
        (libc::O_RDWR, writes("/here/a")),
        (libc::O_RDONLY | libc::O_CREAT, writes("/here/a")),
        (libc::O_RDONLY | libc::O_TRUNC, writes("/here/a")),
        (libc::O_PATH | libc::O_RDWR, vec![]),
    ] {
        assert_eq!(of("openat", &[CWD, 16, flags(flag)], memory), want, "{flag:o}");
        assert_eq!(of("open", &[16, flags(flag)], memory), want, "{flag:o}");
        let how = (flag as u64).to_ne_bytes();
        let memory: &[(u64, &[u8])] = &[(16, b"a"), (48, &how)];
        assert_eq!(of("openat2", &[CWD, 16, 48, 24], memory), want, "{flag:o}");
    }
    assert_eq!(of("openat", &[5, 32, 0], memory), reads("/b"));
    assert_eq!(of("openat", &[5, 16, 0], memory), reads("/folder5/a"));
    assert_eq!(of("openat", &[CWD, 99, 0], memory), [], "memory that is not there");
}

#[test]
fn what_changes_names_is_writing_at_every_name() {
    let memory: &[(u64, &[u8])] = &[(16, b"/old"), (32, b"/new"), (48, b"")];
    let both = [writes("/old"), writes("/new")].concat();
    assert_eq!(of("rename", &[16, 32], memory), both);
    assert_eq!(of("renameat2", &[CWD, 16, CWD, 32, 0], memory), both);
    assert_eq!(of("link", &[16, 32], memory), writes("/new"));
    assert_eq!(of("linkat", &[CWD, 16, CWD, 32, 0], memory), writes("/new"));
    assert_eq!(of("symlinkat", &[16, CWD, 32], memory), writes("/new"));
    for call in ["mkdirat", "unlinkat", "fchmodat"] {
        assert_eq!(of(call, &[CWD, 16, 0], memory), writes("/old"), "{call}");
    }
    for call in ["mkdir", "rmdir", "unlink", "creat", "truncate", "chmod"] {
        assert_eq!(of(call, &[16, 0], memory), writes("/old"), "{call}");
    }
    assert_eq!(
        of("fchmodat2", &[4, 48, 0], memory),
        writes("/folder4"),
        "the descriptor itself"
    );
}

#[test]
fn capabilities_are_needed_only_beyond_ones_own() {
    let memory: &[(u64, &[u8])] = &[(16, b"/f")];
    let none = u64::from(u32::MAX);
    let needs = |events: Vec<Event>| -> Vec<&str> {
        let names = events.into_iter().filter_map(|event| match event {
            Event::Capability(name) => Some(name),
            _ => None,
        });
        names.collect()
    };
    for (call, args, want) in [
        ("chown", vec![16, none, none], vec![]),
        ("chown", vec![16, 100, 7], vec![]),
        ("chown", vec![16, 0, none], vec!["chown"]),
        ("lchown", vec![16, 100, 5], vec!["chown"]),
        ("fchownat", vec![CWD, 16, 101, 100, 0], vec!["chown"]),
        ("fchown", vec![9, 101, 100], vec!["chown"]),
        ("setuid", vec![100], vec![]),
        ("setuid", vec![33], vec!["setuid"]),
        ("setreuid", vec![none, 100, 33], vec![]),
        ("setresuid", vec![100, 100, 33], vec!["setuid"]),
        ("setresgid", vec![none, 7, none], vec!["setgid"]),
        ("setgroups", vec![0, 0], vec!["setgid"]),
        ("mknod", vec![16, u64::from(libc::S_IFIFO), 0], vec![]),
        ("mknodat", vec![CWD, 16, u64::from(libc::S_IFCHR), 0], vec!["mknod"]),
        ("socket", vec![2, 1, 0], vec![]),
        ("socket", vec![10, 3 | 0x80000, 58], vec!["net-raw"]),
        ("socket", vec![17, 2, 0], vec!["net-raw"]),
        ("chroot", vec![16], vec!["sys-chroot"]),
        ("mount", vec![16, 16], vec!["sys-admin"]),
        ("getpid", vec![], vec![]),
    ] {
        assert_eq!(needs(of(call, &args, memory)), want, "{call} {args:?}");
    }
}

#[test]
fn addresses_are_read_as_the_kernel_has_them() {
    let unix = |name: &[u8]| [&(libc::AF_UNIX as u16).to_ne_bytes()[..], name].concat();
    let v4 = [
        &(libc::AF_INET as u16).to_ne_bytes()[..],
        &[0x0c, 0xea, 10, 0, 0, 2],
        &[0; 8],
    ]
    .concat();
    let mapped = [0; 10].into_iter().chain([255, 255, 10, 0, 0, 2]).collect::<Vec<u8>>();
    let v6 = [
        &(libc::AF_INET6 as u16).to_ne_bytes()[..],
        &[0x0c, 0xea],
        &[0; 4],
        &mapped,
        &[0; 4],
    ]
    .concat();
    let connect = |bytes: &[u8]| of("connect", &[3, 16, bytes.len() as u64], &[(16, bytes)]);
    let tcp = Place::Ip {
        transport: Transport::Tcp,
        at: "10.0.0.2:3306".parse().unwrap(),
    };
    assert_eq!(tcp.to_string(), "tcp 10.0.0.2:3306");
    assert_eq!(connect(&v4), [Event::Connect(tcp.clone())]);
    assert_eq!(connect(&v6), [Event::Connect(tcp.clone())], "in IPv6's form");
    assert_eq!(connect(&v4[..6]), [], "cut off");
    let path = |path: &str| Event::Connect(Place::Path(path.into()));
    assert_eq!(connect(&unix(b"/run/x\0\0\0")), [path("/run/x")]);
    assert_eq!(connect(&unix(b"x")), [path("/here/x")], "relative, without a zero");
    assert_eq!(
        connect(&unix(b"\0name")),
        [Event::Connect(Place::Abstract("name".into()))]
    );
    assert_eq!(connect(&unix(b"")), [], "no name at all");
    assert_eq!(connect(&16u16.to_ne_bytes()), [], "netlink");
    let bound = of("bind", &[3, 16, 110], &[(16, &unix(b"/run/own\0"))]);
    let want = [
        Event::Bind(Place::Path("/run/own".into())),
        Event::Write("/run/own".into()),
    ];
    assert_eq!(bound, want);
    let sent = |at| of("sendto", &[3, 64, 1, 0, at, 16], &[(16, &v4)]);
    assert_eq!((sent(16), sent(0)), (vec![Event::Connect(tcp)], vec![]));
    let mut udp = Fake::with(&[(16, &v4)]);
    udp.udp = true;
    let (detail, _) = read("bind", &[3, 16, 16, 0, 0, 0], &udp);
    assert_eq!(detail, "udp 10.0.0.2:3306");
}

#[test]
fn programs_and_code_are_told() {
    let memory: &[(u64, &[u8])] = &[(16, b"/usr/bin/sudo"), (32, b"")];
    let run = |path: &str, set_id| {
        vec![Event::Run {
            path: path.into(),
            set_id,
        }]
    };
    assert_eq!(of("execve", &[16, 0, 0], memory), run("/usr/bin/sudo", true));
    assert_eq!(of("execveat", &[4, 32, 0, 0, 0x1000], memory), run("/folder4", false));
    let prot = |prot: i32| vec![0, 4096, prot as u64];
    let (r, w, x) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
    assert_eq!(of("mmap", &prot(r | w | x), memory), [Event::WritableCode]);
    assert_eq!(of("mmap", &prot(r | x), memory), []);
    assert_eq!(of("mprotect", &prot(r | x), memory), [Event::WritableCode]);
    assert_eq!(of("mprotect", &prot(r | w), memory), []);
}
