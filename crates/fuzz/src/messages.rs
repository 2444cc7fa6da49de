//! The small protocols between the supervisor's programs, and what a service says.

use cairn_init::protocol::{Event, FRAME_LEN, Frame, Request, VERSION};
use cairn_manager::notify::{Word, parse};
use cairn_sandbox::Report;

/// A message on a unit's notify socket.
pub fn notify(data: &[u8]) {
    let words = parse(data);
    assert!(
        words.len() <= String::from_utf8_lossy(data).lines().count(),
        "a line is one word at most"
    );
    for word in &words {
        match word {
            Word::Status(text) => {
                assert!(
                    text.chars().count() <= 200 && !text.chars().any(char::is_control),
                    "{text:?}"
                );
            }
            Word::Store(name) | Word::Remove(name) => {
                let fine = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
                assert!(fine && (1..=255).contains(&name.len()), "{name:?}");
            }
            Word::MainPid(pid) => assert!(*pid > 0),
            Word::Errno(errno) => assert!((1..4096).contains(errno)),
            Word::WatchdogEvery(us) => assert!(*us > 0),
            _ => {}
        }
    }
    crate::manager::heard(&words);
}

/// A packet on the socket between cairn-init and cairn-manager. The first byte is how many descriptors came with it; a packet
/// that is too short or of another version is also given as one that is not.
pub fn init_protocol(data: &[u8]) {
    let Some((fds, packet)) = data.split_first() else {
        return;
    };
    let fds = usize::from(*fds);
    frame(packet, fds);
    let mut whole: Frame = [0; FRAME_LEN];
    let given = packet.len().min(FRAME_LEN);
    whole[..given].copy_from_slice(&packet[..given]);
    whole[0] = VERSION;
    frame(&whole, fds);
    frame(&whole, usize::from(whole[2]));
}

/// What is read is what was written, and never both a request and an event.
fn frame(packet: &[u8], fds: usize) {
    let (request, event) = (Request::decode(packet, fds), Event::decode(packet, fds));
    assert!(request.is_err() || event.is_err());
    match request {
        Ok(request) => assert!(request.encode()[..] == *packet && request.fds() == fds, "{request:?}"),
        Err(why) => assert!(!why.to_string().is_empty()),
    }
    match event {
        Ok(event) => assert!(event.encode()[..] == *packet && event.fds() == fds, "{event:?}"),
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

/// What cairn-exec is given on descriptor 3, and what it says on its status socket.
pub fn exec_report(data: &[u8]) {
    if let Ok(report) = Report::parse(data) {
        let again = Report::parse(&report.to_line()).expect("what is written can be read");
        assert_eq!(again, report);
        assert!(!matches!(
            report,
            Report::Pid { pid: ..=0 } | Report::Execed { execed: false }
        ));
    }
    cairn_sandbox::fuzz::job(data);
}
