//! A server that is a shell script: it tells that it is ready as servers do, and says when it ends.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the two scripts; the server's can use `ready` to tell that it is ready. Lines are noted in the file `log` of the folder.
fn run(folder: &Path, server: &str, program: &str) -> Output {
    // The message comes by a small program in Python or Perl: a shell has no datagrams.
    let ready = "ready() { perl -MIO::Socket::UNIX -e '\
        socket(my $s, AF_UNIX, SOCK_DGRAM, 0); my $a = $ENV{NOTIFY_SOCKET}; $a =~ s/^@/\\0/; \
        send($s, \"STATUS=up\\nREADY=1\\n\", 0, pack(\"S a*\", AF_UNIX, $a)) or die $!'; }";
    Command::new(env!("CARGO_BIN_EXE_cairn-during"))
        .current_dir(folder)
        .args([
            "/bin/sh",
            "-c",
            &format!("{ready}; {server}"),
            "--",
            "/bin/sh",
            "-c",
            program,
        ])
        .output()
        .unwrap()
}

const SERVER: &str = "trap 'echo ended >>log; exit 0' TERM; echo up >>log; ready; while :; do sleep 0.05; done";

fn log(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_program_runs_while_its_server_does_and_the_server_ends_before_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), SERVER, "echo program >>log");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(log(dir.path()), ["up", "program", "ended"]);
}

#[test]
fn the_status_is_the_programs_and_the_server_ends_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), SERVER, "exit 7");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(log(dir.path()), ["up", "ended"]);
}

#[test]
fn a_server_that_does_not_get_ready_or_does_not_end_well_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "exit 3", "echo program >>log");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("ended before it was ready: exit status: 3"),
        "{said}"
    );
    assert!(log(dir.path()).is_empty(), "the program never ran");
    let server = "trap 'exit 9' TERM; ready; while :; do sleep 0.05; done";
    let output = run(dir.path(), server, "true");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("the server did not end well: exit status: 9"),
        "{said}"
    );
}

#[test]
fn what_is_not_a_server_and_a_program_is_refused() {
    for words in [&[][..], &["/bin/true"], &["--", "/bin/true"], &["/bin/true", "--"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_cairn-during"))
            .args(words)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}
