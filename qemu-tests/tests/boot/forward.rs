//! The log as another machine gets it, by TCP and by UDP.

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};

use super::daemons::{Guest, PATIENCE};
use super::*;

/// Where the next manager sends the log to: the host's loopback, as the user network shows it.
fn forward_to(guest: &mut Guest, scheme: &str, port: u16) {
    let text = format!("[log]\nforward = \"{scheme}://10.0.2.2:{port}\"\n");
    guest.write("/data/site/log.toml", &text);
    // It is read when a manager starts.
    let manager = guest.processes("manager")[0];
    must(must(guest.0.agent()).kill(manager));
}

pub(super) fn another_machine_gets_the_log_by_tcp(guest: &mut Guest) {
    let listener = must(TcpListener::bind("127.0.0.1:0"));
    forward_to(guest, "tcp", must(listener.local_addr()).port());
    must(listener.set_nonblocking(true));
    let mut accepted = None;
    wait_until("the manager connects", PATIENCE, || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (mut stream, _) = accepted.unwrap();
    must(stream.set_nonblocking(false));
    must(stream.set_read_timeout(Some(PATIENCE)));
    let mut heard = String::new();
    wait_until("a line of the timer's unit comes", PATIENCE, || {
        let mut piece = [0; 4096];
        let length = must(stream.read(&mut piece));
        heard.push_str(&String::from_utf8_lossy(&piece[..length]));
        heard.contains(" tick ") || length == 0
    });
    // RFC 5424 in RFC 6587's frames: length, priority and version, time, host, name.
    assert!(heard.contains(" daemons-test tick "), "{heard}");
    let digits = heard.split_once(" <").unwrap().0;
    assert!(digits.parse::<usize>().is_ok(), "{heard}");
}

pub(super) fn another_machine_gets_the_log_by_udp(guest: &mut Guest) {
    let socket = must(UdpSocket::bind("127.0.0.1:0"));
    must(socket.set_read_timeout(Some(PATIENCE)));
    forward_to(guest, "udp", must(socket.local_addr()).port());
    let mut bytes = [0; 65536];
    let mut heard = String::new();
    wait_until("a line of the timer's unit comes", PATIENCE, || {
        let length = must(socket.recv(&mut bytes));
        heard = String::from_utf8_lossy(&bytes[..length]).into_owned();
        // RFC 5426: each record is a datagram of its own. daemon.info.
        assert!(heard.starts_with('<'), "{heard}");
        heard.contains(" daemons-test tick ") && heard.ends_with(" tick")
    });
    assert!(heard.starts_with("<30>1 "), "{heard}");
    // No other target is left behind.
    must(must(guest.0.agent()).write_file("/data/site/log.toml", b""));
    guest.wait_answered();
}
