//! What both ends of the control channel of a test machine agree on: one JSON document a line, each way.
//!
//! A request has an `id`, and `exec` (a command), `read` (a path), `write` (a path, with `data`), `link` (a path, whose target is the
//! answer's `data`) or `kill` (a process id, with the number of a `signal`). Its answer has the same `id`, and `status`, `stdout` and `stderr`, or `data`, or nothing else, or `error`. Bytes travel as hexadecimal digits.

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

/// The exit status of a run of the quitter, which is never 0 and differs from those of the 39 runs around it.
pub fn exit_of_run(run: u64) -> u8 {
    (run % 40) as u8 + 1
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
