//! Streams for the browser: that something changed, and a unit's log.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::mpsc;

use crate::app::{App, Failure, Visit};
use crate::control::encode;
use crate::http::Response;
use crate::roles::Role;

/// A line now and then keeps the connection, and finds out that a browser has gone.
const PULSE: Duration = Duration::from_secs(20);

/// An event whenever something on a page may be another; the browser then asks for its page again.
pub(super) async fn changes(app: &Arc<App>, visit: &Visit) -> Result<Response, Failure> {
    if !visit.logged_in() && !super::setup::is_at_work(app, visit).await? {
        // A page that was open when its session ended asks once more. To this answer a browser neither asks again nor complains
        // (HTML, "Server-sent events").
        return Ok(Response::text(204, ""));
    }
    let place = app.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| Failure::Refused(503, "error.followers"))?;
    let (to, parts) = mpsc::channel(4);
    let (mut changes, mut stopped) = (app.changes.subscribe(), app.stopped.clone());
    let lost = app.clone().lost(visit);
    tokio::spawn(async move {
        let _place = place;
        let mut lost = pin!(lost);
        let mut next = Bytes::from_static(b"retry: 3000\n\n");
        while to.send(next).await.is_ok() {
            next = tokio::select! {
                // Lagging is no loss: one event says as much as many.
                _ = changes.recv() => Bytes::from_static(b"event: change\ndata:\n\n"),
                () = tokio::time::sleep(PULSE) => Bytes::from_static(b":\n\n"),
                () = to.closed() => return,
                () = &mut lost => return,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
        }
    });
    Ok(Response::events(parts))
}

/// The address of a unit's log at the manager.
pub(super) fn log_path(unit: &str, search: &str, lines: u32, follow: bool) -> String {
    let mut path = format!("/v1/logs?unit={}&lines={lines}&output=short", encode(unit));
    if !search.is_empty() {
        path += &format!("&grep={}", encode(search));
    }
    if follow {
        path += "&follow=1";
    }
    path
}

/// New lines of a unit's log, as they come.
pub(super) async fn log(app: &Arc<App>, visit: &Visit, unit: &str) -> Result<Response, Failure> {
    let place = app.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| Failure::Refused(503, "error.followers"))?;
    let mut lines = app
        .control
        .lines(&log_path(unit, visit.request.query.get("search"), 0, true))
        .await?;
    let (to, parts) = mpsc::channel(16);
    let mut stopped = app.stopped.clone();
    let lost = app.clone().lost(visit);
    tokio::spawn(async move {
        let _place = place;
        let mut lost = pin!(lost);
        let mut next = Some(Bytes::from_static(b"retry: 3000\n\n"));
        while let Some(part) = next {
            if to.send(part).await.is_err() {
                return;
            }
            next = tokio::select! {
                line = lines.recv() => line.map(|line| format!("data: {}\n\n", line.replace('\r', " ")).into()),
                () = tokio::time::sleep(PULSE) => Some(Bytes::from_static(b":\n\n")),
                () = to.closed() => return,
                () = &mut lost => return,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
        }
    });
    Ok(Response::events(parts))
}

impl App {
    /// Returns when who asked may no longer see what streams show: their session ended, or they are no administrator any more. An open
    /// page does not count as use of its session. For the setup, which has no session yet, it never returns.
    fn lost(self: Arc<App>, visit: &Visit) -> impl Future<Output = ()> + use<> {
        let (own, whose, known) = (visit.kept(), visit.whose(), visit.logged_in());
        async move {
            while !known || self.may_follow(own, whose.clone()).await {
                tokio::time::sleep(self.recheck_every).await;
            }
        }
    }

    async fn may_follow(&self, own: [u8; 32], whose: Option<String>) -> bool {
        let of = whose.clone();
        let sessions = self.store.with(move |db| db.sessions(of.as_deref())).await;
        let holds = sessions.is_ok_and(|all| all.iter().any(|one| one.hash == own));
        holds
            && match whose {
                None => true,
                Some(uid) => match self.directory.person(&uid).await {
                    Ok(Some(person)) => !person.disabled && person.role() >= Role::Administrator,
                    _ => false,
                },
            }
    }
}
