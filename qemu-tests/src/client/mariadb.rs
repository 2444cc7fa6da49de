//! MariaDB's client protocol, as far as a text query with `mysql_native_password` needs it (MariaDB's "Client/Server Protocol").

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::error::HarnessError;

const LONG_PASSWORD: u32 = 1;
const PROTOCOL_41: u32 = 1 << 9;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;

/// A connection that is logged in.
#[derive(Debug)]
pub struct MariaDb {
    socket: TcpStream,
    address: String,
    sequence: u8,
}

impl MariaDb {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub fn connect(port: u16, user: &str, password: &str) -> Result<MariaDb, HarnessError> {
        let address = format!("127.0.0.1:{port}");
        let fail = |error: std::io::Error| service(&address, error.to_string());
        let socket = TcpStream::connect(&address).map_err(fail)?;
        socket.set_read_timeout(Some(Duration::from_secs(30))).map_err(fail)?;
        let mut db = MariaDb {
            socket,
            address,
            sequence: 0,
        };
        let greeting = db.packet()?;
        let salt = salt(&greeting).ok_or_else(|| service(&db.address, "its greeting is not protocol 10".into()))?;
        let mut login = Vec::new();
        login.extend((LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH).to_le_bytes());
        login.extend((1_u32 << 24).to_le_bytes());
        // utf8mb4_general_ci, then 23 bytes of nothing.
        login.push(45);
        login.extend([0; 23]);
        login.extend(user.as_bytes());
        login.push(0);
        login.push(20);
        login.extend(scramble(password, &salt));
        login.extend(b"mysql_native_password\0");
        db.send(&login)?;
        let mut answer = db.packet()?;
        if answer.first() == Some(&0xfe) {
            // The account wants the same method with a new salt: name, 0, salt, 0.
            let end = answer
                .iter()
                .skip(1)
                .position(|byte| *byte == 0)
                .map_or(answer.len(), |at| at + 2);
            let new: Vec<u8> = answer[end.min(answer.len())..].iter().copied().take(20).collect();
            db.send(&scramble(password, &new))?;
            answer = db.packet()?;
        }
        db.check(&answer)?;
        Ok(db)
    }

    /// Runs a statement; the rows as text, `NULL` as `None`.
    ///
    /// # Errors
    /// With the server's words.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, HarnessError> {
        self.sequence = 0;
        self.send(&[&[3], sql.as_bytes()].concat())?;
        let head = self.packet()?;
        self.check(&head)?;
        let columns = usize::from(head.first().copied().unwrap_or(0));
        if columns == 0 {
            return Ok(Vec::new());
        }
        // The columns' descriptions and the mark after them.
        for _ in 0..=columns {
            self.packet()?;
        }
        let mut rows = Vec::new();
        loop {
            let packet = self.packet()?;
            self.check(&packet)?;
            if packet.first() == Some(&0xfe) && packet.len() < 9 {
                return Ok(rows);
            }
            let row =
                row(&packet, columns).ok_or_else(|| service(&self.address, "a row that cannot be read".into()))?;
            rows.push(row);
        }
    }

    fn check(&self, packet: &[u8]) -> Result<(), HarnessError> {
        if packet.first() == Some(&0xff) {
            let words = String::from_utf8_lossy(packet.get(3..).unwrap_or_default()).into_owned();
            return Err(service(&self.address, words));
        }
        Ok(())
    }

    fn packet(&mut self) -> Result<Vec<u8>, HarnessError> {
        let mut read = || {
            let mut head = [0; 4];
            self.socket.read_exact(&mut head)?;
            self.sequence = head[3].wrapping_add(1);
            let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
            self.socket.read_exact(&mut body)?;
            Ok::<_, std::io::Error>(body)
        };
        read().map_err(|error| service(&self.address, error.to_string()))
    }

    fn send(&mut self, body: &[u8]) -> Result<(), HarnessError> {
        let length = (body.len() as u32).to_le_bytes();
        let packet = [&[length[0], length[1], length[2], self.sequence], body].concat();
        self.socket
            .write_all(&packet)
            .map_err(|error| service(&self.address, error.to_string()))
    }
}

fn service(address: &str, reason: String) -> HarnessError {
    HarnessError::Service {
        service: "MariaDB",
        address: address.to_owned(),
        reason,
    }
}

/// The twenty bytes of the greeting: eight after the version and thread id, twelve after the flags.
fn salt(greeting: &[u8]) -> Option<Vec<u8>> {
    if greeting.first() != Some(&10) {
        return None;
    }
    let version_end = greeting.iter().position(|byte| *byte == 0)?;
    let first = version_end + 5;
    let second = first + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10;
    Some([greeting.get(first..first + 8)?, greeting.get(second..second + 12)?].concat())
}

/// `SHA1(password) xor SHA1(salt, SHA1(SHA1(password)))`.
fn scramble(password: &str, salt: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password.as_bytes());
    let twice = Sha1::digest(once);
    let mixed = Sha1::new().chain_update(salt).chain_update(twice).finalize();
    once.iter().zip(mixed).map(|(a, b)| a ^ b).collect()
}

fn row(packet: &[u8], columns: usize) -> Option<Vec<Option<String>>> {
    let mut rest = packet;
    let mut row = Vec::new();
    for _ in 0..columns {
        let (first, after) = rest.split_first()?;
        let (length, after) = match first {
            0xfb => {
                row.push(None);
                rest = after;
                continue;
            }
            0xfc => (
                usize::from(u16::from_le_bytes([*after.first()?, *after.get(1)?])),
                after.get(2..)?,
            ),
            short => (usize::from(*short), after),
        };
        row.push(Some(String::from_utf8_lossy(after.get(..length)?).into_owned()));
        rest = &after[length..];
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_null_apart_from_empty() {
        assert_eq!(
            row(&[0xfb, 0, 2, b'o', b'k'], 3).unwrap(),
            [None, Some(String::new()), Some("ok".into())]
        );
    }
}
