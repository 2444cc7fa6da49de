//! Asking for the recovery key, at every console.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::super::failure::{Doing as _, Failure};
use super::key::RecoveryKey;

/// The longest line that is read: a key has 39 letters.
const LONGEST: usize = 200;

/// What a person answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A recovery key without a mistake in typing.
    Key(RecoveryKey),
    /// Start the machine again.
    Restart,
    /// No key can look like this.
    Mistyped,
    /// An empty line.
    Nothing,
}

impl Answer {
    fn of(line: &str) -> Self {
        match line.trim() {
            "" => Self::Nothing,
            "restart" => Self::Restart,
            text => RecoveryKey::typed(text).map_or(Self::Mistyped, Self::Key),
        }
    }
}

/// All consoles of the kernel, at each of which somebody may sit.
pub(super) struct Consoles(Vec<(File, Vec<u8>)>);

impl Consoles {
    /// Opens them, and has them not show what is typed.
    pub(super) fn open() -> Result<Self, Failure> {
        let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let names: Vec<_> = match active.trim() {
            "" => vec!["console"],
            names => names.split_whitespace().collect(),
        };
        let mut consoles = Vec::new();
        for name in names {
            let file = File::options()
                .read(true)
                .write(true)
                .open(Path::new("/dev").join(name));
            // One that has no terminal behind it cannot be asked.
            if let Ok(file) = file
                && let Ok(mut modes) = tcgetattr(&file)
            {
                modes.local_modes.remove(LocalModes::ECHO);
                modes.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
                let _ = tcsetattr(&file, OptionalActions::Flush, &modes);
                consoles.push((file, Vec::new()));
            }
        }
        match consoles.is_empty() {
            true => {
                Err(std::io::Error::other("there is none")).doing(|| "ask for the recovery key at a console".to_owned())
            }
            false => Ok(Self(consoles)),
        }
    }

    /// Says a line at each.
    pub(super) fn say(&mut self, text: &str) {
        for (console, _) in &mut self.0 {
            // One that is gone is not spoken to.
            let _ = console.write_all(format!("cairn: {text}\r\n").as_bytes());
        }
    }

    /// Waits for a line from any of them.
    pub(super) fn answer(&mut self) -> Result<Answer, Failure> {
        loop {
            let mut polled: Vec<_> = self.0.iter().map(|(c, _)| PollFd::new(c, PollFlags::IN)).collect();
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).doing(|| "wait for the recovery key".to_owned()),
            }
            let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            for ((console, held), _) in self.0.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
                let mut bytes = [0; LONGEST];
                let read = console.read(&mut bytes).unwrap_or(0);
                if read == 0 {
                    // Hung up, or an end of input: looked at again, but not all the time.
                    std::thread::sleep(std::time::Duration::from_millis(200));
                }
                if let Some(line) = line(held, bytes.get(..read).unwrap_or_default()) {
                    return Ok(Answer::of(&line));
                }
            }
        }
    }
}

impl Drop for Consoles {
    fn drop(&mut self) {
        for (console, _) in &self.0 {
            if let Ok(mut modes) = tcgetattr(console.as_fd()) {
                modes.local_modes.insert(LocalModes::ECHO);
                let _ = tcsetattr(console, OptionalActions::Flush, &modes);
            }
        }
    }
}

/// Adds what came, and takes a whole line out.
fn line(held: &mut Vec<u8>, came: &[u8]) -> Option<String> {
    held.extend_from_slice(came);
    if let Some(end) = held.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = String::from_utf8_lossy(&held[..end]).into_owned();
        held.drain(..=end);
        return Some(line);
    }
    // Noise on a line that nobody sits at.
    if held.len() > LONGEST {
        held.clear();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_in_pieces_and_noise_is_not_kept() {
        let mut held = Vec::new();
        assert_eq!(line(&mut held, b"abc"), None);
        assert_eq!(line(&mut held, b"d\nef"), Some("abcd".into()));
        assert_eq!(line(&mut held, b"\r"), Some("ef".into()));
        assert_eq!(line(&mut held, &[b'x'; LONGEST + 1]), None);
        assert!(held.is_empty());
    }

    #[test]
    fn an_answer_is_a_key_a_restart_a_mistake_or_nothing() {
        let key = RecoveryKey::new().unwrap();
        assert_eq!(Answer::of(&format!("{}\r", key.text())), Answer::Key(key));
        assert_eq!(Answer::of(" restart "), Answer::Restart);
        assert_eq!(Answer::of("0000-0000"), Answer::Mistyped);
        assert_eq!(Answer::of("  "), Answer::Nothing);
    }
}
