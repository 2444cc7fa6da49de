//! The control channel into test images: JSON lines over a virtio-serial port, bytes as lists of hexadecimal digits.
//!
//! Requests: `{"id":1,"exec":["prog","arg"]}`, `{"id":2,"read":"/path"}`, `{"id":3,"write":"/path","data":"<hex>"}`,
//! `{"id":4,"kill":123,"signal":9}`, `{"id":5,"link":"/path"}`. Answers carry the request's `id`, then `status`/`stdout`/`stderr`, `data`, or `error`. The agent is in `agent/`.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use cairn_test_agent::{hex, unhex};
use serde_json::{Value, json};

use crate::error::HarnessError;

/// What a program in the guest left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 and the signal's number when a signal ended it.
    pub status: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// The agent inside the machine. Only test images have one.
#[derive(Debug)]
pub struct Agent {
    channel: BufReader<UnixStream>,
    next: u64,
}

impl Agent {
    pub(crate) fn new(channel: UnixStream) -> Agent {
        Agent {
            channel: BufReader::new(channel),
            next: 1,
        }
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When the agent does not answer within the time or cannot start the program.
    pub fn exec(&mut self, argv: &[&str], within: Duration) -> Result<Output, HarnessError> {
        let answer = self.ask(json!({ "exec": argv }), &format!("run {argv:?}"), within)?;
        Ok(Output {
            status: answer["status"].as_i64().unwrap_or(-1) as i32,
            stdout: unhex(&answer["stdout"]),
            stderr: unhex(&answer["stderr"]),
        })
    }

    /// Reads a whole file of the guest's.
    ///
    /// # Errors
    /// In the guest's words, or when the agent does not answer.
    pub fn read_file(&mut self, path: &str) -> Result<Vec<u8>, HarnessError> {
        let answer = self.ask(
            json!({ "read": path }),
            &format!("read {path}"),
            Duration::from_secs(60),
        )?;
        Ok(unhex(&answer["data"]))
    }

    /// Writes a whole file of the guest's.
    ///
    /// # Errors
    /// In the guest's words, or when the agent does not answer.
    pub fn write_file(&mut self, path: &str, data: &[u8]) -> Result<(), HarnessError> {
        let request = json!({ "write": path, "data": hex(data) });
        self.ask(request, &format!("write {path}"), Duration::from_secs(60))
            .map(drop)
    }

    /// Sends SIGKILL to a process of the guest's.
    ///
    /// # Errors
    /// In the guest's words, or when the agent does not answer.
    pub fn kill(&mut self, pid: i32) -> Result<(), HarnessError> {
        self.signal(pid, 9)
    }

    /// Sends a signal, by its number, to a process of the guest's.
    ///
    /// # Errors
    /// In the guest's words, or when the agent does not answer.
    pub fn signal(&mut self, pid: i32, signal: i32) -> Result<(), HarnessError> {
        let request = json!({ "kill": pid, "signal": signal });
        self.ask(request, &format!("kill {pid}"), Duration::from_secs(60))
            .map(drop)
    }

    /// What a symbolic link of the guest's points to.
    ///
    /// # Errors
    /// In the guest's words, or when the agent does not answer.
    pub fn read_link(&mut self, path: &str) -> Result<String, HarnessError> {
        let answer = self.ask(
            json!({ "link": path }),
            &format!("read the link {path}"),
            Duration::from_secs(60),
        )?;
        Ok(String::from_utf8_lossy(&unhex(&answer["data"])).into_owned())
    }

    fn ask(&mut self, mut request: Value, what: &str, within: Duration) -> Result<Value, HarnessError> {
        let fail = |reason: String| HarnessError::Agent {
            what: what.to_owned(),
            reason,
        };
        let id = self.next;
        self.next += 1;
        request["id"] = json!(id);
        let deadline = Instant::now() + within;
        let socket = self.channel.get_mut();
        socket
            .write_all(format!("{request}\n").as_bytes())
            .map_err(|error| fail(error.to_string()))?;
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(fail(format!("no answer within {} s", within.as_secs())));
            }
            self.channel
                .get_mut()
                .set_read_timeout(Some(left))
                .map_err(|error| fail(error.to_string()))?;
            match self.channel.read_until(b'\n', &mut line) {
                Ok(0) => return Err(fail("the machine ended".into())),
                // Half a line: the rest is appended by the next turn.
                Ok(_) if line.last() != Some(&b'\n') => continue,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(error) => return Err(fail(error.to_string())),
            }
            // An agent before a reboot may have left half an answer; it is no answer to this request.
            let answer: Value = serde_json::from_slice(&line).unwrap_or_default();
            line.clear();
            if answer["id"] != json!(id) {
                continue;
            }
            return match answer["error"].as_str() {
                Some(reason) => Err(fail(reason.to_owned())),
                None => Ok(answer),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_an_earlier_request_is_not_taken() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all(b"half an ans\n{\"id\":7,\"data\":\"00\"}\n{\"id\":1,\"data\":\"2a\"}\n")
            .unwrap();
        assert_eq!(Agent::new(ours).read_file("/x").unwrap(), [0x2a]);
    }
}
