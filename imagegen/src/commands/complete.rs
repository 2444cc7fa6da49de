//! `imagegen completions`: the shell's completion script.

use std::io::Write;

use clap::CommandFactory;

use super::{Arguments, Outcome, arguments::Completions};

pub(super) fn run(options: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), "imagegen", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
