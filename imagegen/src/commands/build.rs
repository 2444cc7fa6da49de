//! `imagegen build`: locks where there is no lock, builds, and says what was made and how long each stage took.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::arguments::Build;
use super::{Outcome, lock, project};
use crate::archive::Mirror;
use crate::build::{self, BuildError, BuildPlan, Options, Report, Services};
use crate::cache::{Cache, FetchError, FetchOptions};
use crate::report::{Bars, bytes, colours, duration, print, print_json, table};
use crate::resolve::Change;

pub(super) fn run(options: &Build, json: bool) -> Outcome {
    let (_, report, changes) = build(options, json)?;
    if json {
        return print_json(&json!({ "build": report, "lock_changes": changes }));
    }
    let err = std::io::stderr();
    if colours(&err) {
        write!(err.lock(), "{}", closing(&report))?;
    }
    let state = if report.unchanged { " (unchanged)" } else { "" };
    print(
        &report
            .images
            .iter()
            .map(|p| format!("{}{state}\n", p.display()))
            .collect::<String>(),
    )
}

/// Builds, making the lock first where there is none.
pub(super) fn build(options: &Build, json: bool) -> Result<(BuildPlan, Report, Vec<Change>), Box<dyn Error>> {
    let arch = project::arch(options.arch)?;
    let recipe = &options.recipe.recipe;
    let fetch = FetchOptions {
        offline: options.offline,
        ..FetchOptions::default()
    };
    let bars = Bars::new(json);
    let project = project::load(recipe, arch)?;
    let mut changes = Vec::new();
    let mut relock = |why: &str| -> Result<(), Box<dyn Error>> {
        let found = lock::refresh(&project, arch, &fetch, &bars)?;
        if !json {
            let _ = write!(
                std::io::stderr(),
                "{why}\n{}",
                lock::describe(&project.lock_file, &found)
            );
        }
        changes = found;
        Ok(())
    };
    if !project.lock_file.exists() {
        relock(&format!(
            "{} did not exist; it is made now",
            project.lock_file.display()
        ))?;
    }
    let chosen = Options {
        arch,
        formats: Some(options.format.clone()).filter(|f| !f.is_empty()),
        profile: options.profile,
        output: options.output.clone(),
        binaries: options.binaries.clone(),
    };
    let cache = Cache::from_env()?;
    let services = Services {
        cache: &cache,
        fetch: &fetch,
        mirror: &|| Mirror::discover().map_err(|e| e.to_string()),
        tools: None,
        helper: None::<PathBuf>,
        progress: &bars,
    };
    let setup = options.site.as_deref().map(|file| project.choices(file)).transpose()?;
    let mut plan = build::plan(recipe, &chosen)?;
    plan.setup.clone_from(&setup);
    let mut made = build::run(&plan, &services);
    if options.relock_missing
        && let Err(BuildError::Fetch(FetchError::Gone { gone })) = &made
    {
        let names: Vec<&str> = gone.iter().map(|m| m.label.as_str()).collect();
        relock(&format!(
            "the archive no longer carries {}; resolving anew",
            names.join(", ")
        ))?;
        plan = build::plan(recipe, &chosen)?;
        plan.setup = setup;
        made = build::run(&plan, &services);
    }
    Ok((plan, made?, changes))
}

fn closing(report: &Report) -> String {
    let time = |ms: u64| duration(std::time::Duration::from_millis(ms));
    let count = |n: u64| if n == 0 { String::new() } else { bytes(n) };
    let mut rows: Vec<Vec<String>> = report
        .stages
        .iter()
        .map(|s| vec![s.stage.to_owned(), time(s.milliseconds), count(s.bytes)])
        .collect();
    rows.push(vec!["whole".into(), time(report.milliseconds), String::new()]);
    table(&["stage", "time", "bytes"], &[1, 2], &rows)
}
