//! What a person or a program reads: errors, tables, progress. Text goes to standard output, everything else to
//! standard error; colours only on a terminal and never with NO_COLOR set.

mod bars;
mod errors;
mod table;

use std::error::Error;
use std::io::{IsTerminal, Write};

pub use bars::{Bars, StageTime};
pub use errors::{failure, interrupted, usage};
pub use table::{bytes, duration, table};

/// Whether `stream` takes colours: it is a terminal, not a dumb one, and NO_COLOR is not set.
pub fn colours(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Writes `text` to standard output. A reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes `value` to standard output as the command's one JSON document.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}
