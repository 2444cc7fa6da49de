//! What the panel answers itself: people, groups, the diagnosis, the audit log.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::routes::Own;
use crate::app::{App, Failure};
use crate::diagnosis;
use crate::directory::{ADMINISTRATORS, Card, DirectoryError, Problem, group_name};
use crate::http::Request;
use crate::importing::{self, Imported};
use crate::pages;
use crate::words::Lang;

/// A status, and what is said.
type Answer = Result<(u16, Value), Failure>;

/// What is written of a person.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PersonIn {
    uid: String,
    given: String,
    surname: String,
    mail: String,
    aliases: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupIn {
    name: String,
    #[serde(default)]
    description: String,
}

fn read<T: DeserializeOwned>(request: &Request) -> Result<T, (u16, Value)> {
    serde_json::from_slice(&request.body).map_err(|error| {
        (
            400,
            json!({ "error": format!("the body is not what was expected: {error}") }),
        )
    })
}

fn wrong(app: &App, field: &str, key: &str) -> (u16, Value) {
    let error = app.view.say(Lang::En, key, &[]);
    (400, json!({ "error": error, "field": field }))
}

fn card(app: &App, uid: &str, person: &PersonIn) -> Result<Card, (u16, Value)> {
    let card = Card::new(
        uid,
        &person.given,
        &person.surname,
        &person.mail,
        &person.aliases.join(" "),
    );
    card.map_err(|(field, key)| wrong(app, field, key))
}

fn problems(app: &App, problems: &[Problem]) -> (u16, Value) {
    let all: Vec<Value> = problems
        .iter()
        .map(|problem| {
            let why = app.view.say(Lang::En, problem.why, &[]);
            json!({ "line": problem.line, "column": problem.column, "value": problem.value, "error": why })
        })
        .collect();
    (
        400,
        json!({ "error": "nothing was imported: the table is wrong", "problems": all }),
    )
}

/// The status for what the directory refuses.
pub(super) fn status(error: &DirectoryError) -> u16 {
    match error {
        DirectoryError::None | DirectoryError::Gone => 404,
        DirectoryError::Taken(_) | DirectoryError::Refused { .. } => 409,
        DirectoryError::Away { .. } | DirectoryError::File { .. } => 503,
    }
}

/// Does what a route says; `values` are the parts of the path that stand in braces.
pub(super) async fn answer(app: &App, own: Own, request: &Request, values: &[&str], who: &str) -> Answer {
    let directory = &app.directory;
    let first = values.first().copied().unwrap_or_default();
    let done = (200, json!({}));
    Ok(match own {
        Own::People => (
            200,
            json!({ "people": directory.people(request.query.get("search")).await? }),
        ),
        Own::AddPerson => {
            let person: PersonIn = match read(request) {
                Ok(person) => person,
                Err(refused) => return Ok(refused),
            };
            let card = match card(app, &person.uid, &person) {
                Ok(card) => card,
                Err(refused) => return Ok(refused),
            };
            if owners(app).await?.contains(&card.uid) {
                return Ok(wrong(app, "uid", "wrong.uid-owner"));
            }
            directory.add_person(&card).await?;
            (201, json!({ "uid": card.uid }))
        }
        Own::EditPerson => {
            let person: PersonIn = match read(request) {
                Ok(person) => person,
                Err(refused) => return Ok(refused),
            };
            match card(app, first, &person) {
                Ok(card) if card.uid == first && [first, ""].contains(&person.uid.as_str()) => {
                    directory.edit_person(&card).await?;
                    done
                }
                Ok(_) => (
                    400,
                    json!({ "error": "a person's login name stays what it is", "field": "uid" }),
                ),
                Err(refused) => refused,
            }
        }
        Own::Import => {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            let who = (who.to_owned(), request.peer.to_string());
            match importing::import(app, text, owners(app).await?, who).await? {
                Imported::Made(count) => (201, json!({ "made": count })),
                Imported::GoesOn(count) => (202, json!({ "making": count })),
                Imported::Wrong(found) => problems(app, &found),
            }
        }
        Own::Person => (200, json!(directory.person(first).await?.ok_or(DirectoryError::Gone)?)),
        Own::RemovePerson => {
            directory.remove_person(first).await?;
            let uid = first.to_owned();
            app.store.with(move |db| db.forget_person(&uid)).await?;
            done
        }
        Own::Disable | Own::Enable => {
            directory.disable_person(first, own == Own::Disable).await?;
            let uid = first.to_owned();
            if own == Own::Disable {
                app.store.with(move |db| db.end_other_sessions(Some(&uid), &[])).await?;
            }
            done
        }
        Own::Reset => {
            directory.person(first).await?.ok_or(DirectoryError::Gone)?;
            (
                201,
                json!({ "code": pages::make_code(app, first).await?, "at": "/reset" }),
            )
        }
        Own::TotpOff | Own::PasskeysOff => {
            let uid = directory.person(first).await?.ok_or(DirectoryError::Gone)?.uid;
            if own == Own::TotpOff {
                app.store.with(move |db| db.set_person_totp(&uid, None, 0)).await?;
            } else {
                app.store.with(move |db| db.end_passkeys(Some(&uid))).await?;
                // Else they would come back with the copy.
                let _ = app.store.with(|db| db.copy()).await;
            }
            done
        }
        Own::Groups => (200, json!({ "groups": directory.groups().await? })),
        Own::AddGroup => {
            let group: GroupIn = match read(request) {
                Ok(group) => group,
                Err(refused) => return Ok(refused),
            };
            let name = match group_name(&group.name) {
                Ok(name) => name,
                Err(key) => return Ok(wrong(app, "name", key)),
            };
            let plain = group.description.chars().filter(|c| !c.is_control()).take(200);
            directory.add_group(&name, plain.collect::<String>().trim()).await?;
            (201, json!({ "name": name }))
        }
        Own::Group => (200, json!(directory.group(first).await?.ok_or(DirectoryError::Gone)?)),
        Own::RemoveGroup => {
            directory.remove_group(first).await?;
            done
        }
        Own::AddMember | Own::DropMember => {
            let uid = values.get(1).copied().unwrap_or_default();
            directory.set_member(first, uid, own == Own::AddMember).await?;
            if own == Own::AddMember && first.eq_ignore_ascii_case(ADMINISTRATORS) {
                let uid = uid.to_owned();
                app.store.with(move |db| db.end_resets(&uid)).await?;
            }
            done
        }
        Own::Diagnosis => {
            let found = diagnosis::diagnose(&diagnosis::ask(app).await);
            let said: Vec<_> = found.iter().map(|finding| finding.say(&app.view, Lang::En)).collect();
            (200, json!({ "findings": said }))
        }
        // Answered before.
        Own::LookUp | Own::Logs | Own::Support => (404, json!({ "error": "there is nothing here" })),
        Own::Audit => (200, json!({ "entries": app.store.with(|db| db.audit(500)).await? })),
    })
}

/// Names that nobody of the directory may have.
async fn owners(app: &App) -> Result<Vec<String>, Failure> {
    let account = app.store.with(|db| db.account()).await?;
    Ok(account.iter().map(|account| account.name.to_lowercase()).collect())
}
