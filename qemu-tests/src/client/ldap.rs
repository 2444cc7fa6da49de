//! LDAP (RFC 4511): simple bind, base-object search for presence, and add; enough to see that a directory lives and remembers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::error::HarnessError;

/// A bound connection.
#[derive(Debug)]
pub struct Ldap {
    socket: TcpStream,
    address: String,
    id: u8,
}

impl Ldap {
    /// Connects and binds.
    ///
    /// # Errors
    /// When the server does not answer or refuses the name or password.
    pub fn bind(port: u16, name: &str, password: &str) -> Result<Ldap, HarnessError> {
        let address = format!("127.0.0.1:{port}");
        let fail = |error: std::io::Error| service(&address, error.to_string());
        let socket = TcpStream::connect(&address).map_err(fail)?;
        socket.set_read_timeout(Some(Duration::from_secs(30))).map_err(fail)?;
        let mut ldap = Ldap { socket, address, id: 0 };
        let request = [tlv(2, &[3]), tlv(4, name.as_bytes()), tlv(0x80, password.as_bytes())].concat();
        let answer = ldap.ask(0x60, &request)?;
        ldap.succeed("bind", &answer)?;
        Ok(ldap)
    }

    /// Whether an entry is there.
    ///
    /// # Errors
    /// When the server does not answer, or with something other than the entry or `noSuchObject`.
    pub fn exists(&mut self, name: &str) -> Result<bool, HarnessError> {
        // baseObject, neverDerefAliases, no limits, values too, (objectClass=*), no attributes named.
        let request = [
            tlv(4, name.as_bytes()),
            tlv(10, &[0]),
            tlv(10, &[0]),
            tlv(2, &[0]),
            tlv(2, &[0]),
            tlv(1, &[0]),
            tlv(0x87, b"objectClass"),
            tlv(0x30, &[]),
        ]
        .concat();
        let mut answer = self.ask(0x63, &request)?;
        let mut found = false;
        while answer.0 == 0x64 {
            found = true;
            answer = self.answer()?;
        }
        match result_code(&answer.1) {
            Some(0) => Ok(found),
            Some(32) => Ok(false),
            code => Err(service(&self.address, format!("search ended with {code:?}"))),
        }
    }

    /// Adds an entry of `(attribute, value)` pairs; those of one attribute stand together.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn add(&mut self, name: &str, attributes: &[(&str, &str)]) -> Result<(), HarnessError> {
        let list: Vec<u8> = attributes
            .chunk_by(|one, other| one.0 == other.0)
            .flat_map(|pairs| {
                let kind = pairs.first().map_or("", |(kind, _)| kind);
                let values: Vec<u8> = pairs.iter().flat_map(|(_, value)| tlv(4, value.as_bytes())).collect();
                tlv(0x30, &[tlv(4, kind.as_bytes()), tlv(0x31, &values)].concat())
            })
            .collect();
        let request = [tlv(4, name.as_bytes()), tlv(0x30, &list)].concat();
        let answer = self.ask(0x68, &request)?;
        self.succeed("add", &answer)
    }

    fn succeed(&self, what: &str, answer: &(u8, Vec<u8>)) -> Result<(), HarnessError> {
        match result_code(&answer.1) {
            Some(0) => Ok(()),
            code => Err(service(
                &self.address,
                format!("{what} was refused with result {code:?}"),
            )),
        }
    }

    fn ask(&mut self, operation: u8, body: &[u8]) -> Result<(u8, Vec<u8>), HarnessError> {
        self.id = self.id % 100 + 1;
        let message = tlv(0x30, &[tlv(2, &[self.id]), tlv(operation, body)].concat());
        self.socket
            .write_all(&message)
            .map_err(|error| service(&self.address, error.to_string()))?;
        self.answer()
    }

    /// The operation's tag and its content.
    fn answer(&mut self) -> Result<(u8, Vec<u8>), HarnessError> {
        let mut read = || -> std::io::Result<(u8, Vec<u8>)> {
            let (_, message) = read_tlv(&mut self.socket)?;
            let mut rest = message.as_slice();
            read_tlv(&mut rest)?;
            read_tlv(&mut rest)
        };
        read().map_err(|error| service(&self.address, error.to_string()))
    }
}

fn service(address: &str, reason: String) -> HarnessError {
    HarnessError::Service {
        service: "LDAP",
        address: address.to_owned(),
        reason,
    }
}

fn result_code(answer: &[u8]) -> Option<u8> {
    let mut rest = answer;
    read_tlv(&mut rest).ok()?.1.last().copied()
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match value.len() {
        short @ 0..=127 => bytes.push(short as u8),
        long => bytes.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    bytes.extend(value);
    bytes
}

fn read_tlv(from: &mut impl Read) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    from.read_exact(&mut head)?;
    let mut length = usize::from(head[1]);
    if head[1] & 0x80 != 0 {
        let mut bytes = vec![0; usize::from(head[1] & 0x7f).min(4)];
        from.read_exact(&mut bytes)?;
        length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    }
    if length > 1 << 20 {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "an LDAP message of more than 1 MiB",
        ));
    }
    let mut value = vec![0; length];
    from.read_exact(&mut value)?;
    Ok((head[0], value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_values_are_read_as_they_were_written() {
        for length in [0, 1, 127, 128, 3000] {
            let value = vec![7; length];
            assert_eq!(read_tlv(&mut tlv(4, &value).as_slice()).unwrap(), (4, value));
        }
    }
}
