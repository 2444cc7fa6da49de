//! The program's loop: each certificate in a task of its own, so that one whose name server or authority is slow holds up no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_config::Disk;
use instant_acme::Account;
use jiff::{SignedDuration, Timestamp};
use ureq::tls::RootCerts;

use crate::account;
use crate::backoff::delay;
use crate::challenge::{Addresses, Answers, listen};
use crate::client::Client;
use crate::config::Config;
use crate::deliver::deliver;
use crate::held::{Failure, Store, texts};
use crate::issue;
use crate::plan::{Step, next, plan};
use crate::trouble::{Kind, Trouble};

/// What tells the time.
pub type Clock = fn() -> Timestamp;

/// How long after the clock was set it is noticed at the latest.
const PACE: Duration = Duration::from_secs(600);

/// How long tasks that are ended may use the world.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// How far the authority's clock may be from ours. Its certificates begin an hour before they are issued.
const AGREES: SignedDuration = SignedDuration::from_mins(50);

/// Everything that a step needs.
pub struct World {
    pub(crate) config: Config,
    /// The folder with what is held.
    pub store: Store,
    pub(crate) client: Client,
    pub(crate) answers: Answers,
    pub(crate) now: Clock,
    /// Where challenges are answered.
    pub addresses: Addresses,
    answering: tokio::task::JoinSet<()>,
    account: tokio::sync::Mutex<Option<Account>>,
    said: Mutex<HashMap<String, String>>,
}

impl World {
    /// Opens the folder and begins to answer challenges.
    ///
    /// # Errors
    /// The folder cannot be made, or an address is taken.
    pub async fn new(
        config: Config,
        disk: Arc<dyn Disk + Send + Sync>,
        roots: RootCerts,
        now: Clock,
    ) -> Result<World, Trouble> {
        let answers = Answers::default();
        let (addresses, answering) = listen(&config, &answers).await?;
        Ok(World {
            store: Store::open(config.state.clone(), disk)?,
            addresses,
            answering,
            client: Client::new(roots, now),
            answers,
            config,
            now,
            account: tokio::sync::Mutex::new(None),
            said: Mutex::default(),
        })
    }

    /// Ends the answering of challenges, so that another world can listen at the same addresses. Waits for what still uses this one.
    ///
    /// # Errors
    /// A request is not given up in time.
    pub async fn close(self: Arc<World>) -> Result<(), Trouble> {
        let mut world = self;
        let until = tokio::time::Instant::now() + GIVEN_UP;
        loop {
            world = match Arc::try_unwrap(world) {
                Ok(mut alone) => {
                    alone.answering.shutdown().await;
                    return Ok(());
                }
                Err(_) if tokio::time::Instant::now() > until => {
                    return Err(Trouble::unreachable("what is under way does not end"));
                }
                Err(shared) => shared,
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The account, made or read when it is first needed.
    pub(crate) async fn account(&self) -> Result<Account, Trouble> {
        let mut place = self.account.lock().await;
        match &*place {
            Some(account) => Ok(account.clone()),
            None => {
                let made = account::account(&self.config, &self.store, &self.client).await?;
                *place = Some(made.clone());
                Ok(made)
            }
        }
    }

    /// Notes that the authority does not know the account any more, if that is the trouble.
    pub(crate) fn lost_account(&self, mut trouble: Trouble) -> Trouble {
        if trouble.is("accountDoesNotExist") {
            if let Ok(mut place) = self.account.try_lock() {
                *place = None;
            }
            if let Err(e) = account::forget(&self.config, &self.store) {
                return e;
            }
            trouble.why.push_str("; the account is made again");
        }
        trouble
    }

    /// Whether our clock is the authority's, as far as certificates go.
    pub(crate) fn clock_agrees(&self) -> Result<(), Trouble> {
        match self.client.ahead() {
            Some(ahead) if ahead.abs() > AGREES => {
                let way = if ahead.is_positive() { "behind" } else { "ahead of" };
                Err(Trouble::unreachable(format!(
                    "the appliance's clock is {} minutes {way} the authority's, so nothing is ordered; set the clock",
                    ahead.abs().as_mins()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Says a line, for the log.
    pub(crate) fn say(&self, line: &str) {
        println!("{line}");
    }

    /// Says what a certificate does or waits for; the same only once.
    fn tell(&self, of: &str, line: String, urgent: bool) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(of) != Some(&line) {
            // The log takes it as a warning (sd-daemon(3)).
            println!("{}{line}", if urgent { "<4>" } else { "" });
            // The owner reads it beside the unit's state.
            let status = if urgent { line.as_str() } else { "" };
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(status)]);
            said.insert(of.to_owned(), line);
        }
    }
}

/// Finds the next step of one certificate and does it. Gives the step, and what went wrong with it.
///
/// # Errors
/// What is kept cannot be read or written: then nothing was noted of what went wrong.
pub async fn round(world: &World, of: &str) -> Result<(Step, Option<Trouble>), Trouble> {
    let (now, store) = ((world.now)(), &world.store);
    let mut kept = store.kept(of)?;
    let Some(wanted) = world.config.certificates.get(of) else {
        store.forget(of)?;
        return Ok((Step::Forget { of: of.to_owned() }, None));
    };
    let holding = store.holding(of)?;
    let step = next(now, &world.config, of, wanted, &kept, holding.as_ref());
    let mut tries = 0;
    let done = loop {
        let done = match &step {
            Step::Deliver { .. } => hand_over(world, of).await,
            Step::Order { names, .. } => issue::order(world, of, names, &mut kept).await,
            Step::Resume { .. } => issue::resume(world, of, wanted, &mut kept).await,
            Step::AskWindow { .. } => issue::ask_window(world, of, &mut kept).await,
            Step::Clear { .. } => issue::clear_records(world, of, &mut kept).await,
            Step::Wait { .. } | Step::Forget { .. } => Ok(()),
        };
        tries += 1;
        // Another nonce is all that this takes, and servers refuse some to see that clients ask again.
        match done {
            Err(trouble) if trouble.is("badNonce") && tries < 4 => {}
            other => break other,
        }
    };
    // What others have noted meanwhile (a revocation) stays.
    kept.revoked = store.kept(of)?.revoked;
    match (&step, &done) {
        (Step::Deliver { .. }, Ok(())) => {
            kept.delivered = match holding {
                Some(Ok(held)) => held.hash,
                _ => String::new(),
            };
            kept.undelivered = None;
            store.keep(of, &kept)?;
        }
        (Step::Deliver { .. }, Err(trouble)) => {
            kept.undelivered = Some(failure(now, of, kept.undelivered.as_ref(), trouble));
            store.keep(of, &kept)?;
        }
        (Step::Order { .. } | Step::Resume { .. }, Err(trouble)) => {
            let names = texts(&wanted.names);
            let before = kept.failure.as_ref().filter(|_| kept.failed_names == names);
            kept.failure = Some(failure(now, of, before, trouble));
            kept.failed_names = names;
            store.keep(of, &kept)?;
        }
        (Step::AskWindow { .. }, Err(_)) => {
            let again = now.saturating_add(SignedDuration::from_hours(6)).unwrap_or(now);
            let between = kept.window.as_ref().and_then(|window| window.between);
            kept.window = Some(crate::held::Window { between, ask_at: again });
            store.keep(of, &kept)?;
        }
        _ => {}
    }
    Ok((step, done.err()))
}

/// A failure to be noted: how often now, and when it is tried again.
fn failure(now: Timestamp, of: &str, before: Option<&Failure>, trouble: &Trouble) -> Failure {
    // Troubles of another kind are not in a row.
    let row = before
        .filter(|before| before.at <= now && (before.kind == Kind::Unreachable) == (trouble.kind == Kind::Unreachable));
    let count = row.map_or(0, |before| before.count) + 1;
    let own = now.saturating_add(delay(trouble.kind, count, of)).unwrap_or(now);
    Failure {
        at: now,
        retry_at: trouble.not_before.map_or(own, |named| named.max(own)),
        count,
        why: trouble.why.clone(),
        kind: trouble.kind,
    }
}

async fn hand_over(world: &World, of: &str) -> Result<(), Trouble> {
    let pem = world.store.pem(of)?;
    let pem = pem.ok_or_else(|| Trouble::refused("there is no certificate to hand over"))?;
    deliver(&world.config.deliver, of, &pem).await
}

/// Keeps every certificate for as long as the runtime runs.
///
/// # Errors
/// What is held cannot be read at the start.
pub async fn run(world: Arc<World>) -> Result<(), Trouble> {
    let held = world.store.read()?;
    for step in plan((world.now)(), &world.config, &held) {
        if let Step::Forget { of } = &step {
            world.say(&step.to_string());
            world.store.forget(of)?;
        }
    }
    let mut tasks = tokio::task::JoinSet::new();
    for of in world.config.certificates.keys() {
        let (world, of) = (world.clone(), of.clone());
        tasks.spawn(async move {
            loop {
                let pause = one(&world, &of).await;
                tokio::time::sleep(pause).await;
            }
        });
    }
    // None of them ends by itself.
    if let Some(Err(why)) = tasks.join_next().await {
        return Err(Trouble::refused(format!("a certificate's task has failed: {why}")));
    }
    // Without certificates there is nothing to do; the program stays for those who start it.
    std::future::pending().await
}

/// One round of one certificate; gives how long to wait for the next.
async fn one(world: &World, of: &str) -> Duration {
    match round(world, of).await {
        Err(trouble) => {
            world.tell(of, format!("{of}: {trouble}"), true);
            Duration::from_secs(60)
        }
        Ok((step, failed)) => {
            if let Some(trouble) = failed {
                world.tell(of, format!("{of}: {trouble}"), true);
                return Duration::ZERO;
            }
            let Step::Wait { until, trouble, .. } = &step else {
                world.tell(of, step.to_string(), false);
                return Duration::ZERO;
            };
            world.tell(of, step.to_string(), *trouble);
            let left = until.duration_since((world.now)());
            Duration::try_from(left)
                .unwrap_or(Duration::ZERO)
                .clamp(Duration::from_millis(100), PACE)
        }
    }
}
