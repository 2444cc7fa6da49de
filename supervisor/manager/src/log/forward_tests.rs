use cairn_log::{BootId, Entry, Limits, Origin, Part, Stream};
use tokio::sync::watch;

use super::*;

struct Box {
    dir: tempfile::TempDir,
    writer: cairn_log::Store,
    newest: watch::Sender<u64>,
    store: Store,
}

impl Box {
    fn new() -> Box {
        let dir = tempfile::tempdir().unwrap();
        let boot = BootId([3; 16]);
        let root = dir.path().join("log");
        let writer = cairn_log::Store::open(&root, boot, Limits::default()).unwrap();
        let (newest, changes) = watch::channel(0);
        let store = Store {
            root,
            boot,
            newest: changes,
            units: Default::default(),
        };
        Box {
            dir,
            writer,
            newest,
            store,
        }
    }

    fn say(&mut self, text: &str) {
        let origin = Origin::new(Stream::Stdout, Priority::Info);
        let entry = Entry {
            realtime: 1,
            monotonic: 1,
            origin: &origin,
            part: Part::Whole,
            message: text.as_bytes(),
        };
        let place = self.writer.append("web", &entry).unwrap();
        self.newest.send_replace(place.0);
    }

    fn start(
        &self,
        target: &str,
    ) -> (
        tokio::task::JoinHandle<()>,
        std::sync::mpsc::Receiver<super::super::Command>,
    ) {
        let (commands, said) = std::sync::mpsc::channel();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let logs = Logs {
            commands,
            wake: wake.into(),
        };
        let saved = self.dir.path().join("forwarded");
        let task = tokio::spawn(run(
            target.parse().unwrap(),
            "box".into(),
            self.store.clone(),
            saved,
            logs,
        ));
        (task, said)
    }
}

async fn read_counted(stream: &mut TcpStream) -> String {
    let mut length = 0;
    loop {
        match stream.read_u8().await.unwrap() {
            b' ' => break,
            digit => length = length * 10 + usize::from(digit - b'0'),
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.unwrap();
    String::from_utf8(message).unwrap()
}

#[test]
fn a_target_is_read_as_people_write_it() {
    for (text, shown) in [
        ("udp://10.0.0.1", "udp://10.0.0.1:514"),
        ("tcp://logs.example:6514", "tcp://logs.example:6514"),
        ("udp://[fd00::1]", "udp://[fd00::1]:514"),
        ("tcp://[::1]:99", "tcp://[::1]:99"),
    ] {
        assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
    }
    for bad in [
        "",
        "10.0.0.1",
        "http://x",
        "udp://",
        "udp://x:0",
        "udp://x:y",
        "udp://a b",
        "udp://[::1]x",
    ] {
        assert!(bad.parse::<Target>().is_err(), "{bad}");
    }
}

#[test]
fn the_file_is_optional_and_its_mistakes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.toml");
    assert_eq!(Target::configured(&path), Ok(None));
    std::fs::write(&path, "[log]\n").unwrap();
    assert_eq!(Target::configured(&path), Ok(None));
    std::fs::write(&path, "[log]\nforward = \"udp://10.0.0.1\"\n").unwrap();
    assert!(Target::configured(&path).unwrap().is_some());
    for bad in ["[log]\nforwrd = 1\n", "[log]\nforward = \"x\"\n", "["] {
        std::fs::write(&path, bad).unwrap();
        assert!(Target::configured(&path).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn records_of_before_and_after_reach_a_udp_listener_as_rfc_5424() {
    let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut world = Box::new();
    world.say("early");
    let _running = world.start(&format!("udp://{}", listener.local_addr().unwrap()));
    let mut buffer = [0; 4096];
    let length = listener.recv(&mut buffer).await.unwrap();
    assert_eq!(
        &buffer[..length],
        b"<30>1 1970-01-01T00:00:00.000000Z box web - - - early"
    );
    world.say(&"x".repeat(5000));
    assert_eq!(listener.recv(&mut buffer).await.unwrap(), LARGEST_DATAGRAM);
}

#[tokio::test]
async fn a_tcp_connection_that_breaks_is_made_again_and_a_successor_goes_on() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    let mut world = Box::new();
    let (first, said) = world.start(&target);
    let (mut stream, _) = listener.accept().await.unwrap();
    world.say("one");
    assert!(read_counted(&mut stream).await.ends_with(" one"));
    // The end is seen before anything is lost in it.
    drop(stream);
    tokio::task::yield_now().await;
    world.say("two");
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(read_counted(&mut stream).await.ends_with(" two"));
    world.say("three");
    assert!(read_counted(&mut stream).await.ends_with(" three"));
    let said: Vec<String> = said
        .try_iter()
        .filter_map(|command| match command {
            super::super::Command::Say(word) => Some(word.text),
            _ => None,
        })
        .collect();
    assert!(
        said[0].starts_with(&format!("logs do not reach {target}: ")) && said[1].ends_with(" again"),
        "{said:?}"
    );
    // A successor sends no record of before that was known to be sent.
    while std::fs::read_to_string(world.dir.path().join("forwarded")).is_err() {
        tokio::task::yield_now().await;
    }
    first.abort();
    let _second = world.start(&target);
    let (mut stream, _) = listener.accept().await.unwrap();
    world.say("four");
    let mut last = String::new();
    while !last.ends_with(" four") {
        last = read_counted(&mut stream).await;
        assert!(!last.ends_with(" one"), "{last}");
    }
}

#[test]
fn what_is_too_far_behind_is_passed_over_and_counted() {
    let world = Box::new();
    let reader = Reader::new(&world.store.root);
    let mut queue = Queue::new(&reader, &world.store, world.dir.path().join("forwarded"));
    let base = 1 << 41;
    queue.sent = Cursor(cairn_log::Seq(base));
    assert_eq!(queue.pass_over(&reader, base + BEHIND), 0);
    assert_eq!(queue.pass_over(&reader, base + 2 * BEHIND), 2 * BEHIND - BEHIND / 2);
    assert_eq!(queue.sent.0.0, base + 2 * BEHIND - BEHIND / 2);
}
