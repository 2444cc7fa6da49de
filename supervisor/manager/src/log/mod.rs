//! Logs: from the units' pipes, their `/dev/log`, the kernel and the manager itself into the store (`cairn-log`), and from there
//! to whoever asks.
//!
//! One thread ([`writer`]) owns the store and reads every source, so nothing that the disk does holds up the manager's loop: when
//! the disk is slow, lines wait in the pipes, and whoever fills one waits too. There is no queue of lines in memory.
//!
//! What is promised when the manager is killed at any moment:
//! - a line that stands in a unit's pipe is stored by a successor, once and in order ([`source`]);
//! - so is a message that `/dev/log` has taken ([`dev_log`]), and each of the kernel's ([`kernel`]);
//! - what the manager itself says of a unit or the whole is stored once, with the state from which it follows ([`words`]).
//!
//! How long a line may be in danger of a power cut: [`sink`]. What is kept how long: [`limits`].

pub(crate) mod api;
mod batch;
mod beside;
mod dev_log;
mod forward;
mod glass;
mod held;
mod kernel;
mod limits;
mod note;
mod sink;
mod source;
mod words;
mod writer;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use cairn_log::{BootId, Priority};
use cairn_unit::Manifest;
use rustix::event::EventfdFlags;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::error::Error;
pub(crate) use held::Held;
pub use words::Word;

/// The name under which the kernel's messages are stored.
pub const KERNEL: &str = "kernel";
/// The name under which the manager's own words are stored.
pub const OWN: &str = "cairn";
/// The name of the note about those; no unit's.
const WORDS: &str = ".words";

/// What the thread tells the loop.
#[derive(Debug)]
pub(crate) enum News {
    /// For the console, and not for the log.
    Say(String),
    /// The last lines of a unit, for the console.
    Tail(String, Vec<String>),
    /// The manager's words up to this one are stored.
    Stored(u64),
    /// What was asked to be on the disk is there.
    Settled,
}

/// What the loop tells the thread.
enum Command {
    /// A descriptor of a unit: what it is, and whose.
    Take(Kind, String, OwnedFd),
    /// What was kept for this manager has all been taken.
    Begin,
    /// Everything that the unit has written until now, half lines too.
    Finish(String),
    /// Send the unit's last lines.
    Tail(String),
    /// Say when a line has come that contains this, of the process with this token.
    Await(String, u64, String),
    Say(Word),
    Settle,
}

/// What a unit's descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The read end of its output.
    Pipe,
    /// Where a batch of it stands while it is stored.
    Stage,
    /// Its `/dev/log`.
    DevLog,
}

/// The thread, for the loop.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
}

/// The store, for readers.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// The present boot.
    pub(crate) boot: BootId,
    /// Changes when something has been stored.
    pub(crate) newest: watch::Receiver<u64>,
    /// The units that may be asked for.
    pub(crate) units: Arc<BTreeMap<String, limits::UnitLog>>,
}

impl Logs {
    /// Starts the thread. It ends with the process.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        config: &Config,
        manifest: &Manifest,
        news: mpsc::UnboundedSender<crate::supervisor::Msg>,
    ) -> Result<(Logs, Store), Error> {
        for folder in [config.log_sockets(), config.log_notes()] {
            cairn_config::private_folder(&folder)?;
        }
        let (commands, receiver) = channel();
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let logs = Logs {
            commands,
            wake: Arc::new(wake.map_err(Error::io("make", "an eventfd"))?),
        };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let (newest, changes) = watch::channel(0);
        let store = Store {
            root: config.log_root(),
            boot: boot.parse().unwrap_or_default(),
            newest: changes,
            units: Arc::new(limits::all(manifest)),
        };
        let writer = writer::Writer::new(config, manifest, &store, newest, &logs, receiver, news)?;
        let run = move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run()));
            // A manager that no longer reads the pipes would hold up every unit: a successor takes over.
            if ended.is_err() {
                std::process::exit(101);
            }
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(run);
        thread.map_err(Error::io("start", "the log's thread"))?;
        Ok((logs, store))
    }

    fn command(&self, command: Command) {
        // Both fail only when the process ends.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }

    pub(crate) fn take(&self, kind: Kind, unit: &str, fd: OwnedFd) {
        self.command(Command::Take(kind, unit.to_owned(), fd));
    }

    pub(crate) fn begin(&self) {
        self.command(Command::Begin);
    }

    pub(crate) fn finish(&self, unit: &str) {
        self.command(Command::Finish(unit.to_owned()));
    }

    /// Asks for the unit's last lines; they come as [`News::Tail`].
    pub(crate) fn tail(&self, unit: &str) {
        self.command(Command::Tail(unit.to_owned()));
    }

    /// Waits for a line that contains `text`, as the sign of readiness of the process with this token.
    pub(crate) fn wait_for(&self, unit: &str, token: u64, text: &str) {
        self.command(Command::Await(unit.to_owned(), token, text.to_owned()));
    }

    /// What the manager says.
    pub(crate) fn say(&self, word: Word) {
        self.command(Command::Say(word));
    }

    /// Has everything put on the disk; [`News::Settled`] says when.
    pub(crate) fn settle(&self) {
        self.command(Command::Settle);
    }
}

/// Sends records to another machine for as long as the manager runs, if the appliance is told to.
pub(crate) fn forward(config: &Config, manifest: &Manifest, store: Store, logs: &Logs) {
    match forward::Target::configured(&config.log_config()) {
        Ok(Some(target)) => {
            let host = manifest.name.as_str().to_owned();
            tokio::spawn(forward::run(target, host, store, config.log_forwarded(), logs.clone()));
        }
        Ok(None) => {}
        Err(why) => {
            let text = format!("logs are not forwarded: {why}");
            logs.say(Word::new(OWN, Priority::Err, &text));
        }
    }
}
