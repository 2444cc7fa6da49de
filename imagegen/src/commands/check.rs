//! `imagegen check`: everything that can be known without fetching or building.

use cairn_unit::Name;
use serde_json::json;

use super::Outcome;
use super::arguments::Check;
use super::project::{self, Project};
use crate::report::{print, print_json};
use crate::resolve::Lock;
use crate::tree::{OverlaySet, Rules, Tree, lay_overlays};

pub(super) fn run(options: &Check, json: bool) -> Outcome {
    let arch = project::arch(options.arch)?;
    let project = project::load(&options.recipe.recipe, arch)?;
    Rules::new(&project.recipe.exclude)?;
    let mut overlays = overlays(&project, "host", Some(&project.recipe.host.overlays))?;
    for (name, unit) in &project.units {
        overlays += self::overlays(&project, name.as_str(), unit.overlays.as_deref())?;
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
        let order: Vec<&str> = project.order.iter().map(Name::as_str).collect();
        return print_json(
            &json!({ "recipe": options.recipe.recipe, "units": order, "overlays": overlays, "lock": lock }),
        );
    }
    let order: Vec<&str> = project.order.iter().map(Name::as_str).collect();
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
fn overlays(project: &Project, root: &str, named: Option<&[Name]>) -> Result<usize, Box<dyn std::error::Error>> {
    let folder = |name: &str| project.folder.join("overlays").join(name);
    let names: Vec<String> = match named {
        Some(names) => names.iter().map(Name::to_string).collect(),
        None => Some(root.to_owned())
            .filter(|name| folder(name).is_dir())
            .into_iter()
            .collect(),
    };
    let sets: Vec<OverlaySet> = names
        .iter()
        .map(|name| OverlaySet::read(name, &folder(name)))
        .collect::<Result<_, _>>()?;
    lay_overlays(&mut Tree::default(), &sets)?;
    Ok(sets.len())
}
