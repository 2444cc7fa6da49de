//! What the loop holds for a unit's log: the end that its processes write to. Everything else is the thread's.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Kind, News, dev_log};
use crate::error::Error;
use crate::io::log_pipe;
use crate::supervisor::Supervisor;

/// How long the machine waits with its end for the disk to take the log, in milliseconds.
const SETTLE_MS: u64 = 3_000;

/// Of one unit.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The write end of its output.
    write: Option<OwnedFd>,
    /// Its `/dev/log` is there.
    dev_log: bool,
}

/// A pipe of which one descriptor is both ends.
pub(super) fn stage() -> io::Result<OwnedFd> {
    let (read, _write) = pipe_with(PipeFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", read.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

impl Supervisor {
    /// The write end of the unit's log, which its account `owner` may open again. Makes what the unit's log needs.
    pub(crate) fn output(&mut self, name: &str, owner: u32) -> Result<OwnedFd, Error> {
        let wrap = |e: io::Error| Error::io("make", "the log pipe")(e);
        let (made, heard) = self
            .live
            .get(name)
            .map_or((false, false), |live| (live.log.write.is_some(), live.log.dev_log));
        if !made {
            // What is noted is about another pipe.
            let _ = std::fs::remove_file(self.config.log_note(name));
            let (read, write) = log_pipe().map_err(wrap)?;
            // Without it, a service that opens /dev/stdout is refused; one of several accounts has to do.
            let _ = rustix::fs::fchown(&write, Some(rustix::fs::Uid::from_raw(owner)), None);
            let stage = stage().map_err(wrap)?;
            self.store("logr", name, read.try_clone().map_err(wrap)?);
            self.store("logs", name, stage.try_clone().map_err(wrap)?);
            self.store("logw", name, write.try_clone().map_err(wrap)?);
            self.logs.take(Kind::Stage, name, stage);
            self.logs.take(Kind::Pipe, name, read);
            self.hold(name, |held| held.write = Some(write));
        }
        if !heard {
            let path = self.config.dev_log(name);
            let socket = dev_log::listen(&path).map_err(Error::io("make", &path))?;
            self.store("devlog", name, socket.try_clone().map_err(wrap)?);
            self.logs.take(Kind::DevLog, name, socket);
            self.hold(name, |held| held.dev_log = true);
        }
        let none = || Error::Missing {
            unit: name.to_owned(),
            what: "its log".into(),
        };
        let write = self.live.get(name).and_then(|live| live.log.write.as_ref());
        write.ok_or_else(none)?.try_clone().map_err(wrap)
    }

    fn hold(&mut self, name: &str, change: impl FnOnce(&mut Held)) {
        if let Some(live) = self.live.get_mut(name) {
            change(&mut live.log);
        }
    }

    /// What the log's thread says.
    pub(crate) fn log_news(&mut self, news: News) {
        match news {
            News::Say(line) => self.console.show(&line),
            News::Tail(unit, lines) => {
                for line in lines {
                    self.console.show(&format!("  {unit}: {line}"));
                }
            }
            News::Stored(id) => self.saved.words.retain(|word| word.id > id),
            News::Settled => self.settling = Some(0),
        }
    }

    /// Whether all log is on the disk, which the first call asks for; or has had its time.
    pub(crate) fn logs_settled(&mut self, now_ms: u64) -> bool {
        let Some(since) = self.settling else {
            // What has been said goes before.
            self.save();
            self.logs.settle();
            self.settling = Some(now_ms);
            return false;
        };
        now_ms >= since + SETTLE_MS
    }

    /// A descriptor of a log that was kept for this manager.
    pub(crate) fn take_log(&mut self, kind: &str, name: &str, fd: OwnedFd) {
        match kind {
            "logr" => self.logs.take(Kind::Pipe, name, fd),
            "logs" => self.logs.take(Kind::Stage, name, fd),
            "logw" => self.hold(name, |held| held.write = Some(fd)),
            _ => {
                self.logs.take(Kind::DevLog, name, fd);
                self.hold(name, |held| held.dev_log = true);
            }
        }
    }
}
