//! Every unit that is shipped, judged by systemd's own tool: its plan in systemd's words has an exposure of 2.0 at most.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_manager::config::Config;
use cairn_manager::plan::{Input, Role};
use cairn_sandbox::Plan;
use cairn_unit::{Manifest, Source, Unit};
use serde_json::json;

/// The highest exposure that a unit may have; systemd calls up to 2.0 "safe" and most of its own services are above 9.
const MOST: f64 = 2.0;

/// systemd-analyze from the folder CAIRN_JUDGES (`make` fills it), or from PATH where that is not set.
fn judge() -> Option<Command> {
    let tool = "systemd-analyze";
    if let Some(folder) = std::env::var_os("CAIRN_JUDGES").filter(|folder| !folder.is_empty()) {
        let program = PathBuf::from(folder).join(tool);
        assert!(
            program.is_file(),
            "CAIRN_JUDGES is set, and {} is absent",
            program.display()
        );
        return Some(Command::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(tool))
        .find(|program| program.is_file());
    if found.is_none() {
        println!("skipped: {tool} is not on PATH, and CAIRN_JUDGES is not set");
    }
    found.map(Command::new)
}

/// The plan of a unit's main process, with made-up ids for the accounts that only a built image knows.
fn plan(name: &str, unit: &Unit) -> Plan {
    let folders = || unit.state.values().chain(unit.runtime.values());
    let users: BTreeSet<&str> = folders().filter_map(|folder| folder.user.as_deref()).collect();
    let users = users
        .into_iter()
        .chain(unit.users.keys().map(String::as_str))
        .chain([unit.service.user.as_str()]);
    let mut accounts: BTreeMap<&str, serde_json::Value> = users
        .map(|user| (user, json!({"uid": 100, "gid": 100, "groups": [], "home": "/"})))
        .collect();
    accounts.insert("root", json!({"uid": 0, "gid": 0, "groups": [], "home": "/root"}));
    let groups: BTreeMap<&str, u32> = folders()
        .filter_map(|folder| folder.group.as_deref())
        .chain(unit.service.group.as_deref())
        .map(|group| (group, 100))
        .collect();
    let manifest: Manifest = serde_json::from_value(json!({
        "name": "all", "version": "1", "description": "x", "built": 0,
        "units": { name: {
            "unit": unit, "root": format!("/services/{name}"), "index": 0, "accounts": accounts, "groups": groups,
            "templates": [], "waits_for": [],
        }},
    }))
    .unwrap();
    let none = BTreeMap::new();
    let input = Input {
        config: &Config::appliance(),
        manifest: &manifest,
        name,
        unit: &manifest.units[name],
        secrets: &none,
        rendered: &none,
        resolv: None,
        optional: &[],
    };
    cairn_manager::plan::of(&input, Role::Main).unwrap()
}

/// The exposure that systemd-analyze finds.
fn exposure(judge: &mut Command, name: &str, text: &str) -> (f64, String) {
    // Below the build's folder, which the judges' sandbox shows them.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = format!("{name}.service");
    std::fs::write(folder.path().join(&file), text).unwrap();
    let judge = judge.current_dir(folder.path());
    let output = judge
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("./{file}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let line = said
        .lines()
        .find(|line| line.contains("Overall exposure level"))
        .unwrap_or_else(|| panic!("{said}"));
    let number = line
        .split(": ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    (number.unwrap_or_else(|| panic!("{line}")), said)
}

#[test]
fn no_shipped_unit_is_more_exposed_than_systemd_calls_safe() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../units");
    let mut judged = 0;
    for entry in std::fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        // A template is judged by an instance of it.
        let name = path.file_stem().unwrap().to_str().unwrap().replace('@', "@1");
        let unit = Unit::parse(&Source::read(&path).unwrap()).unwrap_or_else(|problems| panic!("{problems}"));
        let text = plan(&name, &unit).to_systemd();
        let Some(mut judge) = judge() else { return };
        let (found, said) = exposure(&mut judge, &name, &text);
        println!("{name}: {found}");
        assert!(
            !said.contains("Unknown") && !said.contains("Failed to parse"),
            "{name}: {said}"
        );
        assert!(found <= MOST, "{name}: {said}");
        judged += 1;
    }
    assert!(judged >= 3, "{judged}");
    // The judge sees a difference.
    let Some(mut judge) = judge() else { return };
    let (open, _) = exposure(
        &mut judge,
        "open",
        "[Unit]\nDescription=x\n\n[Service]\nExecStart=/bin/x\n",
    );
    assert!(open > 9.0, "{open}");
}
