//! The console: plain ASCII lines for people, and the kernel's words about a damaged root.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use cairn_log::Priority;

use crate::log::{OWN, Word};

/// `/dev/console`, or nothing if there is none; and what has been said there and is to be stored.
#[derive(Debug)]
pub(crate) struct Console(Option<File>, Vec<Word>);

impl Console {
    /// Opens it; it is never waited for.
    pub(crate) fn open(path: &Path) -> Console {
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().append(true).custom_flags(flags).open(path);
        Console(file.ok(), Vec::new())
    }

    /// What has been said since this was asked.
    pub(crate) fn take_words(&mut self) -> Vec<Word> {
        std::mem::take(&mut self.1)
    }

    /// One line about the whole, also for the log.
    pub(crate) fn say(&mut self, line: &str) {
        self.1.push(Word::new(OWN, Priority::Info, line));
        self.show(line);
    }

    /// One line about a unit, also for its log.
    pub(crate) fn say_of(&mut self, unit: &str, priority: Priority, line: &str) {
        self.1.push(Word::new(unit, priority, line));
        self.show(&format!("unit {unit}: {line}"));
    }

    /// A picture of block characters.
    pub(crate) fn draw(&mut self, rows: &[String]) {
        for row in rows {
            self.write(format!("{row}\r\n").into_bytes());
        }
    }

    /// One line that no log needs. What is not printable ASCII is escaped.
    pub(crate) fn show(&mut self, line: &str) {
        let mut bytes: Vec<u8> = line.bytes().flat_map(std::ascii::escape_default).collect();
        // Quotes read better as they are.
        bytes = String::from_utf8_lossy(&bytes)
            .replace("\\'", "'")
            .replace("\\\"", "\"")
            .into_bytes();
        bytes.extend_from_slice(b"\r\n");
        self.write(bytes);
    }

    fn write(&mut self, mut bytes: Vec<u8>) {
        let Some(file) = &mut self.0 else { return };
        for _ in 0..20 {
            match file.write(&bytes) {
                Ok(n) if n < bytes.len() => drop(bytes.drain(..n)),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => return,
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// What a record of `/dev/kmsg` says about the root's integrity, in one sentence.
pub(crate) fn damage(record: &str) -> Option<String> {
    let text = record.split_once(';')?.1.lines().next()?;
    let (_, rest) = text.split_once("verity: ")?;
    let what = rest
        .find("data block")
        .or_else(|| rest.find("metadata block"))
        .map(|at| &rest[at..])?;
    what.contains("corrupted").then(|| {
        let block = what.split(" is corrupted").next().unwrap_or(what);
        format!(
            "The root file system is damaged: {block} does not match its signature; \
             start the other version or write the image again."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::damage;

    #[test]
    fn corruption_is_told_and_nothing_else() {
        let record = "3,512,123456,-;device-mapper: verity: 254:0: data block 77 is corrupted\n SUBSYSTEM=block\n";
        assert!(
            damage(record)
                .unwrap()
                .starts_with("The root file system is damaged: data block 77 does")
        );
        assert!(damage("6,1,1,-;device-mapper: verity: sha256 using shash").is_none());
        assert!(damage("nonsense").is_none());
    }
}
