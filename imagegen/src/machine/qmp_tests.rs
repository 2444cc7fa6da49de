use std::io::{BufRead, BufReader};
use std::thread;

use super::*;

/// A QEMU that greets, then gives one prepared answer to each line it is sent.
fn fake(answers: &'static [&'static str]) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        let mut socket = theirs;
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        writeln!(socket, "{}", json!({"QMP": {"version": {}, "capabilities": []}})).unwrap();
        lines.next();
        writeln!(socket, "{}", json!({"return": {}})).unwrap();
        for answer in answers {
            lines.next();
            writeln!(socket, "{answer}").unwrap();
        }
        // Stays open until the client leaves.
        lines.next();
    });
    ours
}

#[test]
fn an_event_before_an_answer_is_kept_for_later() {
    let mut qmp = Qmp::new(fake(&[
        "{\"event\":\"RESET\",\"data\":{\"guest\":true}}\n{\"return\":{\"status\":\"running\"}}",
    ]))
    .unwrap();
    assert_eq!(qmp.status().unwrap(), "running");
    let event = qmp
        .wait_event("a reset", Duration::from_secs(5), |event| event.name == "RESET")
        .unwrap();
    assert_eq!(event.data, json!({"guest": true}));
}

#[test]
fn a_refusal_says_which_command_and_why() {
    let mut qmp = Qmp::new(fake(&[
        "{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"Device 'x' not found\"}}",
    ]))
    .unwrap();
    let error = qmp.device_del("x").unwrap_err().to_string();
    assert_eq!(error, "QEMU refused the command device_del: Device 'x' not found");
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let mut qmp = Qmp::new(fake(&[])).unwrap();
    let started = Instant::now();
    let error = qmp
        .wait_event("a shutdown", Duration::from_millis(50), |_| true)
        .unwrap_err();
    assert!(matches!(error, MachineError::Deadline { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_chosen_port_is_read_from_qemus_own_table() {
    let table = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                 TCP[HOST_FORWARD]   8       127.0.0.1 34185       10.0.2.15   443     0     0\r\n  \
                 TCP[HOST_FORWARD]   3       127.0.0.1 45557       10.0.2.15   389     0     0\r\n";
    assert_eq!(find_forward(table, 389), Some(45557));
    assert_eq!(find_forward(table, 443), Some(34185));
    assert_eq!(find_forward(table, 80), None);
}
