//! Others' tools as judges: from the folder CAIRN_JUDGES (`make` fills it by `imagegen tool --wrappers`), or from PATH where
//! that is not set.

use std::path::PathBuf;
use std::process::Command;

/// A command for `tool`, or `None` (with a printed reason) if it is not installed. In the folder CAIRN_JUDGES none may lack.
pub(crate) fn judge(tool: &str) -> Option<Command> {
    if let Some(folder) = std::env::var_os("CAIRN_JUDGES").filter(|folder| !folder.is_empty()) {
        let program = PathBuf::from(folder).join(tool);
        assert!(
            program.is_file(),
            "CAIRN_JUDGES is set, and {} is absent",
            program.display()
        );
        return Some(Command::new(program));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|f| f.join(tool))
        .find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: {tool} is not on PATH, and CAIRN_JUDGES is not set");
    }
    found.map(Command::new)
}

/// Runs it; it must succeed. What it wrote to standard output.
pub(crate) fn agrees(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}
