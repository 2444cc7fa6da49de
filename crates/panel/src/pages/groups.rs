//! Groups: the list, and a page for each with its members.

use super::people;
use crate::app::{App, Failure, Visit};
use crate::directory::{ADMINISTRATORS, DirectoryError, group_name};
use crate::http::Response;
use crate::view::values;

/// The list, with the form for another one.
pub(super) async fn list(app: &App, visit: &Visit, status: u16, wrong: Option<&str>) -> Result<Response, Failure> {
    let groups = app.directory.groups().await?;
    let (name, description) = (visit.request.form.get("name"), visit.request.form.get("description"));
    app.page(
        visit,
        status,
        "groups.html",
        values! { groups, wrong, name, description },
    )
}

/// Makes a group.
pub(super) async fn add(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let form = visit.request.form.clone();
    let name = match group_name(form.get("name")) {
        Ok(name) => name,
        Err(why) => return list(app, visit, 400, Some(why)).await,
    };
    let description: String = form
        .get("description")
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    match app.directory.add_group(&name, &description).await {
        Err(DirectoryError::Taken(_)) => return list(app, visit, 409, Some("wrong.group-taken")).await,
        other => other?,
    }
    visit.told = format!("the group {name} was made");
    Ok(Response::see(&format!("/groups/{name}?said=group-made")))
}

/// A group's page.
pub(super) async fn show(app: &App, visit: &Visit, name: &str) -> Result<Response, Failure> {
    let group = app.directory.group(name).await?.ok_or(DirectoryError::Gone)?;
    let people = app.directory.people("").await?;
    let (members, others): (Vec<_>, Vec<_>) = people
        .into_iter()
        .partition(|person| group.members.contains(&person.uid));
    let special = group.name == ADMINISTRATORS;
    app.page(visit, 200, "group.html", values! { group, members, others, special })
}

/// Takes somebody in, lets somebody go, or removes the group.
pub(super) async fn act(app: &App, visit: &mut Visit, name: &str, verb: &str) -> Result<Response, Failure> {
    let form = visit.request.form.clone();
    let uid = form.get("uid");
    // The directory takes names in any case; from here on they are written as it has them.
    let group = app.directory.group(name).await?.ok_or(DirectoryError::Gone)?;
    let special = group.name == ADMINISTRATORS;
    if special && ["add", "drop"].contains(&verb) {
        let person = people::found(app, uid).await?;
        if verb == "drop" && !people::may_decide_on(visit, &person) {
            return Err(match visit.whose().as_deref() == Some(uid) {
                // Who takes the own right away could not give it back.
                true => Failure::Refused(409, "error.self"),
                false => Failure::Refused(403, "error.administrators"),
            });
        }
    }
    match verb {
        "remove" if form.get("sure") != name => return Err(Failure::Refused(400, "error.sure")),
        "remove" => {
            app.directory.remove_group(name).await?;
            visit.told = format!("the group {name} was removed");
            return Ok(Response::see("/groups?said=group-removed"));
        }
        _ => app.directory.set_member(name, uid, verb == "add").await?,
    }
    if special && verb == "add" {
        // Whoever made a code for the person before could take over an administrator's account by it.
        let uid = uid.to_owned();
        app.store.with(move |db| db.end_resets(&uid)).await?;
    }
    visit.told = format!("{verb} {uid}: {name}");
    let back = match form.get("back") {
        "person" => format!("/people/{uid}"),
        _ => format!("/groups/{name}"),
    };
    Ok(Response::see(&format!("{back}?said=group-changed")))
}
