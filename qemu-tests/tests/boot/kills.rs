//! The manager of a machine under load may be killed as often as one likes.

use std::fmt::Write as _;
use std::time::Duration;

use qemu_tests::random::Random;
use serde_json::Value;

use super::daemons::boot;
use super::*;

/// Moments lie within so many milliseconds after a manager has begun to answer, or to take over.
const WITHIN: [u64; 2] = [200, 60];

/// Half of the kills fall after a manager has begun to answer, half at any moment of its taking over. Meanwhile a unit writes as fast as
/// it is read, and another ends again and again; what became of each line, each exit and each process is counted in the machine.
#[test]
fn no_kill_of_the_manager_under_load_loses_a_line_an_exit_or_a_service() {
    let soak = std::env::var("CAIRN_SOAK").is_ok_and(|value| value == "1");
    let given = std::env::var("CAIRN_KILLS").ok().and_then(|count| count.parse().ok());
    let count: u64 = given.unwrap_or(if soak { 1000 } else { 15 });
    let mut random = Random::seeded();
    let moments: Vec<String> = (0..count)
        .map(|index| {
            let which = index as usize % 2;
            format!("{}{}", ["a", "s"][which], random.below(WITHIN[which]))
        })
        .collect();
    let (home, mut guest) = boot("kills");
    let order = ["/usr/lib/cairn/test-agent", "kills", &moments.join(",")];
    let (status, said) = guest.ran(&order, Duration::from_secs(600 + 3 * count));
    assert_eq!(status, 0, "{said}");
    let outcome: Value = must(serde_json::from_str(&said));
    eprintln!("{outcome}");
    if soak {
        must(report(random.seed(), &outcome));
    }
    let seed = random.seed();
    assert_eq!(outcome["kills"], count, "{outcome}");
    assert_eq!(
        outcome["before"], outcome["after"],
        "seed {seed}: services have other processes"
    );
    let (lines, exits) = (&outcome["lines"], &outcome["exits"]);
    assert!(lines["written"].as_u64().is_some_and(|n| n > 1000), "no load: {lines}");
    assert_eq!(
        (&lines["missing"], &lines["doubled"]),
        (&0.into(), &0.into()),
        "seed {seed}: {lines}"
    );
    assert_eq!(lines["stored"], lines["written"]);
    assert!(exits["runs"].as_u64().is_some_and(|n| n > 1), "no load: {exits}");
    assert_eq!(exits["counted"], exits["runs"], "seed {seed}: {exits}");
    assert_eq!(exits["lines"], exits["runs"], "seed {seed}: {exits}");
    assert_eq!(exits["unseen"], 0, "seed {seed}: {exits}");
    assert_eq!(exits["untold"], 0, "seed {seed}: {exits}");
    assert_eq!(exits["told_twice"], 0, "seed {seed}: {exits}");
    assert!(
        guest
            .0
            .serial
            .lines()
            .iter()
            .all(|(_, line)| !line.contains("EMERGENCY")),
        "seed {seed}: cairn-init gave managers up"
    );
    switch_off(guest.0);
    is_clean(&home);
}

fn report(seed: u64, outcome: &Value) -> std::io::Result<()> {
    let (lines, exits) = (&outcome["lines"], &outcome["exits"]);
    let restarted = outcome["before"].as_object().map_or(0, |before| {
        before
            .iter()
            .filter(|(unit, pids)| &outcome["after"][unit.as_str()] != *pids)
            .count()
    });
    let mut text = format!("# Kills of the manager under load\n\n`CAIRN_SEED={seed}` repeats their moments.\n\n");
    text.push_str("| what | how many |\n|---|---|\n");
    for (what, figure) in [
        ("kills", &outcome["kills"]),
        ("services with other processes than before", &restarted.into()),
        ("lines written", &lines["written"]),
        ("lines missing", &lines["missing"]),
        ("lines doubled", &lines["doubled"]),
        ("exits", &exits["runs"]),
        ("exits that the manager counts", &exits["counted"]),
        ("exits without their status", &exits["unseen"]),
        ("exits that the log does not tell", &exits["untold"]),
        ("exits that the log tells twice", &exits["told_twice"]),
        ("milliseconds for all kills", &outcome["kill_ms"]),
        ("milliseconds until a manager answered, at most", &outcome["longest_ms"]),
    ] {
        let _ = writeln!(text, "| {what} | {figure} |");
    }
    let folder = images::target().join("qemu-tests");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("soak-kills.md"), text)
}
