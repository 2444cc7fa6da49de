//! `imagegen check`: everything that can be known without fetching or building.

use std::path::PathBuf;

use cairn_unit::Name;
use serde_json::json;

use super::Outcome;
use super::arguments::Check;
use super::project;
use crate::project::Project;
use crate::report::{print, print_json};
use crate::resolve::Lock;
use crate::tree::{OverlaySet, Rules, Tree, TreeError, lay_overlays};

pub(super) fn run(options: &Check, json: bool) -> Outcome {
    let arch = project::arch(options.arch)?;
    let project = project::load(&options.recipe.recipe, arch)?;
    let text = &project.text;
    Rules::new(&text.recipe.exclude)?;
    let host: Vec<_> = text
        .recipe
        .host
        .overlays
        .iter()
        .map(|name| text.overlay(name.as_str()))
        .collect();
    let mut overlays = overlays(text, "host", &host)?;
    for (name, unit) in &project.units {
        overlays += self::overlays(text, name.as_str(), &text.overlays(name, unit))?;
    }
    let recipe = options.recipe.recipe.display();
    let lock = if project.lock_file.exists() {
        let lock = Lock::read(&project.lock_file)?;
        if !lock.is_current(&project.request) {
            let path = project.lock_file.display();
            return Err(format!(
                "the lock {path} was made from other packages than {recipe} and its units now name: run `imagegen lock {recipe}`"
            )
            .into());
        }
        "current"
    } else {
        "absent"
    };
    if json {
        let order: Vec<&str> = text.graph.order.iter().map(Name::as_str).collect();
        return print_json(
            &json!({ "recipe": options.recipe.recipe, "units": order, "overlays": overlays, "lock": lock }),
        );
    }
    let order: Vec<&str> = text.graph.order.iter().map(Name::as_str).collect();
    print(&format!(
        "{recipe}: {} units, in start order: {}\noverlays: {overlays}, no file claimed twice\nlock: {lock}{}\n",
        order.len(),
        order.join(", "),
        if lock == "absent" {
            format!("; `imagegen lock {recipe}` makes it")
        } else {
            String::new()
        }
    ))
}

/// Lays the overlays of one root on an empty tree, which finds files that two of them claim; how many there are.
fn overlays(text: &Project, root: &str, overlays: &[(String, PathBuf)]) -> Result<usize, Box<dyn std::error::Error>> {
    let sets: Vec<OverlaySet> = overlays
        .iter()
        .map(|(name, folder)| OverlaySet::read(name, folder))
        .collect::<Result<_, _>>()?;
    let mut tree = Tree::new(root);
    match lay_overlays(&mut tree, &sets) {
        Ok(_) => Ok(sets.len()),
        Err(TreeError::TwoOverlays {
            path, first, second, ..
        }) => {
            let message = format!("/{path} is in overlay `{first}` and in overlay `{second}` of the root of `{root}`");
            let help = "keep the file in one of them, or leave one of them out";
            Err(text.placed_clash(root, message, help).into())
        }
        Err(error) => Err(error.into()),
    }
}
