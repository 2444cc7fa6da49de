//! systemd's own tools read what `export` writes, and say the same of it as our `json`.

mod common;
#[path = "../../disk/tests/common/mod.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod judge;

use std::fs;
use std::path::{Path, PathBuf};

use cairn_log::output::{export, json};
use cairn_log::{Entry, FieldName, Origin, Part, Priority, Query, Stream, syslog};
use common::{open, origin, read, small};
use judge::{judge, said};
use serde_json::Value;

/// Not on every PATH: systemd keeps it in a folder of its own.
const REMOTE: &str = "/usr/lib/systemd/systemd-journal-remote";

/// Runs it; it must succeed. What it wrote to standard output.
fn agrees(command: &mut std::process::Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    output.stdout
}

fn fill(root: &Path) {
    let mut store = open(root, small());
    let mut time = 1_700_000_000_123_456_000;
    let mut put = |unit: &str, origin: &Origin, message: &[u8]| {
        time += 1_001_000;
        let entry = Entry {
            realtime: time,
            monotonic: time / 1000,
            origin,
            part: Part::Whole,
            message,
        };
        store.append(unit, &entry).unwrap();
    };
    put("web", &origin(), b"plain");
    put("web", &origin(), "caf\u{e9}\ttab".as_bytes());
    put("web", &origin(), b"two\nlines");
    put("web", &origin(), b"\xff\x00\x1bnot text");
    put("web", &origin(), &vec![b'x'; 40_000]);
    put("web", &origin(), b"");
    let sent = syslog::parse(b"<27>Nov 22 08:32:02 slapd[17]: from syslog");
    put("slapd", &sent.origin, sent.message);
    let mut full = Origin::new(Stream::Manager, Priority::Crit);
    full.instance = "0123456789abcdef0123456789abcdef".to_owned();
    for value in ["one", "two"] {
        full.fields.push((FieldName::new("CAIRN_NOTE").unwrap(), value.into()));
    }
    put("web", &full, b"from the manager");
}

#[test]
fn systemds_journal_tools_read_the_export_and_find_the_same_in_it() {
    let Some(mut remote) = judge("env") else { return };
    if std::env::var_os("CAIRN_JUDGES").is_none_or(|f| f.is_empty()) && !Path::new(REMOTE).is_file() {
        println!("skipped: {REMOTE} is not there, and CAIRN_JUDGES is not set");
        return;
    }
    let Some(mut journalctl) = judge("journalctl") else {
        return;
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("journal");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let store = tempfile::tempdir().unwrap();
    fill(store.path());
    let ours = read(store.path(), &Query::default());
    let entries = folder.join("entries.export");
    fs::write(&entries, ours.iter().flat_map(export).collect::<Vec<u8>>()).unwrap();
    let journal = folder.join("made.journal");
    remote
        .arg(REMOTE)
        .arg("--output")
        .arg(&journal)
        .args(["--split-mode=none", "--compress=no"])
        .arg(&entries);
    agrees(&mut remote);
    let told = agrees(
        journalctl
            .arg("--file")
            .arg(&journal)
            .args(["--all", "-o", "json", "--no-pager"]),
    );
    let theirs: Vec<Value> = told
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        let ours: Value = serde_json::from_str(&json(ours)).unwrap();
        for (name, value) in ours.as_object().unwrap() {
            // Its own positions; and systemd's tool leaves out fields without a value.
            if name != "__CURSOR" {
                assert_eq!(theirs[name], *value, "{name} of {}", theirs["MESSAGE"]);
            }
        }
    }
    let mut unit = judge("journalctl").unwrap();
    let said = agrees(
        unit.arg("--file")
            .arg(&journal)
            .args(["-u", "slapd", "-p", "err", "-o", "cat", "--no-pager"]),
    );
    assert_eq!(said, b"from syslog\n");
    fs::remove_dir_all(&folder).unwrap();
}
