//! Others' programs as judges. They come, locked, from imagegen's own tool sets, so none is ever missing.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod schemas;

use std::path::PathBuf;
use std::process::Command;

use imagegen::archive::Mirror;
use imagegen::cache::{Cache, FetchOptions};
use imagegen::progress::Silent;
use imagegen::tools::{ToolSet, ToolsTree, load_tools};

/// A command for a program of the judges, or of another set where the judges lack it.
pub(crate) fn judge(tool: &str) -> Command {
    let set = match tool {
        "qemu-img" => "tools",
        "cert-to-efi-sig-list" | "pesign" | "sbverify" | "sign-efi-sig-list" => "peers",
        _ => "judges",
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagegen"));
    command.args(["tool", "--set", set, "--", tool]);
    command
}

/// Runs a judge and returns what it said; it must succeed.
pub(crate) fn agrees(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// The judges' tree.
pub(crate) fn judges() -> ToolsTree {
    let cache = Cache::from_env().unwrap();
    let mirror = || Mirror::discover().map_err(|e| e.to_string());
    let helper = Some(PathBuf::from(env!("CARGO_BIN_EXE_imagegen")));
    load_tools(
        ToolSet::Judges,
        &cache,
        &mirror,
        &FetchOptions::default(),
        helper,
        &Silent,
    )
    .unwrap()
}
