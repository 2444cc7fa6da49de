//! The diagnosis, and the file for somebody who helps.

use crate::app::{App, Failure, Visit};
use crate::bundle;
use crate::diagnosis::{Mood, ask, diagnose};
use crate::http::Response;
use crate::view::values;

/// The page.
pub(super) async fn diagnosis(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let found = diagnose(&ask(app).await);
    let count = |mood: Mood| found.iter().filter(|finding| finding.mood == mood).count();
    let (bad, warn) = (count(Mood::Bad), count(Mood::Warn));
    let findings: Vec<_> = found.iter().map(|finding| finding.say(&app.view, visit.lang)).collect();
    app.page(visit, 200, "diagnosis.html", values! { findings, bad, warn })
}

/// The file.
pub(super) async fn support(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let made = bundle::make(app).await?;
    eprintln!(
        "<5>audit: {} ({}): took a support bundle",
        visit.who(),
        visit.request.peer
    );
    Ok(bundle::response(made))
}
