//! The store, with what it needs in time: syncs, retention, and patience with a disk that is full or fails.
//!
//! A record is on the disk a second after it came, one of priority `err` or more urgent at once (a tenth of a second after the
//! last sync: a flood of errors must not wear the disk out). Until then a power cut may take it.

use std::path::PathBuf;
use std::time::Duration;

use cairn_log::{BootId, Entry, Error, Limits, Priority, Seq, Store};
use tokio::sync::{mpsc, watch};

use super::News;
use crate::clock::{now_ns, real_ns};
use crate::supervisor::Msg;

const SECOND: u64 = 1_000_000_000;
/// How long a record may wait for its sync.
const SYNC: u64 = SECOND;
/// The least time between two syncs.
const SYNC_PAUSE: u64 = SECOND / 10;
/// How long after a failure it is tried again.
pub(super) const RETRY: u64 = SECOND / 2;
/// How long units wait for a disk that does not take their lines; then lines are dropped, and counted.
const PATIENCE: u64 = 10 * SECOND;
/// Retention looks when so much was stored, or so much time has passed; and first not before the boot is over.
const RETENTION_BYTES: u64 = 4 << 20;
const RETENTION_FIRST: u64 = 60 * SECOND;
const RETENTION_TIME: u64 = 3600 * SECOND;
/// Segments are finished when they hold records as old as this, so that they can go when they are too old.
const TIDY: Duration = Duration::from_secs(86_400);
/// How much log goes when the disk is full.
const GIVE_WAY: u64 = 16 << 20;

/// The store of the log's thread.
#[derive(Debug)]
pub(super) struct Sink {
    root: PathBuf,
    boot: BootId,
    limits: Limits,
    store: Option<Store>,
    newest: watch::Sender<u64>,
    news: mpsc::UnboundedSender<Msg>,
    /// When what was appended is to be synced at the latest.
    sync_at: Option<u64>,
    synced: u64,
    bytes: u64,
    retain_at: u64,
    /// Since when nothing can be stored.
    failing: Option<u64>,
    /// A failure that was said, until it works again.
    said: bool,
}

impl Sink {
    pub(super) fn new(store: &super::Store, newest: watch::Sender<u64>, news: mpsc::UnboundedSender<Msg>) -> Sink {
        Sink {
            root: store.root.clone(),
            boot: store.boot,
            limits: super::limits::keep(&store.units),
            store: None,
            newest,
            news,
            sync_at: None,
            synced: 0,
            bytes: 0,
            retain_at: now_ns() + RETENTION_FIRST,
            failing: None,
            said: false,
        }
    }

    fn say(&self, line: String) {
        let _ = self.news.send(Msg::Logs(News::Say(line)));
    }

    fn store(&mut self) -> Result<&mut Store, Error> {
        match &mut self.store {
            Some(store) => Ok(store),
            none => Ok(none.insert(Store::open(&self.root, self.boot, self.limits.clone())?)),
        }
    }

    /// The place that the next record of `unit` will have.
    pub(super) fn next_place(&mut self, unit: &str) -> Result<Seq, Error> {
        let place = self.store().and_then(|store| store.next_place(unit));
        place.inspect_err(|error| self.failed(error))
    }

    /// How many places from `first` on the unit's log has used.
    pub(super) fn stored_from(&mut self, unit: &str, first: Seq) -> Result<u64, Error> {
        let last = self.store().and_then(|store| store.last_place(unit));
        let last = last.inspect_err(|error| self.failed(error))?;
        Ok(last.map_or(0, |last| (last.0 + 1).saturating_sub(first.0)))
    }

    /// Stores records of one unit, all or none. A full disk gets room first, if log can give it.
    pub(super) fn append(&mut self, unit: &str, entries: &[Entry<'_>]) -> Result<Seq, Error> {
        let mut done = self.store().and_then(|store| store.append_all(unit, entries));
        if done.as_ref().is_err_and(Error::is_full)
            && let Some(store) = &mut self.store
            && store.give_way(GIVE_WAY).is_ok_and(|gone| !gone.is_empty())
        {
            done = store.append_all(unit, entries);
        }
        let place = done.inspect_err(|error| self.failed(error))?;
        self.failing = None;
        if std::mem::take(&mut self.said) {
            self.say("Logs are stored again.".to_owned());
        }
        let now = now_ns();
        let urgent = entries.iter().any(|entry| entry.origin.priority <= Priority::Err);
        let at = if urgent {
            now.max(self.synced + SYNC_PAUSE)
        } else {
            now + SYNC
        };
        self.sync_at = Some(self.sync_at.map_or(at, |old| old.min(at)));
        self.bytes += entries.iter().map(|entry| entry.message.len() as u64 + 64).sum::<u64>();
        self.newest.send_replace(place.0);
        Ok(place)
    }

    fn failed(&mut self, error: &Error) {
        // A record's fault is not the disk's.
        if matches!(error, Error::Fields { .. } | Error::UnitName { .. }) {
            return;
        }
        self.failing.get_or_insert(now_ns());
        if !std::mem::replace(&mut self.said, true) {
            self.say(format!("Logs cannot be stored: {error}"));
        }
    }

    /// Whether the units have waited long enough for the disk.
    pub(super) fn gives_up(&self) -> bool {
        self.failing.is_some_and(|since| now_ns() > since + PATIENCE)
    }

    #[cfg(test)]
    pub(super) fn lose_patience(&mut self) {
        self.failing = self.failing.map(|_| 0);
    }

    /// Does what is due; when it wants to be asked again, if nothing comes before.
    pub(super) fn tick(&mut self) -> Option<u64> {
        let now = now_ns();
        if self.sync_at.is_some_and(|at| at <= now) {
            self.sync();
        }
        if self.bytes >= RETENTION_BYTES || now >= self.retain_at {
            (self.bytes, self.retain_at) = (0, now + RETENTION_TIME);
            if let Err(error) = self.retain() {
                self.say(format!("Old log cannot be deleted: {error}"));
            }
        }
        let trouble = self.store.as_mut().and_then(Store::take_trouble);
        if let Some(error) = trouble.filter(|error| !error.is_full()) {
            self.say(format!("Log cannot be packed: {error}"));
        }
        Some(self.sync_at.map_or(self.retain_at, |at| at.min(self.retain_at)))
    }

    /// Puts everything on the disk now.
    pub(super) fn sync(&mut self) {
        self.sync_at = None;
        let result = self.store.as_mut().map_or(Ok(()), Store::sync);
        self.synced = now_ns();
        if let Err(error) = result {
            self.say(format!("Log may not survive a power cut: {error}"));
        }
    }

    fn retain(&mut self) -> Result<(), Error> {
        if let Some(store) = &mut self.store {
            store.tidy(real_ns(), TIDY)?;
            let plan = store.plan_retention(real_ns())?;
            store.apply_retention(&plan)?;
        }
        Ok(())
    }
}
