//! A time server (NTP, RFC 5905) that shows a time of its own, on loopback: QEMU's user network reaches it at 10.0.2.2.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From 1900, where NTP begins, to 1970, in seconds.
const TO_1970: u64 = 2_208_988_800;
/// The length of a packet without extensions.
const LENGTH: usize = 48;
/// How often it is looked whether it is to end.
const PULSE: Duration = Duration::from_millis(200);

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct TimeServer {
    port: u16,
    ahead: Arc<AtomicI64>,
    asked: Arc<AtomicU32>,
    ended: Arc<AtomicBool>,
}

impl TimeServer {
    /// One whose time is so many seconds ahead of this machine's, or behind it.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(ahead: i64) -> io::Result<TimeServer> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(PULSE))?;
        let server = TimeServer {
            port: socket.local_addr()?.port(),
            ahead: Arc::new(ahead.into()),
            asked: Arc::default(),
            ended: Arc::default(),
        };
        let (ahead, asked, ended) = (server.ahead.clone(), server.asked.clone(), server.ended.clone());
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else {
                    continue;
                };
                if let Some(answer) = answer(&packet[..length], shown(ahead.load(Ordering::Relaxed))) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(server)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often it has answered.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// The time that it shows.
    pub fn shows(&self) -> SystemTime {
        shown(self.ahead.load(Ordering::Relaxed))
    }

    /// Shows another time from now on.
    pub fn show(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::Relaxed);
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn shown(ahead: i64) -> SystemTime {
    let by = Duration::from_secs(ahead.unsigned_abs());
    match ahead {
        ..0 => SystemTime::now() - by,
        _ => SystemTime::now() + by,
    }
}

/// What a client is answered (RFC 5905, section 7.3): version 4, server, stratum 1.
fn answer(asked: &[u8], now: SystemTime) -> Option<[u8; LENGTH]> {
    const CLIENT: u8 = 3;
    let first = *asked.first().filter(|_| asked.len() >= LENGTH)?;
    if first & 7 != CLIENT {
        return None;
    }
    let since = now.duration_since(UNIX_EPOCH).ok()?;
    // The seconds start again in 2036, as the format has it.
    let seconds = (since.as_secs() + TO_1970) as u32;
    let parts = ((u64::from(since.subsec_nanos()) << 32) / 1_000_000_000) as u32;
    let mut answer = [0; LENGTH];
    answer[..4].copy_from_slice(&[first & 0b0011_1000 | 4, 1, asked[2], 0xec]);
    answer[12..16].copy_from_slice(b"TEST");
    // When it was set, what the client sent as its time, and when that came and this goes.
    answer[24..32].copy_from_slice(&asked[40..48]);
    for at in [16, 32, 40] {
        answer[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
        answer[at + 4..at + 8].copy_from_slice(&parts.to_be_bytes());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_answered_with_the_time_and_with_what_it_sent() {
        let mut asked = [0; LENGTH];
        asked[0] = 0b0010_0011;
        asked[40..48].copy_from_slice(b"my time.");
        let answer = answer(&asked, UNIX_EPOCH + Duration::from_millis(1500)).unwrap();
        assert_eq!(
            (answer[0], answer[1], &answer[24..32]),
            (0b0010_0100, 1, &b"my time."[..])
        );
        assert_eq!(answer[40..44], 2_208_988_801u32.to_be_bytes());
        assert_eq!(answer[44..48], (1u32 << 31).to_be_bytes());
    }

    #[test]
    fn what_is_no_question_has_no_answer() {
        let server = [0b0010_0100; LENGTH];
        assert_eq!(answer(&server, UNIX_EPOCH), None);
        assert_eq!(answer(&[0b0010_0011; LENGTH - 1], UNIX_EPOCH), None);
    }
}
