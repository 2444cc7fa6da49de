//! The supervisor: one loop that owns everything. Tasks only tell it that something can be read or is done; what it decides
//! is saved before it is carried out.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_config::accounts::Ledger;
use cairn_init::channel;
use cairn_init::protocol::{Frame, Request, StoreId};
use cairn_sandbox::Report;
use cairn_unit::{Manifest, Site};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::certificates::Checked;
use crate::clock::{now_ms, now_ns};
use crate::config::Config;
use crate::console::Console;
use crate::control::Asked;
use crate::demand::Demand;
use crate::error::Error;
use crate::events::Events;
use crate::io::{Watched, watch};
use crate::listening::Opened;
use crate::log::{Held, Logs, News as LogNews};
use crate::machine::Event;
use crate::network::News;
use crate::rules::Rules;
use crate::saved::{Kept, Saved, Text};
use crate::timers;

/// So many of the manager's words may wait for the log's thread.
const WORDS: usize = 1024;

/// What tasks tell the loop.
#[derive(Debug)]
pub(crate) enum Msg {
    Init,
    InitWritable,
    Logs(LogNews),
    Notify(String),
    Status(String),
    /// A file operation of the unit is done: prepared (needs setup), or committed.
    Done(String, Event),
    /// The sign of readiness of the process with this token.
    Sign(String, u64),
    /// What a check of the health of the process with this token came to.
    Health(String, u64, Result<(), String>),
    /// It is time to check the health of the process with this token by a command.
    CheckHealth(String, u64),
    /// It is time to ask by a command whether the process with this token is ready.
    AskReady(String, u64),
    /// Nothing of the unit is left, after the process with this token.
    Empty(String, u64),
    /// What a unit waits for has come.
    Wanted(String),
    /// The sockets that a unit waits at are open, or cannot be.
    Opened(String, Result<Opened, Error>),
    /// The unit's listener of this number has ended: why, if somebody may still wait for it.
    Unheard(String, u64, Option<String>),
    /// A unit that keeps the clock set it by a step.
    ClockSet(String, cairn_sandbox::clock::Set),
    /// The unit's keeper of this number has ended: why, if calls may still come.
    ClockLeft(String, u64, Option<String>),
    Net(News),
    /// The unit's state is again what it was at this time, in seconds since 1970.
    Restored(String, u64),
    /// The unit's state is that of this dump; or the one of before, for this reason.
    RestoreEnded(String, Result<String, String>),
    /// A dump of the unit that was begun by this name is whole, or could not be kept.
    Dumped(String, String, Result<u64, String>),
    /// The version that runs is kept, and what could not be done about states of before.
    Settled(Vec<String>),
    /// Why a version of the owner's choices could not be kept.
    Unrecorded(String),
    /// The accounts that bindings need, and what was done about them.
    Accounts(Result<(Ledger, Vec<String>), String>),
    /// Files of running units were rendered anew.
    Rendered(crate::files::Rendered),
    /// First choices were found.
    Choices(crate::unattended::Choices),
    /// It is time to look at the certificates.
    CheckCertificates,
    /// They were looked at.
    Certificates(Checked),
    Control(Asked),
}

/// What a manager holds of a unit beside what is saved.
pub(crate) struct Live {
    pub(crate) rules: Rules,
    pub(crate) log: Held,
    pub(crate) notify: Option<Watched>,
    pub(crate) status: Option<Watched>,
    /// Descriptors that it gave to be kept for its next start, by name.
    pub(crate) stored: Vec<(String, OwnedFd)>,
    /// What it waits at while it is not there.
    pub(crate) demand: Demand,
    /// Tasks that end with the process.
    pub(crate) tasks: Vec<JoinHandle<()>>,
    /// What the console last said of it.
    pub(crate) shown: String,
    pub(crate) began: u64,
    pub(crate) lesson: crate::learn::Lesson,
    /// The number of the last thread that does its calls for the clock.
    pub(crate) keeper: u64,
    /// Set to have the copying of its state end.
    pub(crate) halt: Arc<AtomicBool>,
    /// Held by the thread that works on its state's folders.
    pub(crate) folders: Arc<Mutex<()>>,
}

/// Everything.
pub(crate) struct Supervisor {
    pub(crate) config: Arc<Config>,
    /// The appliance with the owner's choices.
    pub(crate) manifest: Arc<Manifest>,
    /// The appliance as it was built.
    pub(crate) built: Arc<Manifest>,
    pub(crate) site: Site,
    pub(crate) events: Events,
    pub(crate) saved: Saved,
    pub(crate) live: BTreeMap<String, Live>,
    pub(crate) console: Console,
    pub(crate) logs: Logs,
    log_api: crate::log::api::Api,
    /// While the logs are put on the disk before the machine stops: since when; 0 when that is done.
    pub(crate) settling: Option<u64>,
    pub(crate) send: UnboundedSender<Msg>,
    pub(crate) init: Watched,
    outbox: VecDeque<(Frame, Vec<OwnedFd>)>,
    blocked: bool,
    written: Text,
    /// Whether that stands in the file.
    whole: bool,
    /// The last of the manager's words that its log's thread was told.
    told: u64,
    /// The status sockets of processes beside the units' own, by request.
    pub(crate) beside_status: Vec<(u64, OwnedFd)>,
    /// While exits of before are still coming: how many.
    pub(crate) pending: Option<u32>,
    pub(crate) running: Vec<u64>,
    /// Units whose process was not there when this manager took over, and the requests for them.
    pub(crate) missing: Vec<(String, u64)>,
    /// Up to which number exits come that tell of them, and whether there was room to note all.
    pub(crate) passed: Option<(u64, bool)>,
    pub(crate) started: u64,
    pub(crate) begun: bool,
    /// When the console last said what a shutdown waits for.
    pub(crate) waited: u64,
    /// Whether init was asked to end the machine.
    pub(crate) ending: bool,
    pub(crate) done: bool,
    /// Whether what units keep is bounded.
    pub(crate) quotas: bool,
    /// Why certificates could not be renewed when they were last looked at.
    pub(crate) unrenewed: Vec<String>,
    pub(crate) accounts: crate::granting::Accounts,
    pub(crate) files: crate::files::Files,
    /// The first choices that were found last, and what is wrong with them.
    pub(crate) choices: Option<crate::unattended::Choices>,
    pub(crate) choice_problems: Vec<String>,
    pub(crate) upgrading: crate::upgrade::Upgrading,
    pub(crate) dumping: crate::dumps::Work,
    pub(crate) outside: crate::net_run::Outside,
    /// When units that wait are to be looked after again, in milliseconds.
    pub(crate) look_at: Option<u64>,
    pub(crate) control: Option<OwnedFd>,
}

/// Runs the manager on its socket to cairn-init. Returns only if that is gone.
///
/// # Errors
/// What makes it impossible to begin: the manifest, the socket.
pub async fn run(config: Config, socket: OwnedFd) -> Result<(), Error> {
    let (send, receive) = unbounded_channel();
    let manifest = Arc::new(config.read_manifest()?);
    let manager = config.at("/run/cairn/manager");
    cairn_config::private_folder(&manager)?;
    cairn_config::private_folder(&config.at("/run/cairn/notify"))?;
    let (init, _) = watch(socket, send.clone(), || Msg::Init).map_err(|e| Error::Init(e.to_string()))?;
    let (logs, store) = Logs::start(&config, &manifest, send.clone())?;
    crate::log::forward(&config, &manifest, store.clone(), &logs);
    let mut console = Console::open(&config.at("/dev/console"));
    if config.network {
        crate::timekeeping::begin(&config, &manifest, &mut console);
    }
    let (saved, lost) = match Saved::read(&config.saved(), &manifest) {
        Ok(saved) => (saved, None),
        Err(e) => (None, Some(e.to_string())),
    };
    if let Some(lost) = lost {
        console.say(&format!("{lost}; all units are started again"));
        for name in manifest.units.keys() {
            crate::cgroup::kill(&config.cgroup(name.as_str()));
        }
    }
    let saved = saved.unwrap_or_default();
    let live = manifest.units.iter().map(|(name, unit)| {
        let rules = Rules::of(name.as_str(), &unit.unit);
        let live = Live {
            rules,
            log: Held::default(),
            notify: None,
            status: None,
            stored: Vec::new(),
            demand: Demand::default(),
            tasks: Vec::new(),
            shown: String::new(),
            began: now_ms(),
            lesson: crate::learn::Lesson::default(),
            keeper: 0,
            halt: Arc::default(),
            folders: Arc::default(),
        };
        (name.as_str().to_owned(), live)
    });
    let live = live.collect();
    let mut supervisor = Supervisor {
        live,
        console,
        logs,
        log_api: crate::log::api::Api::new(store, manifest.name.as_str()),
        settling: None,
        send,
        init,
        outbox: VecDeque::new(),
        blocked: false,
        written: Text::default(),
        whole: false,
        told: 0,
        beside_status: Vec::new(),
        pending: None,
        running: Vec::new(),
        missing: Vec::new(),
        passed: None,
        started: now_ms(),
        begun: false,
        waited: 0,
        ending: false,
        done: false,
        quotas: crate::data::has_quotas(&config),
        unrenewed: Vec::new(),
        accounts: crate::granting::Accounts::default(),
        files: crate::files::Files::default(),
        choices: None,
        choice_problems: Vec::new(),
        upgrading: crate::upgrade::Upgrading::default(),
        dumping: crate::dumps::Work::default(),
        outside: crate::net_run::Outside::default(),
        look_at: None,
        control: None,
        saved,
        built: manifest.clone(),
        site: Site::unset(&manifest),
        manifest,
        events: Events::default(),
        config: Arc::new(config),
    };
    supervisor.first_site();
    supervisor.find_pending();
    supervisor.post(Request::Hello, Vec::new());
    supervisor.flush();
    supervisor.work(receive).await;
    Ok(())
}

impl Supervisor {
    async fn work(&mut self, mut receive: UnboundedReceiver<Msg>) {
        while !self.done {
            let wait = self
                .next_deadline()
                .map(|at| Duration::from_millis(at.saturating_sub(now_ms())));
            let wait = wait.into_iter().chain(self.calendar_pace()).min();
            let message = match wait {
                Some(wait) => tokio::time::timeout(wait, receive.recv()).await.unwrap_or_default(),
                None => receive.recv().await,
            };
            if let Some(message) = message {
                self.handle(message);
            }
            // One save for all that has come meanwhile.
            while let Ok(message) = receive.try_recv() {
                self.handle(message);
            }
            if self.pending.is_none() && self.begun {
                self.tick();
                self.reconcile();
                self.settle_accounts();
                self.tell_changed_files();
                self.look_at = self.arm();
                self.follow_lowering();
                self.prove();
                self.follow_upgrades();
                self.follow_dumps();
                self.follow_network();
                self.announce();
                self.power();
            }
            self.save();
            self.flush();
        }
    }

    /// A request to cairn-init, sent when what it follows from has been saved.
    pub(crate) fn post(&mut self, request: Request, fds: Vec<OwnedFd>) {
        self.outbox.push_back((request.encode(), fds));
    }

    pub(crate) fn store(&mut self, kind: &str, unit: &str, fd: OwnedFd) {
        if let Some(id) = StoreId::new(format!("{kind}@{unit}")) {
            self.post(Request::Store { id }, vec![fd]);
        }
    }

    fn flush(&mut self) {
        while let Some((frame, fds)) = self.outbox.front() {
            let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
            match channel::send(self.init.get_ref(), frame, &borrowed) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(rustix::io::Errno::AGAIN) => {
                    if !std::mem::replace(&mut self.blocked, true) {
                        let (init, send) = (self.init.clone(), self.send.clone());
                        tokio::spawn(async move {
                            if let Ok(mut guard) = init.writable().await {
                                guard.clear_ready();
                            }
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            let _ = send.send(Msg::InitWritable);
                        });
                    }
                    return;
                }
                Err(_) => {
                    self.done = true;
                    return;
                }
            }
        }
    }

    /// Writes what a successor must know, if it is not what was written last; with it what was said, which is told to the log then.
    pub(crate) fn save(&mut self) {
        for mut word in self.console.take_words() {
            // What comes too fast for the log stood on the console.
            if self.saved.words.len() < WORDS {
                // Time goes on even where the saved state was lost.
                self.saved.word = now_ns().max(self.saved.word + 1);
                word.id = self.saved.word;
                self.saved.words.push_back(word);
            }
        }
        if !self.written.update(&mut self.saved) && self.whole {
            return;
        }
        let result = self.written.write(&self.config.saved());
        self.whole = result.is_ok();
        if let Err(e) = result {
            self.console.show(&e.to_string());
        }
        let told = std::mem::replace(&mut self.told, self.saved.word);
        for word in self.saved.words.iter().filter(|word| word.id > told) {
            self.logs.say(word.clone());
        }
    }

    fn handle(&mut self, message: Msg) {
        match message {
            Msg::Init => self.read_init(),
            Msg::InitWritable => self.blocked = false,
            Msg::Logs(news) => self.log_news(news),
            Msg::Notify(name) => self.read_notify(&name),
            Msg::Status(name) => self.read_status(&name),
            Msg::Done(name, event) => self.feed(&name, event),
            Msg::Sign(name, token) => {
                if self.saved.units.get(&name).is_some_and(|k| k.token == token) {
                    self.feed(&name, Event::Ready);
                }
            }
            Msg::Health(name, token, result) => self.health_told(&name, token, result),
            Msg::CheckHealth(name, token) => self.check_health(&name, token),
            Msg::AskReady(name, token) => self.ask_ready(&name, token),
            Msg::Empty(name, token) => {
                if let Some(kept) = self.saved.units.get_mut(&name)
                    && kept.token == token
                    && let Some(end) = kept.ended.take()
                {
                    self.gone(&name, end);
                }
            }
            Msg::Wanted(name) => self.wanted(&name),
            Msg::Opened(name, opened) => self.opened(&name, opened),
            Msg::Unheard(name, number, why) => self.unheard(&name, number, why),
            Msg::ClockSet(name, set) => self.clock_set(&name, set),
            Msg::ClockLeft(name, number, why) => self.clock_left(&name, number, why),
            Msg::Settled(wrong) => wrong.iter().for_each(|why| self.console.say(why)),
            Msg::RestoreEnded(name, ended) => self.restore_ended(&name, ended),
            Msg::Dumped(name, dump, result) => self.dumped(&name, &dump, result),
            Msg::Restored(name, since) => self.restored(&name, since),
            Msg::Unrecorded(why) => self
                .console
                .say(&format!("{why}; this version of site.toml cannot be gone back to")),
            Msg::CheckCertificates => self.check_certificates(false),
            Msg::Certificates(checked) => self.certificates_checked(checked),
            Msg::Net(news) => self.network_news(news),
            Msg::Accounts(found) => self.accounts_found(found),
            Msg::Rendered(all) => self.rendered(all),
            Msg::Choices(choices) => self.choices_found(choices),
            Msg::Control(asked) => self.answer(asked),
        }
    }

    /// What every manager does once it has back what there was.
    pub(crate) fn begin(&mut self) {
        self.begun = true;
        if let Err(e) = crate::cgroup::set_up(&self.config.at("/sys/fs/cgroup/cairn/units")) {
            self.console.say(&e.to_string());
        }
        self.logs.begin();
        if self.control.is_none() {
            match crate::control::listen(&self.config.control()) {
                Ok(socket) => {
                    if let (Ok(copy), Some(id)) = (socket.try_clone(), StoreId::new("control@manager")) {
                        self.post(Request::Store { id }, vec![copy]);
                    }
                    self.control = Some(socket);
                }
                Err(e) => self.console.say(&e.to_string()),
            }
        }
        if let Some(socket) = self.control.as_ref().and_then(|s| s.try_clone().ok()) {
            tokio::spawn(crate::control::serve(
                socket,
                crate::control::Callers::new(&self.built),
                self.send.clone(),
                Msg::Control,
                self.log_api.clone(),
                self.events.clone(),
            ));
        }
        let fresh = self.saved.units.is_empty();
        if fresh && self.config.network && !self.quotas {
            let line = "The data partition was made without quotas: one unit can fill it, whatever its disk_max";
            self.console.say(line);
        }
        if fresh {
            self.saved.begun_ms = now_ms();
        }
        for (name, unit) in &self.manifest.units {
            let name = name.as_str();
            let timer = unit.unit.timer.as_ref().map(|_| self.config.timer(name));
            self.saved.units.entry(name.to_owned()).or_insert_with(|| Kept {
                up: unit.unit.starts_with_appliance() && self.site.enabled(name),
                last_start: timer.and_then(|path| timers::read_stamp(&path)),
                ..Kept::default()
            });
        }
        if fresh && self.config.at("/usr/lib/cairn/test-agent").exists() {
            let plan = crate::host_plan::test_agent(&self.config.at("/"), "/usr/lib/cairn/test-agent");
            self.spawn_host("test-agent", &plan);
        }
        self.start_network();
        self.watch_certificates();
        self.update_accounts();
        self.find_changed_files();
        self.watch_for_choices();
        self.begin_upgrades();
        self.begin_dumps();
        if fresh {
            let wanted: Vec<String> = self
                .saved
                .units
                .iter()
                .filter(|(_, kept)| kept.up)
                .map(|(name, _)| name.clone())
                .collect();
            for name in wanted {
                self.feed(&name, Event::Start);
            }
        }
    }

    /// Whether a process with this request number still runs in its helper.
    pub(crate) fn helper_runs(&self, token: u64) -> bool {
        self.running.contains(&token)
    }

    pub(crate) fn read_status(&mut self, name: &str) {
        let mut buffer = [0u8; 8192];
        loop {
            let Some(status) = self.live.get(name).and_then(|l| l.status.clone()) else {
                return;
            };
            // It is taken when what follows from it is saved: otherwise a kill in between loses it.
            let flags = rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::PEEK;
            let length = match rustix::net::recv(status.get_ref(), &mut buffer, flags) {
                Ok((length, _)) if length > 0 => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => return,
                _ => {
                    // The other end is gone: no more news, and no more wake-ups.
                    if let Some(live) = self.live.get_mut(name) {
                        live.status = None;
                    }
                    return;
                }
            };
            let report = Report::parse(&buffer[..length]).ok();
            let ended = report.and_then(|report| self.reported(name, report));
            self.save();
            if let Ok((_, Some(listener))) = cairn_sandbox::receive(status.get_ref(), &mut buffer, false) {
                self.take_listener(name, listener);
            }
            if let Some(ended) = ended {
                let pid = self.saved.units.get(name).map_or(0, |k| k.pid);
                // Not before: on the way is saved what else was reported, and with it the status would be lost.
                self.main_ended(name, ended);
                self.saved.strays.retain(|(stray, _)| *stray != pid);
            }
        }
    }
}
