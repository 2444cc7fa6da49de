//! The thread that owns the store: it waits for all sources, takes from each in turn, and does what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use cairn_unit::Manifest;
use rustix::event::{Timespec, epoll};
use tokio::sync::{mpsc, watch};

use super::dev_log::Heard;
use super::glass::Glass;
use super::kernel::Kernel;
use super::limits::UnitLog;
use super::note::NoteFile;
use super::sink::{RETRY, Sink};
use super::source::{Progress, Source, Tools};
use super::words::Words;
use super::{Command, KERNEL, Kind, Logs, News, Store, WORDS};
use crate::address::id_base;
use crate::clock::now_ns;
use crate::config::Config;
use crate::error::Error;
use crate::supervisor::Msg;

/// How often what was dropped is looked after, in nanoseconds.
const SETTLE: u64 = 1_000_000_000;
/// So many looks at a pipe when a unit's end is asked for: others of its processes may write on for ever.
const LAST_LOOKS: usize = 64;

/// What has something to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Wake,
    Kernel,
    Pipe(usize),
    DevLog(usize),
}

impl Token {
    fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Wake => 0,
            Token::Kernel => 1,
            Token::Pipe(index) => 2 + 2 * index as u64,
            Token::DevLog(index) => 3 + 2 * index as u64,
        })
    }

    fn of(data: u64) -> Token {
        let index = usize::try_from(data.saturating_sub(2) / 2).unwrap_or(0);
        match data {
            0 => Token::Wake,
            1 => Token::Kernel,
            _ if data.is_multiple_of(2) => Token::Pipe(index),
            _ => Token::DevLog(index),
        }
    }
}

/// Descriptors of a unit that has no [`Source`] yet.
#[derive(Debug, Default)]
struct Parts {
    pipe: Option<OwnedFd>,
    stage: Option<OwnedFd>,
    dev_log: Option<(OwnedFd, bool)>,
}

/// The thread's all.
pub(super) struct Writer {
    commands: Receiver<Command>,
    wake: Arc<OwnedFd>,
    words: Words,
    /// Up to which of them the loop knows that they are stored.
    told: u64,
    news: mpsc::UnboundedSender<Msg>,
    epoll: OwnedFd,
    notes: PathBuf,
    kmsg: PathBuf,
    limits: Arc<BTreeMap<String, UnitLog>>,
    ids: BTreeMap<String, Range<u32>>,
    own: Option<u32>,
    tools: Tools,
    parts: BTreeMap<String, Parts>,
    sources: Vec<Source>,
    kernel: Option<Kernel>,
    begun: bool,
    ready: BTreeSet<Token>,
    /// What the store did not take, and when it is tried again.
    stuck: BTreeSet<Token>,
    retry_at: u64,
    /// When to look after what was dropped.
    settle_at: Option<u64>,
}

impl Writer {
    pub(super) fn new(
        config: &Config,
        manifest: &Manifest,
        store: &Store,
        newest: watch::Sender<u64>,
        logs: &Logs,
        commands: Receiver<Command>,
        news: mpsc::UnboundedSender<Msg>,
    ) -> Result<Writer, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::io("make", "an epoll"))?;
        let ids = manifest.units.iter().map(|(name, unit)| {
            let base = id_base(unit.index);
            (name.as_str().to_owned(), base..base + 65_536)
        });
        Ok(Writer {
            commands,
            wake: logs.wake.clone(),
            words: Words::open(&config.log_notes().join(WORDS))?,
            told: 0,
            epoll,
            notes: config.log_notes(),
            kmsg: config.at("/dev/kmsg"),
            limits: store.units.clone(),
            ids: ids.collect(),
            own: (!config.network).then(|| rustix::process::geteuid().as_raw()),
            tools: Tools {
                sink: Sink::new(store, newest, news.clone()),
                glass: Glass::new().map_err(Error::io("make", "a pipe"))?,
                window: Vec::new(),
                buffer: Vec::new(),
            },
            news,
            parts: BTreeMap::new(),
            sources: Vec::new(),
            kernel: None,
            begun: false,
            ready: BTreeSet::new(),
            stuck: BTreeSet::new(),
            retry_at: 0,
            settle_at: None,
        })
    }

    /// Works until the process ends.
    pub(super) fn run(mut self) {
        self.watch(self.wake.clone(), Token::Wake);
        self.words.resume(&mut self.tools.sink);
        loop {
            if !self.obey() {
                return;
            }
            // Before all that units write, which may be much: this is little, and a successor would have to do it.
            self.say();
            for token in self.ready.clone() {
                self.turn(token);
            }
            self.settle();
            let due = self.tools.sink.tick();
            self.wait(due);
        }
    }

    fn watch(&self, fd: impl AsFd, token: Token) {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, fd, token.data(), flags) {
            let _ = self
                .news
                .send(Msg::Logs(News::Say(format!("A log cannot be watched: {error}"))));
        }
    }

    /// Waits for the next event, but not beyond `due`.
    fn wait(&mut self, due: Option<u64>) {
        let retry = (!self.stuck.is_empty()).then_some(self.retry_at);
        let at = [due, retry, self.settle_at].into_iter().flatten().min();
        let left = match self.ready.is_empty() {
            true => at.map(|at| at.saturating_sub(now_ns())),
            false => Some(0),
        };
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (left % 1_000_000_000) as _,
        });
        let mut space = [MaybeUninit::uninit(); 64];
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            self.ready
                .extend(events.iter().map(|event| Token::of({ event.data }.u64())));
        }
        if !self.stuck.is_empty() && now_ns() >= self.retry_at {
            self.ready.append(&mut self.stuck);
        }
    }

    /// One look at one source.
    fn turn(&mut self, token: Token) {
        let progress = match token {
            Token::Wake => Progress::Idle,
            Token::Kernel => {
                let news = &self.news;
                let say = |what| drop(news.send(Msg::Logs(what)));
                self.kernel
                    .as_mut()
                    .map_or(Progress::Idle, |kernel| kernel.drain(&mut self.tools, say))
            }
            Token::Pipe(index) => self.with(index, |source, tools| source.drain(tools, false)),
            Token::DevLog(index) => self.with(index, Source::listen),
        };
        match progress {
            Progress::More => {}
            Progress::Idle => drop(self.ready.remove(&token)),
            Progress::Stuck => {
                self.ready.remove(&token);
                self.stuck.insert(token);
                self.retry_at = now_ns() + RETRY;
            }
        }
    }

    fn with(&mut self, index: usize, act: impl FnOnce(&mut Source, &mut Tools) -> Progress) -> Progress {
        let Some(source) = self.sources.get_mut(index) else {
            return Progress::Idle;
        };
        let progress = act(source, &mut self.tools);
        if let Some(token) = source.came() {
            let _ = self.news.send(Msg::Sign(source.name.clone(), token));
        }
        if source.is_losing() {
            self.settle_at.get_or_insert(now_ns() + SETTLE);
        }
        progress
    }

    /// Stores what the manager has said. What is under way in the same log goes first: its places are told already.
    fn say(&mut self) {
        while let Some(unit) = self.words.unit().filter(|_| self.begun) {
            if let Some(index) = self.find(unit) {
                self.go_on(index);
                if self.sources[index].is_under_way() {
                    self.wait_for_words();
                    break;
                }
            }
            if !self.words.store(&mut self.tools.sink) {
                self.wait_for_words();
                break;
            }
        }
        let stored = self.words.stored();
        if stored > std::mem::replace(&mut self.told, stored) {
            let _ = self.news.send(Msg::Logs(News::Stored(stored)));
        }
    }

    /// Carries out what an earlier manager, or a look that got stuck, has left of a source.
    fn go_on(&mut self, index: usize) {
        if self.sources[index].pending {
            self.turn(Token::Pipe(index));
        }
        if self.sources[index].is_under_way() {
            self.turn(Token::DevLog(index));
        }
    }

    fn wait_for_words(&mut self) {
        if self.stuck.insert(Token::Wake) {
            self.retry_at = now_ns() + RETRY;
        }
    }

    /// Says of units that are silent now what was dropped before.
    fn settle(&mut self) {
        if self.settle_at.is_some_and(|at| at <= now_ns()) {
            let mut left = false;
            for source in self.sources.iter_mut().filter(|source| source.is_losing()) {
                left |= source.settle(&mut self.tools.sink);
            }
            self.settle_at = left.then(|| now_ns() + SETTLE);
        }
    }

    /// Does what the loop has told; false when the loop is gone.
    fn obey(&mut self) -> bool {
        // The sign is taken before its commands: taken after them, it would take with it that of a command that came between.
        if self.ready.remove(&Token::Wake) {
            let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.handle(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Take(kind, unit, fd) => self.take(kind, &unit, fd),
            Command::Begin => self.begin(),
            Command::Finish(unit) => self.finish(&unit),
            Command::Tail(unit) => {
                let lines = self.find(&unit).map(|index| self.sources[index].take_tail());
                let _ = self.news.send(Msg::Logs(News::Tail(unit, lines.unwrap_or_default())));
            }
            Command::Await(unit, token, text) => {
                if let Some(index) = self.find(&unit) {
                    self.with(index, |source, _| {
                        source.wait_for(token, &text);
                        Progress::Idle
                    });
                }
            }
            Command::Say(word) => self.words.take(word),
            Command::Settle => {
                for token in self.ready.clone() {
                    self.turn(token);
                }
                self.say();
                self.tools.sink.sync();
                let _ = self.news.send(Msg::Logs(News::Settled));
            }
        }
    }

    fn find(&self, unit: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.name == unit)
    }

    fn take(&mut self, kind: Kind, unit: &str, fd: OwnedFd) {
        let adopted = !self.begun;
        if let (Kind::DevLog, Some(index)) = (kind, self.find(unit)) {
            return self.hear(index, fd, adopted);
        }
        let parts = self.parts.entry(unit.to_owned()).or_default();
        match kind {
            Kind::Pipe => parts.pipe = Some(fd),
            Kind::Stage => parts.stage = Some(fd),
            Kind::DevLog => parts.dev_log = Some((fd, adopted)),
        }
        self.assemble(unit);
    }

    /// Makes a source of a unit's descriptors when all are there. A unit of which not all was kept gets a new pipe.
    fn assemble(&mut self, unit: &str) {
        let Some(limits) = self.limits.get(unit) else { return };
        let whole = |parts: &Parts| parts.pipe.is_some() && parts.stage.is_some();
        if !self.parts.get(unit).is_some_and(whole) {
            return;
        }
        let (file, note) = match NoteFile::open(&self.notes.join(unit)) {
            Ok(opened) => opened,
            Err(error) => return drop(self.news.send(Msg::Logs(News::Say(error.to_string())))),
        };
        let Some(Parts {
            pipe: Some(pipe),
            stage: Some(stage),
            dev_log,
        }) = self.parts.remove(unit)
        else {
            return;
        };
        let mut source = Source::new(unit.to_owned(), [pipe, stage], file, note, limits);
        let index = self.find(unit).unwrap_or(self.sources.len());
        self.watch(&source.pipe, Token::Pipe(index));
        self.ready.insert(Token::Pipe(index));
        match self.sources.get_mut(index) {
            Some(old) => {
                source.heard = old.heard.take();
                *old = source;
            }
            None => self.sources.push(source),
        }
        if let Some((socket, adopted)) = dev_log {
            self.hear(index, socket, adopted);
        }
    }

    fn hear(&mut self, index: usize, socket: OwnedFd, adopted: bool) {
        let ids = self.ids.get(&self.sources[index].name).cloned().unwrap_or(0..0);
        self.watch(&socket, Token::DevLog(index));
        self.ready.insert(Token::DevLog(index));
        self.sources[index].heard = Some(Heard::new(socket, ids, self.own, adopted));
    }

    /// What was kept has come. A unit of an earlier version's manager has no stage.
    fn begin(&mut self) {
        self.begun = true;
        for unit in self.parts.keys().cloned().collect::<Vec<_>>() {
            if let Some(parts) = self.parts.get_mut(&unit)
                && parts.pipe.is_some()
                && parts.stage.is_none()
            {
                parts.stage = super::held::stage().ok();
            }
            self.assemble(&unit);
        }
        let Some(limits) = self.limits.get(KERNEL) else { return };
        match Kernel::open(&self.kmsg, &self.notes.join(KERNEL), limits) {
            Ok(Some(kernel)) => {
                self.watch(&kernel.file, Token::Kernel);
                self.ready.insert(Token::Kernel);
                self.kernel = Some(kernel);
            }
            Ok(None) => {}
            Err(error) => drop(self.news.send(Msg::Logs(News::Say(error.to_string())))),
        }
    }

    /// Takes all that a unit has written until now.
    fn finish(&mut self, unit: &str) {
        let Some(index) = self.find(unit) else { return };
        self.turn(Token::DevLog(index));
        let mut looks = 0;
        while looks < LAST_LOOKS && self.with(index, |source, tools| source.drain(tools, false)) == Progress::More {
            looks += 1;
        }
        if self.with(index, |source, tools| source.drain(tools, true)) == Progress::Stuck {
            self.stuck.insert(Token::Pipe(index));
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
