//! A question for a name in the local network, as a simple resolver asks it (RFC 6762, section 6.7).

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// The address of the first answer.
pub(crate) fn address(name: &str) -> io::Result<Ipv4Addr> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    // One question: an address (type 1) of the internet (class 1).
    let mut question = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).map_err(|_| broken())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send_to(&question, "224.0.0.251:5353")?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer)?;
    let answer = &answer[..length];
    // Every record of an address ends with type 1, class 1 (the highest bit may be set), its time, its length 4, and the address.
    let records = answer
        .windows(14)
        .filter(|part| part[..2] == [0, 1] && part[2] & 0x7f == 0 && part[3] == 1 && part[8..10] == [0, 4]);
    let found = records
        .map(|part| Ipv4Addr::new(part[10], part[11], part[12], part[13]))
        .next();
    found.ok_or_else(broken)
}
