//! `cairn check FILE`: what is wrong with a unit's file, or what it says. Needs no manager.

use std::path::Path;
use std::process::ExitCode;

use cairn_unit::{Source, Unit};

/// Checks a file; exit code 1 if something is wrong with it.
pub(crate) fn run(file: &Path, json: bool) -> ExitCode {
    let unit = Source::read(file)
        .map_err(Into::into)
        .and_then(|source| Unit::parse(&source));
    match unit {
        Ok(unit) if json => {
            println!("{}", serde_json::to_string_pretty(&unit).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Ok(unit) => {
            println!("{}: {}\nNothing is wrong with it.", file.display(), unit.description);
            for (path, command) in unit.commands() {
                println!("  {}: {}", path.join("."), command.join(" "));
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(1)
        }
    }
}
