//! Units that wait for a connection or for a path: opening their sockets, watching while they rest, starting them.

use std::os::fd::OwnedFd;

use cairn_init::protocol::{Request, StoreId};
use tokio::task::JoinHandle;

use crate::clock::now_ms;
use crate::error::Error;
use crate::listening::{self, Opened};
use crate::machine::{Busy, Event, State};
use crate::paths::Watch;
use crate::saved::Pace;
use crate::supervisor::{Msg, Supervisor};

/// When opening the sockets of a unit is tried again, in milliseconds.
const RETRY_MS: u64 = 5_000;
/// How often a unit may be started by what it waits for within [`SPAN_MS`]; systemd's limit for sockets and paths.
const OFTEN: u32 = 20;
/// The span of [`OFTEN`], and the pause after it, in milliseconds.
const SPAN_MS: u64 = 2_000;

/// What a manager holds for a unit that waits.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// The network that it joins.
    pub(crate) network: Option<OwnedFd>,
    /// Its sockets by number, in the order of their names; those that an earlier manager kept come one by one.
    sockets: Vec<Option<OwnedFd>>,
    /// A thread opens them.
    opening: bool,
    /// Why they could not be opened, and when it is tried again, in milliseconds.
    failed: Option<(String, u64)>,
    /// Waits for the next connection or change while the unit rests.
    watching: Option<JoinHandle<()>>,
}

impl Demand {
    /// A descriptor that an earlier manager had; `kind` is what it was stored as.
    pub(crate) fn take(&mut self, kind: &str, fd: OwnedFd) {
        match kind.strip_prefix("sock").map(str::parse::<usize>) {
            Some(Ok(number)) if number < 64 => {
                if self.sockets.len() <= number {
                    self.sockets.resize_with(number + 1, || None);
                }
                self.sockets[number] = Some(fd);
            }
            _ => self.network = Some(fd),
        }
    }

    /// The sockets, if there are so many and the network that they need.
    fn open(&self, count: usize, network: bool) -> Option<Vec<&OwnedFd>> {
        let all: Vec<&OwnedFd> = self.sockets.iter().flatten().collect();
        (all.len() == count && self.sockets.len() == count && (!network || self.network.is_some())).then_some(all)
    }

    /// Why nobody can connect, if it could not be arranged.
    pub(crate) fn why_not(&self) -> Option<&str> {
        self.failed.as_ref().map(|(why, _)| why.as_str())
    }

    fn rest(&mut self) {
        if let Some(task) = self.watching.take() {
            task.abort();
        }
    }

    /// Lets go of the sockets; as what they were stored. The network stays: in it the kernel refuses who connects, and at the address of
    /// one that is gone nobody would answer at all.
    fn refuse(&mut self) -> Vec<String> {
        self.rest();
        self.failed = None;
        let sockets = std::mem::take(&mut self.sockets);
        for socket in sockets.iter().flatten() {
            // Copies of it are gone a moment later, and nobody must find room in their queue.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        (0..sockets.len()).map(|number| format!("sock{number}")).collect()
    }
}

impl Pace {
    /// Whether one more start is too many now; if so, until when it waits.
    pub(crate) fn waits_until(&self, now: u64) -> Option<u64> {
        let until = self.since_ms.saturating_add(SPAN_MS);
        (self.count >= OFTEN && now < until).then_some(until)
    }

    /// Counts a start.
    pub(crate) fn count(&mut self, now: u64) {
        if now >= self.since_ms.saturating_add(SPAN_MS) {
            *self = Pace {
                since_ms: now,
                count: 0,
            };
        }
        self.count += 1;
        if self.count == OFTEN {
            // The pause is whole, however late in the span it begins.
            self.since_ms = now;
        }
    }
}

impl Supervisor {
    /// The unit's sockets, once they are open; nothing for a unit without any.
    pub(crate) fn sockets(&self, name: &str) -> Option<Vec<&OwnedFd>> {
        let unit = self.manifest.units.get(name)?;
        let network = listening::needs_network(unit) && self.config.network;
        let demand = &self.live.get(name)?.demand;
        demand.open(unit.unit.sockets.len(), network)
    }

    /// Whether others can use the unit: it is ready, or whoever connects will be served.
    pub(crate) fn serves(&self, name: &str) -> bool {
        let ready = self.saved.units.get(name).is_none_or(|kept| kept.machine.ready());
        ready || self.listens(name)
    }

    /// Whether the unit rests and a connection starts it.
    pub(crate) fn listens(&self, name: &str) -> bool {
        let has_sockets = self
            .manifest
            .units
            .get(name)
            .is_some_and(|u| !u.unit.sockets.is_empty());
        let stopped = |k: &crate::saved::Kept| k.machine.state == State::Stopped;
        has_sockets
            && self.site.enabled(name)
            && self.saved.units.get(name).is_some_and(stopped)
            && self.sockets(name).is_some()
    }

    /// Whether the unit rests and something is watched that starts it.
    pub(crate) fn waits_for_something(&self, name: &str) -> bool {
        let watched = |live: &crate::supervisor::Live| live.demand.watching.is_some();
        let stopped = |k: &crate::saved::Kept| k.machine.state == State::Stopped;
        self.live.get(name).is_some_and(watched) && self.saved.units.get(name).is_some_and(stopped)
    }

    /// Opens, watches and closes what units wait at, as their states ask for. When to look again, in milliseconds, if nothing
    /// happens before.
    pub(crate) fn arm(&mut self) -> Option<u64> {
        let now = now_ms();
        let waiting = self.manifest.units.iter();
        let waiting = waiting.filter(|(_, unit)| !unit.unit.sockets.is_empty() || unit.unit.path.is_some());
        let names: Vec<String> = waiting.map(|(name, _)| name.to_string()).collect();
        names.into_iter().filter_map(|name| self.arm_one(&name, now)).min()
    }

    fn arm_one(&mut self, name: &str, now: u64) -> Option<u64> {
        let going_down = self.saved.power.is_some();
        let (kept, enabled) = (self.saved.units.get(name)?, self.site.enabled(name));
        let state = &kept.machine.state;
        let rests = match state {
            State::Stopped => true,
            // A oneshot that is done.
            State::Ready { .. } => kept.machine.busy == Busy::Nothing,
            _ => false,
        };
        if !enabled || going_down || matches!(state, State::Failed { .. }) {
            if kept.machine.at_rest() {
                self.close(name);
            }
            return None;
        }
        let pace = kept.pace.waits_until(now);
        let Some(sockets) = self.sockets(name) else {
            return self.open(name, now);
        };
        if !rests {
            self.live.get_mut(name)?.demand.rest();
            return None;
        }
        if pace.is_some() {
            self.live.get_mut(name)?.demand.rest();
            return pace;
        }
        if self
            .live
            .get(name)?
            .demand
            .watching
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return None;
        }
        let copies: std::io::Result<Vec<OwnedFd>> = sockets.into_iter().map(|fd| fd.try_clone()).collect();
        let unit = self.manifest.units.get(name)?;
        let path = Watch::of(&self.config, &self.manifest, name, unit);
        let send = self.send.clone();
        if let Some(path) = &path {
            // In its own state as in another's: what is not there yet can only be watched from above.
            let _ = cairn_config::private_folder(path.base());
        }
        let kept = self.saved.units.get_mut(name)?;
        let seen = *kept.seen.get_or_insert_with(|| path.as_ref().map_or(0, Watch::mark));
        let unit = name.to_owned();
        let task = tokio::spawn(async move {
            let asked = async {
                match copies {
                    Ok(sockets) if !sockets.is_empty() => asked(sockets).await,
                    _ => std::future::pending().await,
                }
            };
            let happened = async {
                match path {
                    Some(path) => happened(&path, seen).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = asked => {}
                () = happened => {}
            }
            let _ = send.send(Msg::Wanted(unit));
        });
        self.live.get_mut(name)?.demand.watching = Some(task);
        None
    }

    /// Something has come that the unit waits for.
    pub(crate) fn wanted(&mut self, name: &str) {
        let now = now_ms();
        let mark = self
            .manifest
            .units
            .get(name)
            .and_then(|unit| Watch::of(&self.config, &self.manifest, name, unit))
            .map(|watch| watch.mark());
        let going_down = self.saved.power.is_some() || !self.site.enabled(name);
        let Some(kept) = self.saved.units.get_mut(name).filter(|_| !going_down) else {
            return;
        };
        if kept.pace.waits_until(now).is_some() {
            return;
        }
        kept.pace.count(now);
        let stops_for_now = kept.pace.waits_until(now).is_some();
        kept.seen = mark.or(kept.seen);
        kept.up = true;
        if stops_for_now {
            let line = format!(
                "unit {name}: started {OFTEN} times in a moment by what it waits for, without taking it; a pause of {} s",
                SPAN_MS / 1000
            );
            self.console.say(&line);
        }
        // A oneshot that is done rests as ready, so a start would mean nothing to it.
        self.feed(name, Event::Restart);
    }

    /// Has a thread open the unit's sockets, unless one does or it is too early to try again.
    fn open(&mut self, name: &str, now: u64) -> Option<u64> {
        let demand = &mut self.live.get_mut(name)?.demand;
        if demand.opening {
            return None;
        }
        if let Some((_, at)) = demand.failed.as_ref().filter(|(_, at)| *at > now) {
            return Some(*at);
        }
        demand.opening = true;
        demand.sockets.clear();
        let standing = demand.network.as_ref().and_then(|network| network.try_clone().ok());
        let (config, manifest, send) = (self.config.clone(), self.manifest.clone(), self.send.clone());
        let unit = name.to_owned();
        let work = move || {
            let opened = listening::open(&config, &manifest, &unit, standing);
            let _ = send.send(Msg::Opened(unit, opened));
        };
        let thread = std::thread::Builder::new().name("listen".to_owned()).spawn(work);
        if let Err(error) = thread {
            self.opened(name, Err(Error::io("start", "a thread")(error)));
        }
        None
    }

    /// What became of opening the unit's sockets.
    pub(crate) fn opened(&mut self, name: &str, opened: Result<Opened, Error>) {
        let Some(live) = self.live.get_mut(name) else { return };
        live.demand.opening = false;
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let said = live.demand.failed.take().map(|(why, _)| why);
                let why = error.to_string();
                if said.as_ref() != Some(&why) {
                    self.console
                        .say(&format!("unit {name}: nobody can connect to it: {why}"));
                }
                if let Some(live) = self.live.get_mut(name) {
                    live.demand.failed = Some((why, now_ms() + RETRY_MS));
                }
                return;
            }
        };
        live.demand.failed = None;
        let copies = opened.sockets.iter().enumerate();
        let copies = copies.map(|(number, fd)| (format!("sock{number}"), fd.try_clone()));
        let network = opened.network.iter().map(|fd| ("netns".to_owned(), fd.try_clone()));
        let copies: Vec<_> = copies.chain(network).collect();
        live.demand.sockets = opened.sockets.into_iter().map(Some).collect();
        live.demand.network = opened.network;
        for (kind, copy) in copies {
            if let Ok(copy) = copy {
                self.store(&kind, name, copy);
            }
        }
    }

    /// Lets go of the unit's sockets: whoever connects from now on is refused.
    fn close(&mut self, name: &str) {
        let Some(live) = self.live.get_mut(name) else { return };
        for kind in live.demand.refuse() {
            if let Some(id) = StoreId::new(format!("{kind}@{name}")) {
                self.post(Request::Remove { id }, Vec::new());
            }
        }
    }
}

/// Waits until somebody has connected to one of the sockets.
async fn asked(sockets: Vec<OwnedFd>) {
    let Ok(watched) = sockets
        .into_iter()
        .map(crate::io::register)
        .collect::<Result<Vec<_>, _>>()
    else {
        return std::future::pending().await;
    };
    loop {
        if listening::is_asked(&watched.iter().map(|fd| fd.get_ref()).collect::<Vec<_>>()) {
            return;
        }
        let each = watched.iter().map(|fd| Box::pin(fd.readable()));
        let mut each: Vec<_> = each.collect();
        let first = std::future::poll_fn(|context| {
            let ready = each.iter_mut().find_map(|wait| match wait.as_mut().poll(context) {
                std::task::Poll::Ready(guard) => Some(guard),
                std::task::Poll::Pending => None,
            });
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await;
        match first {
            // Somebody may have come and gone.
            Ok(mut guard) if !listening::is_asked(&[guard.get_inner()]) => guard.clear_ready(),
            Ok(_) => return,
            Err(_) => return std::future::pending().await,
        }
    }
}

/// Waits until the path's trigger holds.
async fn happened(path: &Watch, seen: u64) {
    loop {
        // The queue first: what happens between the two is in it.
        let queue = path.queue().and_then(crate::io::register);
        if path.holds(seen) {
            return;
        }
        match queue {
            Ok(queue) => drop(queue.readable().await),
            // Too many watches on this machine, say.
            Err(_) => tokio::time::sleep(std::time::Duration::from_secs(5)).await,
        }
    }
}

#[cfg(test)]
#[path = "demand_tests.rs"]
mod tests;
