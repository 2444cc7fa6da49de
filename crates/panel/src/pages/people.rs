//! People: the list, and a page for each.

use crate::app::{App, Failure, Visit};
use crate::directory::{ADMINISTRATORS, Card, DirectoryError, Group, Person};
use crate::http::Response;
use crate::roles;
use crate::secret;
use crate::view::values;

/// So many are shown; a search finds the others.
const SHOWN: usize = 200;

/// What is wrong with a form: the field, and the key of the sentence.
type Wrong = (&'static str, &'static str);

/// The list.
pub(super) async fn list(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let search = visit.request.query.get("search");
    let mut people = app.directory.people(search).await?;
    let count = people.len();
    people.truncate(SHOWN);
    let owner = visit.account.as_ref().map(|account| &account.name);
    app.page(
        visit,
        200,
        "people.html",
        values! { people, count, shown => SHOWN, search, owner },
    )
}

fn card(visit: &Visit, uid: &str) -> Result<Card, Wrong> {
    let form = &visit.request.form;
    Card::new(
        uid,
        form.get("given"),
        form.get("surname"),
        form.get("mail"),
        form.get("aliases"),
    )
}

/// The field that somebody else has already.
fn taken(error: DirectoryError) -> Result<Wrong, Failure> {
    match error {
        DirectoryError::Taken("uid") => Ok(("uid", "wrong.uid-taken")),
        DirectoryError::Taken("mail") => Ok(("mail", "wrong.mail-taken")),
        other => Err(other.into()),
    }
}

/// What is typed again where something in it is wrong.
fn typed(visit: &Visit, uid: &str) -> Person {
    let form = &visit.request.form;
    let text = |name: &str| form.get(name).to_owned();
    Person {
        uid: uid.to_owned(),
        given: text("given"),
        surname: text("surname"),
        mail: text("mail"),
        aliases: vec![text("aliases")],
        ..Person::default()
    }
}

/// The form for somebody new.
pub(super) async fn show_new(app: &App, visit: &Visit) -> Result<Response, Failure> {
    app.directory.answers().await?;
    new_form(app, visit, 200, None)
}

fn new_form(app: &App, visit: &Visit, status: u16, wrong: Option<Wrong>) -> Result<Response, Failure> {
    let (field, why) = wrong.unzip();
    let person = typed(visit, visit.request.form.get("uid"));
    app.page(visit, status, "person-new.html", values! { person, field, why })
}

/// Makes somebody.
pub(super) async fn add(app: &App, visit: &mut Visit) -> Result<Response, Failure> {
    let card = match card(visit, visit.request.form.get("uid")) {
        Ok(card) => card,
        Err(wrong) => return new_form(app, visit, 400, Some(wrong)),
    };
    if visit
        .account
        .as_ref()
        .is_some_and(|account| account.name.to_lowercase() == card.uid)
    {
        return new_form(app, visit, 409, Some(("uid", "wrong.uid-owner")));
    }
    if let Err(error) = app.directory.add_person(&card).await {
        let wrong = taken(error)?;
        return new_form(app, visit, 409, Some(wrong));
    }
    visit.told = format!("the person {} was made", card.uid);
    Ok(Response::see(&format!("/people/{}?said=person-made", card.uid)))
}

pub(super) async fn found(app: &App, uid: &str) -> Result<Person, Failure> {
    Ok(app.directory.person(uid).await?.ok_or(DirectoryError::Gone)?)
}

/// Somebody's page.
pub(super) async fn show(app: &App, visit: &Visit, uid: &str) -> Result<Response, Failure> {
    let person = found(app, uid).await?;
    page(app, visit, 200, person, None, None).await
}

async fn page(
    app: &App,
    visit: &Visit,
    status: u16,
    person: Person,
    wrong: Option<Wrong>,
    code: Option<String>,
) -> Result<Response, Failure> {
    let (field, why) = wrong.unzip();
    let groups: Vec<Group> = app.directory.groups().await?;
    let others: Vec<&String> = groups
        .iter()
        .map(|group| &group.name)
        .filter(|name| !person.groups.contains(name))
        .collect();
    let uid = person.uid.clone();
    let (totp, passkeys) = app
        .store
        .with(move |db| Ok((db.person_totp(&uid)?.is_some(), db.passkeys(Some(&uid))?.len())))
        .await?;
    let link = code
        .as_ref()
        .map(|code| format!("https://{}/reset#{code}", visit.request.header("host")));
    let own = visit.whose().as_ref() == Some(&person.uid);
    let (decide, administrators) = (may_decide_on(visit, &person), ADMINISTRATORS);
    let values = values! { person, others, totp, passkeys, field, why, code, link, own, decide, administrators };
    app.page(visit, status, "person.html", values)
}

/// Writes what is known of somebody.
pub(super) async fn edit(app: &App, visit: &mut Visit, uid: &str) -> Result<Response, Failure> {
    let person = found(app, uid).await?;
    let again = |visit: &Visit| Person {
        groups: person.groups.clone(),
        disabled: person.disabled,
        has_password: person.has_password,
        name: person.name.clone(),
        ..typed(visit, uid)
    };
    let card = match card(visit, uid) {
        Ok(card) => card,
        Err(wrong) => return page(app, visit, 400, again(visit), Some(wrong), None).await,
    };
    if let Err(error) = app.directory.edit_person(&card).await {
        let wrong = taken(error)?;
        return page(app, visit, 409, again(visit), Some(wrong), None).await;
    }
    visit.told = format!("the person {uid} was changed");
    Ok(Response::see(&format!("/people/{uid}?said=person-changed")))
}

/// Whether who asks may close, open or hand over this person's account.
pub(super) fn may_decide_on(visit: &Visit, person: &Person) -> bool {
    visit.role.is_some_and(|role| roles::may_decide_on(role, person.role()))
}

/// Closes or opens an account, makes a code for a password, ends the authenticator or passkeys, removes somebody.
pub(super) async fn act(app: &App, visit: &mut Visit, uid: &str, verb: &str) -> Result<Response, Failure> {
    let person = found(app, uid).await?;
    let (uid, name) = (person.uid.clone(), person.uid.clone());
    if matches!(verb, "disable" | "remove") && visit.whose().as_ref() == Some(&uid) {
        return Err(Failure::Refused(409, "error.self"));
    }
    if !may_decide_on(visit, &person) {
        return Err(Failure::Refused(403, "error.administrators"));
    }
    let said = match verb {
        "disable" => {
            app.directory.disable_person(&uid, true).await?;
            app.store
                .with(move |db| db.end_other_sessions(Some(&name), &[]))
                .await?;
            "person-disabled"
        }
        "enable" => {
            app.directory.disable_person(&uid, false).await?;
            "person-enabled"
        }
        "totp-off" => {
            app.store.with(move |db| db.set_person_totp(&name, None, 0)).await?;
            "person-totp-off"
        }
        "passkeys-off" => {
            app.store.with(move |db| db.end_passkeys(Some(&name))).await?;
            // Else they would come back with the copy.
            let _ = app.store.with(|db| db.copy()).await;
            "person-passkeys-off"
        }
        "reset" => {
            let code = make_code(app, &uid).await?;
            visit.told = format!("a code for the password of {uid} was made");
            return page(app, visit, 200, person, None, Some(code)).await;
        }
        "remove" if visit.request.form.get("sure") != uid => return Err(Failure::Refused(400, "error.sure")),
        "remove" => {
            app.directory.remove_person(&uid).await?;
            app.store.with(move |db| db.forget_person(&name)).await?;
            visit.told = format!("the person {uid} was removed");
            return Ok(Response::see("/people?said=person-removed"));
        }
        _ => return Err(Failure::Refused(404, "error.nothing-here")),
    };
    visit.told = format!("{verb}: {uid}");
    Ok(Response::see(&format!("/people/{uid}?said={said}")))
}

/// A code by which a person sets a password.
pub(crate) async fn make_code(app: &App, uid: &str) -> Result<String, Failure> {
    let code = secret::reset_code()?;
    let (hash, uid) = (secret::kept_recovery(&code), uid.to_owned());
    app.store.with(move |db| db.make_reset(&uid, hash)).await?;
    Ok(code)
}
