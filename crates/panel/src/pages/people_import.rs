//! People from a table: all of it, or nothing with a list of what is wrong.

use crate::app::{App, Failure, Visit};
use crate::directory::Problem;
use crate::http::Response;
use crate::importing::{self, Imported};
use crate::view::values;

/// So many wrong places are shown.
const SHOWN: usize = 200;
/// The longest table that was pasted and is shown again, in bytes.
const AGAIN: usize = 256 << 10;

/// The form, and how far an import is that goes on.
pub(super) fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    form(app, visit, 200, &[])
}

fn form(app: &App, visit: &Visit, status: u16, problems: &[Problem]) -> Result<Response, Failure> {
    let table = Some(visit.request.form.get("table")).filter(|table| table.len() <= AGAIN);
    let big = visit.request.query.get("wrong") == "big";
    let running = app.importing.progress();
    let (mut made, mut failed, mut found) = (None, None, problems.to_vec());
    match app.importing.last() {
        Some(Ok(Ok(count))) => made = Some(count),
        Some(Ok(Err(problems))) if found.is_empty() => found = problems,
        Some(Err(error)) => failed = Some(error.to_string()),
        _ => {}
    }
    let count = found.len();
    found.truncate(SHOWN);
    app.page(
        visit,
        status,
        "people-import.html",
        values! { problems => found, count, shown => SHOWN, table, big, running, made, failed },
    )
}

/// Takes a table, from a file or as it was pasted.
pub(super) async fn import(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let form_values = &visit.request.form;
    let file = form_values.get("file");
    let table = if file.trim().is_empty() {
        form_values.get("table")
    } else {
        file
    };
    let who = (visit.who(), visit.request.peer.to_string());
    match importing::import(app, table.to_owned(), owners(visit), who).await? {
        Imported::Made(count) => {
            visit.told = format!("{count} people were imported");
            Ok(Response::see("/people?said=people-imported"))
        }
        Imported::GoesOn(count) => {
            visit.told = format!("the import of {count} people was begun");
            Ok(Response::see("/people-import"))
        }
        Imported::Wrong(problems) => {
            visit.told = format!("nothing was imported: {} rows are wrong", problems.len());
            form(app, visit, 400, &problems)
        }
    }
}

/// Names that nobody of the directory may have.
fn owners(visit: &Visit) -> Vec<String> {
    visit
        .account
        .iter()
        .map(|account| account.name.to_lowercase())
        .collect()
}
