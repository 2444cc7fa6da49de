//! Streams for the browser: that something changed, and a unit's log.

use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::mpsc;

use crate::app::{App, Failure, Visit};
use crate::control::encode;
use crate::http::Response;

/// A line now and then keeps the connection, and finds out that a browser has gone.
const PULSE: Duration = Duration::from_secs(20);

/// An event whenever something on a page may be another; the browser then asks for its page again.
pub(super) async fn changes(app: &App, visit: &Visit) -> Result<Response, Failure> {
    if !visit.logged_in() && !super::setup::is_at_work(app, visit).await? {
        return Err(Failure::Refused(401, "error.login"));
    }
    let place = app.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| Failure::Refused(503, "error.followers"))?;
    let (to, parts) = mpsc::channel(4);
    let (mut changes, mut stopped) = (app.changes.subscribe(), app.stopped.clone());
    tokio::spawn(async move {
        let _place = place;
        let mut next = Bytes::from_static(b"retry: 3000\n\n");
        while to.send(next).await.is_ok() {
            next = tokio::select! {
                // Lagging is no loss: one event says as much as many.
                _ = changes.recv() => Bytes::from_static(b"event: change\ndata:\n\n"),
                () = tokio::time::sleep(PULSE) => Bytes::from_static(b":\n\n"),
                () = to.closed() => return,
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
pub(super) async fn log(app: &App, visit: &Visit, unit: &str) -> Result<Response, Failure> {
    let place = app.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| Failure::Refused(503, "error.followers"))?;
    let mut lines = app
        .control
        .lines(&log_path(unit, visit.request.query.get("search"), 0, true))
        .await?;
    let (to, parts) = mpsc::channel(16);
    let mut stopped = app.stopped.clone();
    tokio::spawn(async move {
        let _place = place;
        let mut next = Some(Bytes::from_static(b"retry: 3000\n\n"));
        while let Some(part) = next {
            if to.send(part).await.is_err() {
                return;
            }
            next = tokio::select! {
                line = lines.recv() => line.map(|line| format!("data: {}\n\n", line.replace('\r', " ")).into()),
                () = tokio::time::sleep(PULSE) => Some(Bytes::from_static(b":\n\n")),
                () = to.closed() => return,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
        }
    });
    Ok(Response::events(parts))
}
