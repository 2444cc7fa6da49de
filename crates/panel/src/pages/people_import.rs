//! People from a table: all of it, or nothing with a list of what is wrong.

use crate::app::{App, Failure, Visit};
use crate::directory::{Import, Problem};
use crate::http::Response;
use crate::view::values;

/// The form.
pub(super) fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    form(app, visit, 200, &[])
}

fn form(app: &App, visit: &Visit, status: u16, problems: &[Problem]) -> Result<Response, Failure> {
    let table = visit.request.form.get("table");
    app.page(visit, status, "people-import.html", values! { problems, table })
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
    let import = Import::read(table);
    let done = match import.problems.is_empty() {
        true => app.directory.import(import, &owners(visit)).await?,
        false => Err(import.problems),
    };
    match done {
        Ok(count) => {
            visit.told = format!("{count} people were imported");
            Ok(Response::see("/people?said=people-imported"))
        }
        Err(problems) => {
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
