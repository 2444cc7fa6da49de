//! `imagegen keys`: keys that are the owner's.

use serde_json::json;

use super::Outcome;
use super::arguments::KeysAction;
use crate::image::secureboot;
use crate::report::{print, print_json};

pub(super) fn run(action: &KeysAction, json: bool) -> Outcome {
    let KeysAction::Secureboot { folder, name } = action;
    let created = secureboot::create(folder, name, jiff::Timestamp::now())?;
    if json {
        return print_json(&json!({
            "folder": folder, "owner": created.owner.to_string(), "certificates": created.certificates,
        }));
    }
    let mut text = String::new();
    for (variable, sha256) in &created.certificates {
        text.push_str(&format!("{variable}: certificate {sha256}\n"));
    }
    text.push_str(&format!(
        "The keys are in {}. Builds need db.key; move PK.key and KEK.key to where only you come, and keep copies of all three: without them \
         a machine that has taken these keys takes no others but in its firmware's menu.\n",
        folder.display()
    ));
    print(&text)
}
