//! What services say by the sd_notify protocol, and what follows from it.

use cairn_unit::ReadyWhen;

use crate::address;
use crate::clock::now_ms;
use crate::machine::Event;
use crate::notify::{Message, Word};
use crate::supervisor::Supervisor;

/// Microseconds as milliseconds, rounded up.
fn ms(us: u64) -> u64 {
    us.div_ceil(1000)
}

impl Supervisor {
    /// Everything that a unit has said until now.
    pub(crate) fn read_notify(&mut self, name: &str) {
        // Its helper told its number before it could say anything; what follows from its words needs that.
        self.read_status(name);
        let Some(unit) = self.manifest.units.get(name) else {
            return;
        };
        let base = address::id_base(unit.index);
        // Below a test's prefix units run as the caller.
        let own = (!self.config.network).then(|| rustix::process::geteuid().as_raw());
        let trusted = |uid: u32| (base..base + 65_536).contains(&uid) || Some(uid) == own;
        while let Some(socket) = self.live.get(name).and_then(|l| l.notify.clone()) {
            let Some(message) = crate::notify::peek(socket.get_ref(), trusted) else {
                return;
            };
            // What changes its state is saved before the message is gone. Descriptors are kept once only, so theirs goes first.
            let given = |word: &Word| matches!(word, Word::Store(_) | Word::Remove(_));
            let lasting = |word: &Word| matches!(word, Word::Ready | Word::Reloading(_) | Word::Stopping);
            let (given, lasting) = (message.words.iter().any(given), message.words.iter().any(lasting));
            if given {
                crate::notify::take(socket.get_ref());
            }
            self.heed(name, message);
            if !given {
                if lasting {
                    self.save();
                }
                crate::notify::take(socket.get_ref());
            }
        }
    }

    fn heed(&mut self, name: &str, mut message: Message) {
        for word in std::mem::take(&mut message.words) {
            match word {
                Word::Ready => self.said_ready(name),
                Word::Reloading(_) => {
                    if let Some(reload) = self.saved.units.get_mut(name).and_then(|k| k.reload.as_mut()) {
                        reload.begun = true;
                    }
                }
                Word::Watchdog => self.said_alive(name),
                Word::WatchdogTrigger => {
                    self.feed(
                        name,
                        Event::Unhealthy("said that it is not well (WATCHDOG=trigger)".into()),
                    );
                }
                Word::WatchdogEvery(us) => {
                    let every_ms = ms(us);
                    if let Some(watchdog) = self.saved.units.get_mut(name).and_then(|k| k.watchdog.as_mut()) {
                        watchdog.every_ms = every_ms;
                    }
                    self.said_alive(name);
                }
                Word::Extend(us) => {
                    if let Some(by) = self.saved.units.get_mut(name).and_then(|k| k.leaves_by.as_mut()) {
                        *by = now_ms().saturating_add(ms(us));
                    }
                    self.feed(name, Event::Extend(ms(us)));
                }
                Word::Status(text) => {
                    if let Some(kept) = self.saved.units.get_mut(name) {
                        kept.status = text;
                    }
                }
                Word::Errno(errno) => {
                    if let Some(kept) = self.saved.units.get_mut(name) {
                        kept.errno = errno;
                    }
                }
                Word::MainPid(inside) => self.said_main(name, inside),
                Word::Stopping => self.said_stopping(name),
                Word::Store(kept_as) => {
                    let fds = std::mem::take(&mut message.fds);
                    self.keep_for_unit(name, &kept_as, fds);
                }
                Word::Remove(kept_as) => self.forget_for_unit(name, &kept_as),
            }
        }
    }

    fn said_ready(&mut self, name: &str) {
        if let Some(kept) = self.saved.units.get_mut(name)
            && kept.reload.is_some_and(|reload| reload.begun)
        {
            kept.reload = None;
            self.console.say(&format!("unit {name}: reloaded"));
            return;
        }
        let unit = self.manifest.units.get(name);
        if unit.is_some_and(|u| u.unit.ready.as_ref().is_some_and(|r| r.when == ReadyWhen::Notify)) {
            self.feed(name, Event::Ready);
        }
    }

    /// It ends by itself: it need not say any more that it is alive, but it has no longer for that than if it were asked to.
    fn said_stopping(&mut self, name: &str) {
        let timeout = self
            .manifest
            .units
            .get(name)
            .map(|u| u.unit.service.stop_timeout.millis());
        if let Some(kept) = self.saved.units.get_mut(name).filter(|k| k.machine.ready()) {
            kept.watchdog = None;
            kept.leaves_by = timeout.map(|ms| now_ms().saturating_add(ms));
        }
    }

    /// Another process of the unit is its main one: its number there, which is all that its reaper needs.
    fn said_main(&self, name: &str, inside: i32) {
        let pid = self.saved.units.get(name).map_or(0, |k| k.pid);
        let reaped = self.manifest.units.get(name).is_some_and(|u| u.unit.sandbox.reaper);
        // The group is asked so that a number that now belongs to someone else is never hit.
        if reaped && crate::cgroup::holds(&self.config.cgroup(name), pid) {
            let _ = cairn_sandbox::set_main(pid, inside);
        }
    }

    fn said_alive(&mut self, name: &str) {
        if let Some(watchdog) = self.saved.units.get_mut(name).and_then(|k| k.watchdog.as_mut()) {
            let until = now_ms().saturating_add(watchdog.every_ms);
            watchdog.at_ms = watchdog.at_ms.map(|_| until);
        }
    }
}
