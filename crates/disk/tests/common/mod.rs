//! Others' tools as judges: looked for in CAIRN_JUDGES first, then on PATH.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A command for `tool`, or `None` (with a printed reason) if it is not installed.
pub(crate) fn judge(tool: &str) -> Option<Command> {
    let mut folders: Vec<PathBuf> = std::env::var_os("CAIRN_JUDGES")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.iter().map(|f| f.join(tool)).find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: {tool} is neither in CAIRN_JUDGES nor on PATH");
    }
    found.map(Command::new)
}

/// The output as text, stdout then stderr.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
