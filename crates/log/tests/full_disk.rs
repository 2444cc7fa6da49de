//! The disk is full. Run on a tmpfs in a mount namespace of its own, by util-linux' `unshare`; skipped where that is not allowed.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cairn_log::Part;
use common::{endless, line, numbers, open, origin, put};

const INSIDE: &str = "CAIRN_LOG_FULL_DISK";

#[test]
fn a_full_disk_is_said_loses_nothing_and_ends_when_there_is_space() {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return on_a_small_disk(folder.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args([
        "-rm",
        "sh",
        "-c",
        "mount -t tmpfs -o size=300k small \"$1\" && shift && exec \"$@\"",
        "sh",
    ]);
    command
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"]);
    command
        .arg("a_full_disk_is_said_loses_nothing_and_ends_when_there_is_space")
        .env(INSIDE, dir.path());
    let allowed = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "x"])
        .arg(dir.path())
        .output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("skipped: unshare cannot mount a tmpfs here");
        return;
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("it worked again"), "{said}");
}

fn on_a_small_disk(folder: PathBuf) {
    let root = folder.join("log");
    let ballast = folder.join("ballast");
    let mut number = 0;
    let mut stored = Vec::new();
    for round in 0..6_usize {
        // Filled to a different point each time, so that it is a tail, a block, an index or a new file that does not fit.
        fs::write(&ballast, vec![1; 100_000 + round * 5000]).unwrap();
        let mut store = open(&root, endless());
        let refused = loop {
            let message = line(number, 100 + round * 333);
            let unit = ["a", "b"][number as usize % 2];
            let result = put(&mut store, unit, number, &origin(), (Part::Whole, &message));
            number += 1;
            match result {
                Ok(_) => stored.push(number - 1),
                Err(error) => break error,
            }
            assert!(number < 20_000, "the disk is never full");
        };
        assert!(refused.is_full(), "{refused}");
        assert!(refused.to_string().contains("earlier records are kept"), "{refused}");
        assert_eq!(numbers(&root), stored, "round {round}");
        assert!(store.take_trouble().is_none_or(|error| error.is_full()));
        // Space again: the same writer goes on.
        fs::remove_file(&ballast).unwrap();
        for _ in 0..20 {
            common::say(&mut store, "a", number, &line(number, 50));
            stored.push(number);
            number += 1;
        }
        store.sync().unwrap();
        store.take_trouble();
        assert_eq!(numbers(&root), stored, "round {round}");
        drop(store);
        fs::remove_dir_all(&root).unwrap();
        stored.clear();
    }
    println!("it worked again");
}
