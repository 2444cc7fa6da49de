//! `imagegen tool`: a program of a tools tree on files of this machine.

use std::error::Error;
use std::path::Path;

use serde_json::json;

use super::arguments::Tool;
use crate::archive::Mirror;
use crate::cache::{Cache, FetchOptions};
use crate::report::{Bars, print, print_json};
use crate::tools::load_tools;

/// Returns the program's exit status.
pub(super) fn run(options: &Tool, json: bool) -> Result<u8, Box<dyn Error>> {
    let cache = Cache::from_env()?;
    let mirror = || Mirror::discover().map_err(|e| e.to_string());
    // What the program says is all that is heard, also when its tree is fetched first and this is no terminal.
    let silent = json || !std::io::IsTerminal::is_terminal(&std::io::stderr());
    let bars = Bars::new(silent);
    let tree = load_tools(options.set, &cache, &mirror, &FetchOptions::default(), None, &bars)?;
    drop(bars);
    if let Some(folder) = &options.wrappers {
        let count = tree.write_wrappers(&std::env::current_exe()?, options.set.name(), folder)?;
        match json {
            true => print_json(&json!({ "wrappers": folder, "programs": count }))?,
            false => print(&format!("{}: {count} programs\n", folder.display()))?,
        }
        return Ok(0);
    }
    let (name, args) = options.command.split_first().ok_or("name a program")?;
    let name = Path::new(name)
        .to_str()
        .filter(|name| !name.contains('/'))
        .ok_or("the program is a name, not a path")?;
    let status = tree
        .run_on_host(name, args)
        .map_err(|e| format!("cannot run {name} of the {}: {e}", options.set.name()))?;
    Ok(u8::try_from(status & 0xff)?)
}
