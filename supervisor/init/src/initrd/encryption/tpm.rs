//! The two things that are asked of a TPM without a library: whether there is one, and that nobody after this may have the key.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// The TPM, with the kernel's resource manager.
pub(super) const DEVICE: &str = "/dev/tpmrm0";

/// The PCR that is zero until the partition is open. Systemd uses it likewise (<https://uapi-group.org/specifications/specs/linux_tpm_pcr_registry>).
const PCR: u32 = 15;
/// What it is extended with: text that a person who reads an event log understands, and not a secret.
const EVENT: [u8; 32] = *b"cairn: the data partition's open";

/// Whether there is a TPM 2: the kernel's resource manager knows no other kind.
pub(super) fn is_there() -> bool {
    Path::new(DEVICE).exists()
}

/// Extends PCR 15: from here until the machine is switched off or starts again the TPM gives the partition's key to nobody.
///
/// # Errors
/// The TPM's or the kernel's.
pub(super) fn lock() -> io::Result<()> {
    let mut device = File::options().read(true).write(true).open(DEVICE)?;
    // One write is one command.
    device.write_all(&command())?;
    let mut answer = [0; 64];
    let read = device.read(&mut answer)?;
    accepted(answer.get(..read).unwrap_or_default())
}

/// `TPM2_PCR_Extend` in the SHA-256 bank, with the empty password (TPM 2.0 Library, part 3, 22.2).
fn command() -> Vec<u8> {
    let mut handles_and_digests = PCR.to_be_bytes().to_vec();
    // One session: TPM_RS_PW without nonce, attributes and password.
    handles_and_digests.extend(9u32.to_be_bytes());
    handles_and_digests.extend(0x4000_0009u32.to_be_bytes());
    handles_and_digests.extend([0, 0, 0, 0, 0]);
    // One digest: TPM_ALG_SHA256.
    handles_and_digests.extend(1u32.to_be_bytes());
    handles_and_digests.extend(0x000bu16.to_be_bytes());
    handles_and_digests.extend(EVENT);
    // TPM_ST_SESSIONS, the length of all, TPM_CC_PCR_Extend.
    let length = 10 + handles_and_digests.len() as u32;
    let mut bytes = 0x8002u16.to_be_bytes().to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.extend(0x0000_0182u32.to_be_bytes());
    bytes.extend(handles_and_digests);
    bytes
}

/// The response code is zero.
fn accepted(answer: &[u8]) -> io::Result<()> {
    match answer.get(6..10) {
        Some([0, 0, 0, 0]) => Ok(()),
        Some(code) => Err(io::Error::other(format!("the TPM says {code:02x?}"))),
        None => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "half an answer of the TPM",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_its_own_length_and_names_the_pcr() {
        let command = command();
        assert_eq!(command.len(), 65);
        assert_eq!(command[2..6], 65u32.to_be_bytes());
        assert_eq!(command[10..14], [0, 0, 0, 15]);
    }

    #[test]
    fn only_a_whole_answer_with_success_is_one() {
        assert!(accepted(&[0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0, 0]).is_ok());
        assert!(accepted(&[0x80, 1, 0, 0, 0, 10, 0, 0, 9, 1]).is_err());
        assert!(accepted(&[0x80, 2, 0, 0]).is_err());
    }
}
