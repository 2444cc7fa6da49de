//! `imagegen import-unit` as people meet it: what it reads, where it writes, and its exit status.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const PLAIN: &str = "[Service]\nUser=a\nExecStart=/usr/bin/a\n[Install]\nWantedBy=multi-user.target\n";

fn run(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagegen"));
    command
        .arg("import-unit")
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_unit_goes_to_standard_output_and_notes_to_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.service"), PLAIN).unwrap();
    let output = run(
        folder.path(),
        &["a.service", "--package", "a-one", "--package", "a-two"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("packages = [\"a-one\", \"a-two\"]"));
    assert_eq!(text(&output.stderr), "done by Cairn anyway: WantedBy\n");
    let output = run(folder.path(), &["a.service"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stderr).starts_with("a.service: decide: the unit has no packages"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn what_is_beside_the_file_belongs_to_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("a.service", PLAIN);
    write("a.timer", "[Timer]\nOnBootSec=5min\n");
    write("a.socket", "[Socket]\nListenStream=80\n");
    write("a.service.d/2.conf", "[Service]\nRestart=always\n");
    write("a.service.d/1.conf", "[Service]\nRestart=no\nFrobnicate=1\n");
    write("a.service.d/ignored.txt", "[Service]\nRestart=on-failure\n");
    let path = folder.path().join("a.service");
    let output = run(Path::new("/"), &[path.to_str().unwrap(), "--package", "aa", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let unit = found["unit"].as_str().unwrap();
    assert!(
        unit.contains("after_boot = \"5m\"") && unit.contains("restart = \"always\""),
        "{unit}"
    );
    assert!(unit.contains("[sockets.a]\nlisten = { tcp = 80 }"), "{unit}");
    let at: Vec<String> = found["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| {
            format!(
                "{}:{}",
                n["file"].as_str().unwrap().rsplit('/').next().unwrap(),
                n["line"]
            )
        })
        .collect();
    assert_eq!(at, ["1.conf:3"]);
}

#[test]
fn a_file_that_is_there_is_overwritten_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.service"), PLAIN).unwrap();
    fs::write(folder.path().join("a.toml"), "mine").unwrap();
    let words = ["a.service", "--package", "aa", "-o", "a.toml"];
    let output = run(folder.path(), &words);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--force"));
    assert_eq!(fs::read_to_string(folder.path().join("a.toml")).unwrap(), "mine");
    let output = run(folder.path(), &[&words[..], &["--force"]].concat());
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "a.toml\n".into())
    );
    assert!(
        fs::read_to_string(folder.path().join("a.toml"))
            .unwrap()
            .contains("/usr/bin/a")
    );
}

#[test]
fn a_template_is_written_to_a_template() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a@.service"), PLAIN).unwrap();
    let output = run(folder.path(), &["a@.service", "--package", "aa", "-o", "a.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("a@.toml") && !folder.path().join("a.toml").exists());
    assert_eq!(
        run(folder.path(), &["a@.service", "--package", "aa", "-o", "a@.toml"])
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn what_is_no_service_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.timer"), "[Timer]\n").unwrap();
    fs::write(folder.path().join("b.service"), b"[Service]\nExecStart=/bin/\xff\n").unwrap();
    for (file, why) in [
        ("a.timer", "the one that ends with .service"),
        ("b.service", "UTF-8"),
        ("c.service", "cannot read c.service"),
    ] {
        let output = run(folder.path(), &[file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}
