//! What the panel does with a request: who asks, whether they may, and which page answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, header};
use minijinja::{Value, context};
use tokio::sync::{Semaphore, broadcast, watch};

use crate::control::{Control, ControlError};
use crate::directory::{Directory, DirectoryError, Person};
use crate::http::{Request, Response};
use crate::importing::Importing;
use crate::limits::{Bound, Limits};
use crate::place::Place;
use crate::roles::{MENU, Role};
use crate::samples::Samples;
use crate::secret::{self, NoRandom};
use crate::settings::Settings;
use crate::store::{Account, Level, Record, Session, Store, StoreError, Trouble};
use crate::tls::Identity;
use crate::view::{View, values};
use crate::webauthn::Challenges;
use crate::words::Lang;
use crate::{api, assets, pages};

pub(crate) const COOKIE: &str = "__Host-session";
const LANGUAGE: &str = "__Host-lang";

/// The panel.
#[derive(Debug)]
pub struct App {
    pub(crate) store: Store,
    pub(crate) control: Control,
    pub(crate) directory: Directory,
    pub(crate) view: View,
    pub(crate) limits: Limits,
    pub(crate) samples: Samples,
    pub(crate) importing: Arc<Importing>,
    /// Challenges that were given for passkeys.
    pub(crate) challenges: Challenges,
    /// Where passkeys can be used.
    pub(crate) place: Place,
    /// Told whenever something on a page may be another.
    pub(crate) changes: broadcast::Sender<()>,
    /// Browsers that follow a log or events; each holds one of the manager's few places.
    pub(crate) followers: Arc<Semaphore>,
    pub(crate) recheck_every: Duration,
    pub(crate) stopped: watch::Receiver<bool>,
    form_key: Vec<u8>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Random(#[from] NoRandom),
    #[error("the page cannot be made: {0:#}")]
    Page(#[from] minijinja::Error),
    /// A status, and the sentence for it.
    #[error("{1}")]
    Refused(u16, &'static str),
}

/// A request and who makes it.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) request: Request,
    pub(crate) lang: Lang,
    /// The cookie's value; of a session, or of nobody yet.
    pub(crate) token: String,
    fresh: bool,
    pub(crate) session: Option<Session>,
    /// The owner's account.
    pub(crate) account: Option<Account>,
    /// Whose the session is, if it is not the owner's.
    pub(crate) person: Option<Person>,
    /// What they may do; `None` for who is not logged in.
    pub(crate) role: Option<Role>,
    /// Why it cannot be told whether the session's person is still there.
    pub(crate) unsure: Option<DirectoryError>,
    pub(crate) trouble: Trouble,
    form_token: String,
    /// What the audit log says of it beyond the status.
    pub(crate) told: String,
}

impl Visit {
    /// Whether somebody is logged in.
    pub(crate) fn logged_in(&self) -> bool {
        self.role.is_some()
    }

    /// Whether they may do what needs this role.
    pub(crate) fn may(&self, role: Role) -> bool {
        self.role.is_some_and(|own| own >= role)
    }

    /// Whose the session is, as the store has it.
    pub(crate) fn whose(&self) -> Option<String> {
        self.session.as_ref().and_then(|session| session.person.clone())
    }

    /// What is kept of the cookie.
    pub(crate) fn kept(&self) -> [u8; 32] {
        secret::kept(&self.token)
    }

    /// The manager, asked for who is logged in.
    pub(crate) fn control(&self, app: &App) -> Control {
        app.control.of(&self.who())
    }

    /// Gives the browser another cookie: whoever knew the old one is left behind.
    pub(crate) fn rotate(&mut self) -> Result<(), NoRandom> {
        self.token = secret::token()?;
        self.fresh = true;
        Ok(())
    }

    /// Who asks, as the audit log has it.
    pub(crate) fn who(&self) -> String {
        match (&self.person, &self.account, self.logged_in()) {
            (Some(person), _, true) => person.uid.clone(),
            (None, Some(account), true) => account.name.clone(),
            _ => "-".into(),
        }
    }
}

impl App {
    /// Opens the store and begins to watch the manager.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub async fn start(
        settings: Settings,
        identity: Arc<Identity>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Arc<App>, Box<dyn std::error::Error + Send + Sync>> {
        // Beside the store, which waits for the disk: both take their time on a small machine.
        let view = tokio::task::spawn_blocking(View::load);
        let store = Store::open(&settings.state)?;
        let form_key = match store.with(|db| db.form_key()).await {
            Ok(key) => key,
            // It holds until the next start; the panel has to open on a full disk.
            Err(StoreError::Full) => secret::random::<32>()?.to_vec(),
            Err(error) => return Err(error.into()),
        };
        let app = Arc::new(App {
            control: Control::new(settings.control.clone()),
            directory: Directory::new(settings.directory.clone()),
            store,
            view: view.await??,
            limits: Limits::default(),
            samples: Samples::default(),
            importing: Arc::new(Importing::new(settings.import_wait)),
            challenges: Challenges::default(),
            place: Place::new(identity, settings.port),
            changes: broadcast::channel(16).0,
            followers: Arc::new(Semaphore::new(12)),
            recheck_every: settings.recheck_every,
            stopped,
            form_key,
        });
        pages::setup::finish_what_was_begun(&app).await;
        tokio::spawn(crate::samples::watch_use(app.clone(), settings.sample_every));
        tokio::spawn(crate::samples::watch_events(app.clone()));
        tokio::spawn(daily(app.clone()));
        tokio::spawn(crate::unattended::take(app.clone()));
        Ok(app)
    }

    /// Answers.
    pub async fn handle(self: Arc<App>, request: Request) -> Response {
        if let Err(after) = self
            .limits
            .take(Bound::Requests, &request.peer.to_string(), Instant::now())
        {
            return Response::text(429, "Too many requests; wait a little.\n")
                .with(header::RETRY_AFTER, &after.to_string());
        }
        if let ["assets", name] = path(&request)[..] {
            return assets::answer(name);
        }
        if path(&request).first() == Some(&"api") {
            return api::answer(&self, &request).await;
        }
        let chosen = request.cookie(LANGUAGE).and_then(Lang::of);
        let lang = chosen.unwrap_or_else(|| Lang::accepted(request.header(header::ACCEPT_LANGUAGE)));
        if request.method == Method::GET
            && let Some(lang) = Lang::of(request.query.get("lang"))
        {
            let cookie = format!(
                "{LANGUAGE}={}; Path=/; Max-Age=31536000; Secure; HttpOnly; SameSite=Lax",
                lang.code()
            );
            return Response::see(&request.path).with(header::SET_COOKIE, &cookie);
        }
        let mut visit = match self.visit(request, lang).await {
            Ok(visit) => visit,
            Err(error) => return Response::text(500, format!("{error}\n")),
        };
        let posted = visit.request.method == Method::POST;
        let what = format!("{} {}", visit.request.method, visit.request.path);
        let who = visit.who();
        let answered = match self.admit(&visit) {
            Ok(()) => pages::route(&self, &mut visit).await,
            Err(refused) => Err(refused),
        };
        let mut told = std::mem::take(&mut visit.told);
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => {
                told = failure.to_string();
                self.failed(&visit, &failure)
            }
        };
        if posted {
            let who = match who.as_str() {
                "-" => visit.who(),
                _ => who,
            };
            if told.is_empty() {
                told = match response.status {
                    ..400 => "done".into(),
                    status => format!("refused ({status})"),
                };
            }
            let address = visit.request.peer.to_string();
            let record = Record {
                who,
                address,
                what,
                result: told,
            };
            let _ = self.store.with(move |db| db.record(&record)).await;
        }
        if visit.fresh {
            let cookie = format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict", visit.token);
            response = response.with(header::SET_COOKIE, &cookie);
        }
        response
    }

    async fn visit(&self, request: Request, lang: Lang) -> Result<Visit, Failure> {
        let sent = request
            .cookie(COOKIE)
            .filter(|token| secret::is_token(token))
            .map(str::to_owned);
        let (token, fresh) = match sent {
            Some(token) => (token, false),
            None => (secret::token()?, true),
        };
        let hash = secret::kept(&token);
        let (account, session) = self
            .store
            .with(move |db| Ok((db.account()?, db.session(&hash)?)))
            .await?;
        let form_token = secret::form_token(&self.form_key, &token);
        let trouble = self.store.trouble().await;
        let mut visit = Visit {
            request,
            lang,
            token,
            fresh,
            session,
            account,
            person: None,
            role: None,
            unsure: None,
            trouble,
            form_token,
            told: String::new(),
        };
        if let Some(uid) = visit.whose() {
            match self.directory.person(&uid).await {
                Ok(Some(person)) if !person.disabled => visit.person = Some(person),
                // Who was removed or closed is out at once.
                Ok(_) | Err(DirectoryError::None) => {
                    visit.session = None;
                    self.store
                        .with(move |db| db.end_other_sessions(Some(&uid), &[]))
                        .await?;
                }
                Err(error) => visit.unsure = Some(error),
            }
        }
        let full = visit
            .session
            .as_ref()
            .is_some_and(|session| session.level == Level::Full);
        visit.role = match (&visit.person, visit.whose()) {
            _ if !full => None,
            (Some(person), _) => Some(person.role()),
            (None, Some(_)) => None,
            (None, None) => visit.account.as_ref().map(|_| Role::Owner),
        };
        Ok(visit)
    }

    /// A change comes from a form of this panel that was made for this browser.
    fn admit(&self, visit: &Visit) -> Result<(), Failure> {
        let request = &visit.request;
        match request.method {
            Method::GET | Method::HEAD => return Ok(()),
            Method::POST => {}
            _ => return Err(Failure::Refused(405, "error.method")),
        }
        let (origin, host) = (request.header(header::ORIGIN), request.header(header::HOST));
        if !origin.is_empty() && origin.strip_prefix("https://") != Some(host) {
            return Err(Failure::Refused(403, "error.origin"));
        }
        if visit.fresh || !secret::same(request.form.get("form_token"), &visit.form_token) {
            return Err(Failure::Refused(403, "error.form"));
        }
        Ok(())
    }

    /// A page.
    pub(crate) fn page(&self, visit: &Visit, status: u16, template: &str, own: Value) -> Result<Response, Failure> {
        let said = visit.request.query.get("said");
        let said = Some(said).filter(|said| !said.is_empty() && self.view.knows(&format!("said.{said}")));
        let other: Vec<&str> = Lang::ALL
            .into_iter()
            .filter(|lang| *lang != visit.lang)
            .map(Lang::code)
            .collect();
        let form_token = secret::form_token(&self.form_key, &visit.token);
        let menu: Vec<_> = MENU
            .iter()
            .filter(|(path, _, role)| {
                visit.may(*role) && (!["/people", "/groups"].contains(path) || self.directory.exists())
            })
            .map(|(path, word, _)| (path, word))
            .collect();
        let base = values! {
            menu, role => visit.role.map(Role::as_str),
            lang => visit.lang.code(), other_lang => other.first(), form_token, path => visit.request.path,
            user => visit.logged_in().then(|| visit.who()), trouble => &visit.trouble, said,
            style => assets::style_path(), script => assets::script_path(),
        };
        let text = self.view.render(template, context! { ..own, ..base })?;
        Ok(Response::page(status, text))
    }

    /// The page that says why there is no other.
    fn failed(&self, visit: &Visit, failure: &Failure) -> Response {
        let (status, title, why) = match failure {
            Failure::Refused(status, key) => (*status, "error.refused", self.view.say(visit.lang, key, &[])),
            Failure::Control(error) if error.status() == 0 => (502, "error.away", error.to_string()),
            Failure::Control(error) => (error.status(), "error.manager", error.to_string()),
            Failure::Directory(DirectoryError::Away { .. }) => (503, "error.directory", failure.to_string()),
            Failure::Directory(DirectoryError::Gone | DirectoryError::None) => {
                (404, "error.refused", failure.to_string())
            }
            Failure::Directory(DirectoryError::Refused { code: 53 | 50 | 19, .. }) => {
                (409, "error.refused", failure.to_string())
            }
            Failure::Directory(DirectoryError::Taken(_)) => (409, "error.refused", failure.to_string()),
            Failure::Directory(_) => (502, "error.directory-refuses", failure.to_string()),
            Failure::Store(StoreError::Full) => (507, "error.full", failure.to_string()),
            other => (500, "error.broken", other.to_string()),
        };
        if status >= 500 {
            eprintln!("<4>{} {}: {failure}", visit.request.method, visit.request.path);
        }
        // The menu leads on to what works without the directory.
        let away = matches!(failure, Failure::Directory(DirectoryError::Away { .. })) && visit.logged_in();
        let template = if away { "directory-away.html" } else { "error.html" };
        let page = self.page(visit, status, template, values! { title, why, status });
        page.unwrap_or_else(|error| Response::text(500, format!("{failure}\n{error:#}\n")))
    }
}

/// A request's path, in parts.
pub(crate) fn path(request: &Request) -> Vec<&str> {
    request.parts.iter().map(String::as_str).collect()
}

/// Forgets what is over, and copies the store once a day.
async fn daily(app: Arc<App>) {
    loop {
        let done = app.store.with(|db| db.tidy().and_then(|()| db.copy())).await;
        if let Err(error) = done {
            eprintln!("<4>the daily copy of the store: {error}");
        }
        tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    }
}
