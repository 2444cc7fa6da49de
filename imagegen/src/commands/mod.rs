//! The command line: its words, its help, and which function answers each.
//!
//! Promises: wrong arguments end with 2, a failure with 1, an interruption with 130. With `--json` exactly one JSON
//! document is written to standard output, also for a failure. Nothing here does the work itself; it reads arguments,
//! calls the library and shows what came back.

mod arguments;
mod build;
mod cache;
mod check;
mod complete;
mod flash;
mod import_unit;
mod inspect;
mod interrupt;
mod keys;
mod lock;
mod project;
mod release;
mod release_status;
mod run;
mod sbom;
mod schema;
mod tool;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

pub use arguments::{Arguments, Command};

use crate::report;

/// What a command returns: nothing, or an error that [`report::failure`] shows.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// The whole program: reads the arguments, runs the command, reports, and returns the exit status.
pub fn main() -> ExitCode {
    // This program starts itself as the sandbox's helper; that must happen before any thread or signal handler.
    crate::tools::helper_if_asked();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return report::usage(&error, std::env::args().any(|a| a == "--json")),
    };
    let json = arguments.json;
    match answer(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => report::failure(error.as_ref(), json),
    }
}

/// Runs the command; the exit status where it did not fail.
fn answer(arguments: Arguments) -> Result<u8, Box<dyn Error>> {
    let json = arguments.json;
    let interrupt = interrupt::Interrupt::install(json)?;
    match arguments.command {
        Command::Build(options) => build::run(&options, json),
        Command::Lock(options) => lock::run(&options, json),
        Command::Check(options) => check::run(&options, json),
        Command::Run(options) => return run::run(&options, &interrupt, json),
        Command::Inspect(options) => inspect::run(&options, json),
        Command::Diff(options) => inspect::diff(&options, json),
        Command::Sbom(options) => sbom::run(&options),
        Command::Release(options) => release::run(&options.action, json),
        Command::Keys(options) => keys::run(&options.action, json),
        Command::Flash(options) => flash::run(&options, &interrupt, json),
        Command::ImportUnit(options) => return import_unit::run(&options, json),
        Command::Schema(options) => schema::run(&options),
        Command::Completions(options) => complete::run(&options),
        Command::Tool(options) => return tool::run(&options, json),
        Command::Cache(options) => cache::run(&options.action, json),
    }
    .map(|()| 0)
}
