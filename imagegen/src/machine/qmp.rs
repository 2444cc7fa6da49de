//! QMP, QEMU's control protocol: JSON lines over a Unix socket (QEMU's `docs/interop/qmp-spec.rst`).
//!
//! Blocking, and every wait has a deadline. Events that come while an answer is awaited are kept, in order.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::MachineError;

/// How long QEMU may take to answer a command. Generous: a loaded host under emulation.
const ANSWER: Duration = Duration::from_secs(30);

/// Something that QEMU tells unasked, such as `RESET`, `SHUTDOWN`, `DEVICE_DELETED` or `WATCHDOG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What it carries; null when nothing.
    pub data: Value,
}

/// A connection to one machine.
#[derive(Debug)]
pub struct Qmp {
    socket: UnixStream,
    unread: Vec<u8>,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Takes a connection that QEMU just made and leaves the greeting behind.
    ///
    /// # Errors
    /// When QEMU does not greet in time.
    pub fn new(socket: UnixStream) -> Result<Qmp, MachineError> {
        let mut qmp = Qmp {
            socket,
            unread: Vec::new(),
            events: VecDeque::new(),
        };
        let deadline = Instant::now() + ANSWER;
        let greeting = qmp.message(deadline, "greeting")?;
        if greeting.get("QMP").is_none() {
            return Err(MachineError::Protocol {
                command: "greeting".into(),
                answer: greeting.to_string(),
            });
        }
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// [`MachineError::Refused`] in QEMU's words, or when no answer comes.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, MachineError> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let line = format!("{request}\n");
        self.socket
            .write_all(line.as_bytes())
            .map_err(MachineError::io("write to", "the QMP socket"))?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let message = self.message(deadline, command)?;
            if let Some(value) = message.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = message.get("error") {
                let reason = error["desc"].as_str().unwrap_or("no reason given").to_owned();
                return Err(MachineError::Refused {
                    command: command.to_owned(),
                    reason,
                });
            }
            self.keep_event(message, command)?;
        }
    }

    /// Presses the ACPI power button.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn power_button(&mut self) -> Result<(), MachineError> {
        self.execute("system_powerdown", Value::Null).map(drop)
    }

    /// Presses reset.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn reset(&mut self) -> Result<(), MachineError> {
        self.execute("system_reset", Value::Null).map(drop)
    }

    /// Ends QEMU at once. QEMU writes its own buffers, so this is no power cut.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn quit(&mut self) -> Result<(), MachineError> {
        self.execute("quit", Value::Null).map(drop)
    }

    /// The machine's state in QEMU's words: `running`, `shutdown`, `internal-error`.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn status(&mut self) -> Result<String, MachineError> {
        let answer = self.execute("query-status", Value::Null)?;
        Ok(answer["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Asks the guest to let go of a device. It is gone when the event `DEVICE_DELETED` names it.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn device_del(&mut self, id: &str) -> Result<(), MachineError> {
        self.execute("device_del", json!({ "id": id })).map(drop)
    }

    /// Writes the screen as `png` or `ppm`. The path is QEMU's to open: [`super::Running::screenshot`] writes anywhere.
    ///
    /// # Errors
    /// As [`Qmp::execute`]; a machine without graphics card has no screen.
    pub fn screendump(&mut self, file: &Path, format: &str) -> Result<(), MachineError> {
        let arguments = json!({ "filename": file.display().to_string(), "format": format });
        self.execute("screendump", arguments).map(drop)
    }

    /// Presses keys together, by their QEMU names: `["ctrl", "alt", "delete"]`.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn send_keys(&mut self, keys: &[&str]) -> Result<(), MachineError> {
        let keys: Vec<Value> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.execute("send-key", json!({ "keys": keys })).map(drop)
    }

    /// A command of QEMU's human monitor, for the few things that QMP lacks.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn human(&mut self, line: &str) -> Result<String, MachineError> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// The host's port that stands for the guest's TCP port.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn forwarded_port(&mut self, guest: u16) -> Result<Option<u16>, MachineError> {
        Ok(find_forward(&self.human("info usernet")?, guest))
    }

    /// Waits for an event that `wanted` accepts; others that came before it are dropped.
    ///
    /// # Errors
    /// [`MachineError::Deadline`], or when QEMU ends first.
    pub fn wait_event(
        &mut self,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Event, MachineError> {
        let deadline = Instant::now() + within;
        loop {
            while let Some(event) = self.events.pop_front() {
                if wanted(&event) {
                    return Ok(event);
                }
            }
            let message = self.message(deadline, what).map_err(|error| match error {
                MachineError::Deadline { what, .. } => MachineError::Deadline { what, after: within },
                other => other,
            })?;
            self.keep_event(message, what)?;
        }
    }

    fn keep_event(&mut self, mut message: Value, during: &str) -> Result<(), MachineError> {
        match message["event"].as_str() {
            Some(name) => {
                let event = Event {
                    name: name.to_owned(),
                    data: message["data"].take(),
                };
                self.events.push_back(event);
                Ok(())
            }
            None => Err(MachineError::Protocol {
                command: during.to_owned(),
                answer: message.to_string(),
            }),
        }
    }

    fn message(&mut self, deadline: Instant, during: &str) -> Result<Value, MachineError> {
        let started = Instant::now();
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|_| MachineError::Protocol {
                    command: during.to_owned(),
                    answer: String::from_utf8_lossy(&line).into_owned(),
                });
            }
            let late = || MachineError::Deadline {
                what: format!("QEMU's answer to {during}"),
                after: started.elapsed(),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            self.socket
                .set_read_timeout(Some(left))
                .map_err(MachineError::io("wait on", "the QMP socket"))?;
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    let source = std::io::Error::new(ErrorKind::UnexpectedEof, "QEMU closed it");
                    return Err(MachineError::io("read", "the QMP socket")(source));
                }
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(late()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(MachineError::io("read", "the QMP socket")(error)),
            }
        }
    }
}

/// Reads `info usernet`: lines `TCP[HOST_FORWARD] FD SOURCE PORT DEST PORT RECVQ SENDQ`.
fn find_forward(text: &str, guest: u16) -> Option<u16> {
    text.lines()
        .filter(|line| line.trim_start().starts_with("TCP[HOST_FORWARD]"))
        .find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (words.get(3)?.parse(), words.get(5)?.parse::<u16>()) {
                (Ok(host), Ok(port)) if port == guest => Some(host),
                _ => None,
            }
        })
}

#[cfg(test)]
#[path = "qmp_tests.rs"]
mod tests;
