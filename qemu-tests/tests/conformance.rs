//! Others' judgement of how the appliance believes a repository: the conformance suite of The Update Framework, through a thin client around the code
//! that an upgrade uses (`src/bin/tuf-client.rs`).

use std::process::Command;

use qemu_tests::{images, python};

/// The suite's environment, by hash.
const NEEDS: &str = "tuf-conformance.txt";
const SUITE: &str = "qemu-tests/third-party/tuf-conformance/tuf_conformance";
/// How many of its tests pass at least: one that is no longer found is no longer a promise.
const PASSED: usize = 86;

#[test]
fn the_tuf_conformance_suite_passes_but_for_the_exceptions_that_have_a_reason() {
    let missing = |why: String| {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
        eprintln!("skipped, the check of repositories was not judged: {why}");
    };
    let python = match python::environment(NEEDS) {
        Ok(python) => python,
        Err(why) => return missing(why),
    };
    if Command::new("faketime").arg("--version").output().is_err() {
        return missing("the suite sets the clock by `faketime`; install that package".to_owned());
    }
    let folder = tempfile::tempdir().unwrap();
    let client = folder.path().join("tuf-client");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tuf-client"), &client).unwrap();
    let exceptions = images::workspace().join("qemu-tests/src/bin/tuf-client.xfails");
    std::fs::copy(exceptions, folder.path().join("tuf-client.xfails")).unwrap();

    let output = Command::new(python)
        .args([
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--tb=short",
            "--color=no",
            "-q",
            "-W",
            "ignore",
        ])
        .arg(images::workspace().join(SUITE))
        .arg("--entrypoint")
        .arg(&client)
        // The checkout stays as it is.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let counts = said.lines().last().unwrap_or_default();
    eprintln!("{counts}");
    let passed = counts.split(' ').zip(counts.split(' ').skip(1));
    let passed = passed.filter(|(_, word)| word.trim_end_matches(',') == "passed");
    let passed: usize = passed.filter_map(|(count, _)| count.parse::<usize>().ok()).sum();
    assert!(passed >= PASSED, "{said}");
}
