//! Tables of people: their size, and the import beside the request that began it, since a directory takes its time for thousands.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::{self, HeaderMap};
use hyper::{Method, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::app::{self, App, Failure};
use crate::directory::{DirectoryError, Import, Problem};
use crate::http::cookie;
use crate::secret;
use crate::store::{Level, Record, Scope, StoreError};

/// The most bytes of a table.
pub(crate) const TABLE_MAX: usize = 4 << 20;
/// What may stand around it in a form.
const AROUND: usize = 64 << 10;
/// How long a table waits for its place.
const WAIT: Duration = Duration::from_secs(15);

/// How an import ended.
pub(crate) type Ended = Result<Result<usize, Vec<Problem>>, DirectoryError>;

/// What came of an import while its request waited.
#[derive(Debug)]
pub(crate) enum Imported {
    /// So many people were made.
    Made(usize),
    /// Nobody was: this is wrong.
    Wrong(Vec<Problem>),
    /// So many are being made.
    GoesOn(usize),
}

/// The import that is under way, and the end of the last one for which nobody waited.
#[derive(Debug)]
pub(crate) struct Importing {
    state: Mutex<State>,
    /// How long a request waits for its import before it answers that the import goes on.
    wait: Duration,
    /// A table is a few times in memory while it is read: one at a time.
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<(Arc<AtomicUsize>, usize)>,
    last: Option<Ended>,
}

impl Importing {
    /// None so far.
    pub(crate) fn new(wait: Duration) -> Importing {
        Importing {
            state: Mutex::default(),
            wait,
            places: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Ends the import's place however it ends.
#[derive(Debug)]
struct Running(Arc<Importing>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.with(|state| state.running = None);
    }
}

impl Importing {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Begins an import of so many; `None` if one is under way.
    fn begin(self: &Arc<Importing>, total: usize) -> Option<(Running, Arc<AtomicUsize>)> {
        self.with(|state| {
            let done = Arc::new(AtomicUsize::new(0));
            if state.running.is_some() {
                return None;
            }
            *state = State {
                running: Some((done.clone(), total)),
                last: None,
            };
            Some((Running(self.clone()), done))
        })
    }

    /// How many of how many are made, if an import is under way.
    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        self.with(|state| {
            let (done, total) = state.running.as_ref()?;
            Some((done.load(Ordering::Relaxed), *total))
        })
    }

    /// How the last import ended, if its request did not wait for that.
    pub(crate) fn last(&self) -> Option<Ended> {
        self.with(|state| state.last.clone())
    }
}

/// Makes everybody who stands in a table, or nobody. `others` are names that nobody may have; `who` is noted if the import outlasts its request.
///
/// # Errors
/// If an import is under way, or the directory is away or refuses.
pub(crate) async fn import(
    app: &App,
    table: String,
    others: Vec<String>,
    (who, address): (String, String),
) -> Result<Imported, Failure> {
    // Passwords are judged, which takes a while.
    let read = tokio::task::spawn_blocking(move || Import::read(&table)).await;
    let mut import = read.map_err(|_| StoreError::Broken)?;
    if !import.problems.is_empty() {
        // What can be told without the directory is told if it is away, too.
        if !import.is_empty()
            && let Err(error) = app.directory.compare(&mut import, &others).await
        {
            eprintln!("<5>a table with mistakes was not compared with the directory: {error}");
        }
        return Ok(Imported::Wrong(import.problems));
    }
    let total = import.len();
    let begun = app.importing.begin(total);
    let (running, done) = begun.ok_or(Failure::Refused(409, "error.importing"))?;
    let (directory, store, importing, changes) = (
        app.directory.clone(),
        app.store.clone(),
        app.importing.clone(),
        app.changes.clone(),
    );
    let (to, ended) = oneshot::channel::<Ended>();
    tokio::spawn(async move {
        let ended = directory.import(import, &others, &done).await;
        drop(running);
        // Nobody waits any more: it is kept for the page, and for the audit log.
        if let Err(ended) = to.send(ended) {
            let result = told(&ended);
            importing.with(|state| state.last = Some(ended));
            let what = "the import of a table".to_owned();
            let record = Record {
                who,
                address,
                what,
                result,
            };
            let _ = store.with(move |db| db.record(&record)).await;
            let _ = changes.send(());
        }
    });
    match timeout(app.importing.wait, ended).await {
        Err(_) => Ok(Imported::GoesOn(total)),
        Ok(Err(_)) => Err(StoreError::Broken.into()),
        Ok(Ok(ended)) => Ok(match ended? {
            Ok(made) => Imported::Made(made),
            Err(problems) => Imported::Wrong(problems),
        }),
    }
}

/// For the audit log.
fn told(ended: &Ended) -> String {
    match ended {
        Ok(Ok(made)) => format!("{made} people were imported"),
        Ok(Err(problems)) => format!("nothing was imported: {} rows are wrong", problems.len()),
        Err(error) => format!("nothing was imported: {error}"),
    }
}

/// How much a request's body may have.
#[derive(Debug)]
pub(crate) enum Room {
    /// As much as any.
    Usual,
    /// A table, of who may bring one.
    Table {
        /// Its place, until it is answered.
        _place: OwnedSemaphorePermit,
    },
    /// A table, while another one is read.
    Busy,
}

impl Room {
    /// Bytes, if the usual is this.
    pub(crate) fn max(&self, usual: usize) -> usize {
        match self {
            Room::Table { .. } => TABLE_MAX + AROUND,
            Room::Usual | Room::Busy => usual,
        }
    }
}

/// Whether a request is the import of a table; by the API, if the second is true.
pub(crate) fn is_import(method: &Method, uri: &Uri) -> (bool, bool) {
    let (post, api) = (*method == Method::POST, uri.path() == "/api/v1/people/import");
    (post && (api || uri.path() == "/people-import"), api)
}

/// Looks at a request's head, before anything of its body is kept: only who is logged in, or has a token that may import, brings a table.
pub(crate) async fn room(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap, usual: usize) -> Room {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let small = length
        .and_then(|text| text.parse().ok())
        .is_some_and(|length: usize| length <= usual);
    let (import, api) = is_import(method, uri);
    if !import || small {
        return Room::Usual;
    }
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
    };
    let sent = match api {
        true => text(header::AUTHORIZATION)
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim),
        false => cookie(headers, app::COOKIE).filter(|token| secret::is_token(token)),
    };
    let Some(hash) = sent.map(secret::kept) else {
        return Room::Usual;
    };
    let known = app.store.with(move |db| {
        Ok(match api {
            true => db.token(&hash)?.is_some_and(|token| token.scope >= Scope::Own),
            false => db.session(&hash)?.is_some_and(|session| session.level == Level::Full),
        })
    });
    match known.await {
        Ok(true) => match timeout(WAIT, app.importing.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Room::Table { _place: place },
            _ => Room::Busy,
        },
        _ => Room::Usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_import_goes_on_at_a_time_and_its_place_is_free_however_it_ends() {
        let importing = Arc::new(Importing::new(WAIT));
        let (running, done) = importing.begin(3).unwrap();
        done.fetch_add(2, Ordering::Relaxed);
        assert_eq!(importing.progress(), Some((2, 3)));
        assert!(importing.begin(1).is_none());
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _running = running;
            panic!("the import broke");
        }));
        assert!(broken.is_err());
        assert_eq!(importing.progress(), None);
        importing.with(|state| state.last = Some(Ok(Ok(3))));
        assert_eq!(importing.last(), Some(Ok(Ok(3))));
        // What was is not told of what is.
        let _running = importing.begin(1).unwrap();
        assert_eq!(importing.last(), None);
    }
}
