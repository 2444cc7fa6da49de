//! What both ends of the control channel of a test machine agree on: one JSON document a line, each way.
//!
//! A request has an `id`, and `exec` (a command), `read` (a path), `write` (a path, with `data`) or `kill` (a process id, for SIGKILL).
//! Its answer has the same `id`, and `status`, `stdout` and `stderr`, or `data`, or nothing else, or `error`. Bytes travel as hexadecimal digits.

use serde_json::Value;

/// The virtio serial port's name.
pub const PORT: &str = "org.cairn.control";

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a JSON string of hexadecimal digits; what is no digit pair ends it.
pub fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap_or_default();
    digits
        .as_bytes()
        .chunks(2)
        .map_while(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_their_way_through_text() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&Value::from(hex(&bytes))), bytes);
    }
}
