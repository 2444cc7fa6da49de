use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use cairn_log::{BootId, Origin, Priority, Query, Rate, Reader, Record, Stream, UnitLimits};
use tokio::sync::{mpsc, watch};

use super::super::dev_log;
use super::*;

/// A unit's pipes and files, which outlive the managers that use them.
struct World {
    dir: tempfile::TempDir,
    read: OwnedFd,
    stage: OwnedFd,
    service: File,
    socket: Option<OwnedFd>,
    rate: Rate,
}

impl World {
    fn new() -> World {
        let (read, write) = crate::io::log_pipe().unwrap();
        World {
            dir: tempfile::tempdir().unwrap(),
            read,
            stage: super::super::held::stage().unwrap(),
            service: write.into(),
            socket: None,
            rate: Rate::default(),
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// A manager that has just started, as its thread sees the unit.
    fn manager(&self) -> (Source, Tools) {
        let (news, _) = mpsc::unbounded_channel();
        let store = super::super::Store {
            root: self.root(),
            boot: BootId([9; 16]),
            newest: watch::channel(0).1,
            units: Default::default(),
        };
        let tools = Tools {
            sink: Sink::new(&store, watch::channel(0).0, news),
            glass: Glass::new().unwrap(),
            window: Vec::new(),
            buffer: Vec::new(),
        };
        let (file, note) = NoteFile::open(&self.dir.path().join("note")).unwrap();
        let pipes = [self.read.try_clone().unwrap(), self.stage.try_clone().unwrap()];
        let limits = UnitLog {
            keep: UnitLimits::default(),
            rate: self.rate,
        };
        let mut source = Source::new("web".into(), pipes, file, note, &limits);
        if let Some(socket) = &self.socket {
            let own = Some(rustix::process::geteuid().as_raw());
            source.heard = Some(Heard::new(socket.try_clone().unwrap(), 0..0, own, true));
        }
        (source, tools)
    }

    fn records(&self) -> Vec<Record> {
        let all = Reader::new(self.root()).query(&Query::default()).unwrap();
        all.map(Result::unwrap).collect()
    }

    fn messages(&self) -> Vec<String> {
        let text = |record: Record| String::from_utf8(record.message).unwrap();
        self.records().into_iter().map(text).collect()
    }
}

fn drain(source: &mut Source, tools: &mut Tools, end: bool) {
    while source.drain(tools, end) == Progress::More {}
}

/// Where a manager is killed while it carries out a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    BeforeNote,
    AfterNote,
    AfterStage,
    /// The store has so many of its records.
    Within(usize),
    AfterStore,
    AfterEmptying,
}

/// Carries out the next batch up to there, as [`Source::drain`] and [`Source::carry_out`] do.
fn work_until(killed: Killed, source: &mut Source, tools: &mut Tools) {
    if source.pending {
        // It is killed again, before or after its successor's work.
        if killed != Killed::BeforeNote {
            source.resume(tools);
        }
        return;
    }
    let mut window = Vec::new();
    tools.glass.look(&source.pipe, &mut window);
    let first = tools.sink.next_place("web").unwrap();
    let Decision::Store(batch) = source.decide(&window, false, first) else {
        return;
    };
    if killed == Killed::BeforeNote {
        return;
    }
    source.note.batch = Some(batch);
    source.file.write(&source.note);
    if killed == Killed::AfterNote {
        return;
    }
    assert!(source.stage(batch.taken));
    window.truncate(batch.taken);
    window.extend_from_slice(MORE);
    let (pieces, _) = batch.lay_out(source.note.lines, None, &window);
    let count = match killed {
        Killed::AfterStage => return,
        Killed::Within(count) => count.min(pieces.len()),
        _ => pieces.len(),
    };
    let origin = Origin::new(Stream::Stdout, Priority::Info);
    for (part, message) in &pieces[..count] {
        let entry = Entry {
            realtime: 1,
            monotonic: 1,
            origin: &origin,
            part: *part,
            message,
        };
        tools.sink.append("web", &[entry]).unwrap();
    }
    if killed == Killed::AfterEmptying {
        empty(&source.stage, batch.taken);
    }
}

#[test]
fn a_manager_killed_at_any_step_leaves_every_line_to_be_stored_once() {
    let long = "x".repeat(40_000);
    // Lines that are the same, a long one, and one that is not finished; and a long one that is not.
    let texts = [format!("tick\ntick\n{long}\ntick\ntick\nlast"), format!("tick\n{long}")];
    let lines = [
        vec!["tick", "tick", &long, "tick", "tick", "last line"],
        vec!["tick", &long],
    ];
    let steps = [
        Killed::BeforeNote,
        Killed::AfterNote,
        Killed::AfterStage,
        Killed::Within(0),
        Killed::Within(1),
        Killed::Within(3),
        Killed::Within(4),
        Killed::AfterStore,
        Killed::AfterEmptying,
    ];
    for (first, second, which) in steps
        .iter()
        .flat_map(|a| steps.iter().flat_map(move |b| [(*a, *b, 0), (*a, *b, 1)]))
    {
        let mut world = World::new();
        world.service.write_all(texts[which].as_bytes()).unwrap();
        for killed in [first, second] {
            let (mut source, mut tools) = world.manager();
            work_until(killed, &mut source, &mut tools);
        }
        let (mut source, mut tools) = world.manager();
        drain(&mut source, &mut tools, false);
        world
            .service
            .write_all(if which == 0 { b" line\n" } else { b"\n" })
            .unwrap();
        drain(&mut source, &mut tools, false);
        let stored: Vec<_> = world.records().iter().map(|r| (r.message.len(), r.cut)).collect();
        let lengths: Vec<_> = lines[which].iter().map(|line| (line.len(), false)).collect();
        assert_eq!(stored, lengths, "{first:?}, {second:?}");
        assert!(world.messages() == lines[which], "{first:?}, {second:?}");
    }
}

#[test]
fn half_a_line_waits_and_comes_at_the_units_end() {
    let mut world = World::new();
    let (mut source, mut tools) = world.manager();
    world.service.write_all(b"one\n\xff\x00two\n<3>bad\nhal").unwrap();
    drain(&mut source, &mut tools, false);
    let stored: Vec<_> = world
        .records()
        .into_iter()
        .map(|r| (r.origin.priority, r.message))
        .collect();
    let info = Priority::Info;
    assert_eq!(
        stored,
        [
            (info, b"one".to_vec()),
            (info, b"\xff\x00two".to_vec()),
            (Priority::Err, b"bad".to_vec())
        ]
    );
    drop((source, tools));
    let (mut source, mut tools) = world.manager();
    world.service.write_all(b"f").unwrap();
    drain(&mut source, &mut tools, true);
    assert_eq!(world.records().last().unwrap().message, b"half");
    assert_eq!(source.take_tail(), ["half"]);
}

#[test]
fn a_long_line_goes_on_over_a_kill_and_ends_with_the_unit() {
    let mut world = World::new();
    let (mut source, mut tools) = world.manager();
    world.service.write_all(&[b'a'; 40_000]).unwrap();
    drain(&mut source, &mut tools, false);
    drop((source, tools));
    let (mut source, mut tools) = world.manager();
    world.service.write_all(&[b'a'; 10_000]).unwrap();
    drain(&mut source, &mut tools, true);
    let stored = world.records();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].message.len(), stored[0].cut), (50_000, false));
}

#[test]
fn a_line_that_is_waited_for_is_known_to_a_successor_and_to_no_other_process() {
    let mut world = World::new();
    let (mut source, mut tools) = world.manager();
    source.wait_for(7, "serving");
    world.service.write_all(b"starting\n").unwrap();
    drain(&mut source, &mut tools, false);
    assert_eq!(source.came(), None);
    world.service.write_all(b"now serving all\n").unwrap();
    drain(&mut source, &mut tools, false);
    // It is killed before it can tell.
    drop((source, tools));
    let (mut source, _tools) = world.manager();
    source.wait_for(7, "serving");
    assert_eq!((source.came(), source.came()), (Some(7), None));
    source.wait_for(8, "serving");
    assert_eq!(source.came(), None);
}

#[test]
fn while_the_store_fails_lines_wait_in_the_pipe_and_are_counted_when_they_are_lost() {
    let mut world = World::new();
    File::create(world.root()).unwrap();
    world.service.write_all(b"one\ntwo\n").unwrap();
    let (mut source, mut tools) = world.manager();
    assert_eq!(source.drain(&mut tools, false), Progress::Stuck);
    std::fs::remove_file(world.root()).unwrap();
    drain(&mut source, &mut tools, false);
    assert_eq!(world.messages(), ["one", "two"]);
    drop((source, tools));
    std::fs::remove_dir_all(world.root()).unwrap();
    File::create(world.root()).unwrap();
    let (mut source, mut tools) = world.manager();
    world.service.write_all(b"three\nfour\n").unwrap();
    assert_eq!(source.drain(&mut tools, false), Progress::Stuck);
    tools.sink.lose_patience();
    assert_eq!(source.drain(&mut tools, false), Progress::More);
    assert_eq!(source.lost, 2);
    std::fs::remove_file(world.root()).unwrap();
    world.service.write_all(b"five\n").unwrap();
    drain(&mut source, &mut tools, false);
    source.settle(&mut tools.sink);
    assert_eq!(
        world.messages(),
        ["five", "2 lines of this unit were lost: the disk did not take them"]
    );
    assert!(!source.is_losing());
}

#[test]
fn a_flood_is_cut_and_the_number_of_dropped_lines_is_said_also_by_a_successor() {
    let mut world = World::new();
    world.rate = Rate {
        burst: 10,
        per_second: 0,
    };
    let lines: String = (0..40).map(|n| format!("{n}\n")).collect();
    world.service.write_all(lines.as_bytes()).unwrap();
    let (mut source, mut tools) = world.manager();
    drain(&mut source, &mut tools, false);
    assert_eq!(world.messages(), (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    drop((source, tools));
    let (mut source, mut tools) = world.manager();
    world.service.write_all(b"40\n").unwrap();
    drain(&mut source, &mut tools, false);
    assert_eq!(world.records().len(), 10, "a new manager gives no new burst");
    assert!(source.is_losing());
    source.note.flood = source.note.flood.at_rate(Rate {
        burst: 10,
        per_second: 1_000_000_000,
    });
    world.service.write_all(b"41\n").unwrap();
    drain(&mut source, &mut tools, false);
    let last = world.messages().split_off(10);
    assert!(
        last[0].starts_with("31 lines of this unit were dropped") && last[1] == "41",
        "{last:?}"
    );
}

#[test]
fn a_message_of_dev_log_is_stored_once_whatever_is_killed_between_storing_and_taking_it() {
    let mut world = World::new();
    let path = world.dir.path().join("socket");
    world.socket = Some(dev_log::listen(&path).unwrap());
    let client = UnixDatagram::unbound().unwrap();
    let send = |text: &str| assert_eq!(client.send_to(text.as_bytes(), &path).unwrap(), text.len());
    send("<27>Nov 22 08:32:02 slapd[17]: conn=1");
    let (mut source, mut tools) = world.manager();
    assert_eq!(source.hear(&mut tools, &mut [0; 1000]), dev_log::Next::Take);
    drop((source, tools));
    // The message still stands in the socket; the same words come again.
    send("<27>Nov 22 08:32:02 slapd[17]: conn=1");
    send("plain");
    let (mut source, mut tools) = world.manager();
    assert_eq!(source.listen(&mut tools), Progress::Idle);
    assert_eq!(world.messages(), ["conn=1", "conn=1", "plain"]);
    let record = &world.records()[1];
    let field = |name| String::from_utf8(record.origin.field(name).unwrap().to_vec()).unwrap();
    assert_eq!(
        (
            field("SYSLOG_IDENTIFIER"),
            field("SYSLOG_PID"),
            field("SYSLOG_FACILITY")
        ),
        ("slapd".into(), "17".into(), "3".into())
    );
    assert_eq!(field("_PID"), std::process::id().to_string());
    assert_eq!(
        (record.origin.priority, record.origin.stream),
        (Priority::Err, Stream::Syslog)
    );
}

#[test]
fn strangers_and_those_who_send_descriptors_along_are_not_heard() {
    let mut world = World::new();
    let path = world.dir.path().join("socket");
    world.socket = Some(dev_log::listen(&path).unwrap());
    let client = UnixDatagram::unbound().unwrap();
    client.connect(&path).unwrap();
    let sent = world.dir.path().join("sent");
    let file = File::create(&sent).unwrap();
    let open = || {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == sent))
            .count()
    };
    let (mut source, mut tools) = world.manager();
    for _ in 0..3 {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let fds = [std::os::fd::AsFd::as_fd(&file); 4];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(
            &client,
            &[std::io::IoSlice::new(b"<3>x: y")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
    }
    assert_eq!(source.listen(&mut tools), Progress::Idle);
    assert_eq!(open(), 1);
    let socket = world.socket.as_ref().unwrap().try_clone().unwrap();
    source.heard = Some(Heard::new(socket, 4_000_000..4_065_536, None, false));
    client.send(b"<3>stranger: hello").unwrap();
    assert_eq!(source.listen(&mut tools), Progress::Idle);
    assert!(world.messages().is_empty());
}

proptest::proptest! {
    #[test]
    fn any_bytes_in_any_portions_between_any_kills_are_the_lines_that_they_are(
        portions in proptest::collection::vec((proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), 0..4_usize, 0..9_usize), 1..8)
    ) {
        let steps = [
            Killed::BeforeNote, Killed::AfterNote, Killed::AfterStage, Killed::Within(1), Killed::Within(2),
            Killed::AfterStore, Killed::AfterEmptying, Killed::Within(5), Killed::Within(0),
        ];
        let mut world = World::new();
        let mut all = Vec::new();
        for (bytes, newlines, step) in &portions {
            let mut bytes: Vec<u8> = bytes.iter().map(|b| if b % 16 == 0 { b'\n' } else { *b }).collect();
            // Pieces of long lines, too.
            bytes.extend(vec![b'l'; newlines * 11_000]);
            bytes.extend(vec![b'\n'; *newlines]);
            world.service.write_all(&bytes).unwrap();
            all.extend_from_slice(&bytes);
            let (mut source, mut tools) = world.manager();
            work_until(steps[*step], &mut source, &mut tools);
            drop((source, tools));
            let (mut source, mut tools) = world.manager();
            drain(&mut source, &mut tools, false);
        }
        let (mut source, mut tools) = world.manager();
        drain(&mut source, &mut tools, true);
        let mut expected: Vec<Vec<u8>> = all.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        expected.pop_if(|last| last.is_empty());
        for line in &mut expected {
            if matches!(line[..], [b'<', b'0'..=b'7', b'>', ..]) {
                line.drain(..3);
            }
        }
        let stored: Vec<Vec<u8>> = world.records().into_iter().map(|record| record.message).collect();
        proptest::prop_assert!(stored == expected, "{} lines became {}", expected.len(), stored.len());
    }
}
