//! The command line: its words, its help, and which function answers each.
//!
//! Promises: wrong arguments end with 2, a failure with 1, an interruption with 130. With `--json` exactly one JSON
//! document is written to standard output, also for a failure. Nothing here does the work itself; it reads arguments,
//! calls the library and shows what came back.

mod arguments;
mod cache;
mod complete;
mod flash;
mod interrupt;
mod schema;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

pub use arguments::{Arguments, Command};

use crate::report;

/// What a command returns: nothing, or an error that [`report::failure`] shows.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// The whole program: reads the arguments, runs the command, reports, and returns the exit status.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return report::usage(&error, std::env::args().any(|a| a == "--json")),
    };
    let json = arguments.json;
    let outcome = run(arguments);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(error.as_ref(), json),
    }
}

fn run(arguments: Arguments) -> Outcome {
    let json = arguments.json;
    let interrupt = interrupt::Interrupt::install(json)?;
    match arguments.command {
        Command::Schema(options) => schema::run(&options),
        Command::Completions(options) => complete::run(&options),
        Command::Cache(options) => cache::run(&options.action, json),
        Command::Flash(options) => flash::run(&options, &interrupt, json),
        _ => Err("this command is not there yet".into()),
    }
}
