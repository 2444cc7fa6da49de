//! What a unit can do wrong in its behaviour: readiness, health, triggers, restarts, limits.

mod common;

use cairn_unit::{Problem, Reload, Unit};
use common::source;

const SERVICE: &str = "description = \"A\"\n[service]\ncommand = [\"/bin/a\"]\n";

fn parse(more: &str) -> Result<Unit, Vec<Problem>> {
    Unit::parse(&source("units/a.toml", &format!("{SERVICE}{more}"))).map_err(|problems| problems.0)
}

/// The one thing that is wrong with a unit that has `more` behind its command: the line from the first of `more`, and what.
fn wrong(more: &str) -> (usize, String) {
    let mut problems = parse(more).expect_err(more);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let problem = problems.remove(0);
    assert!(problem.help.is_some(), "{problem}");
    let line = problem.at.expect("a place").0;
    (line - SERVICE.lines().count(), problem.message)
}

#[test]
fn every_way_to_be_started_watched_and_reloaded_is_read() {
    let unit = parse(
        "reload = { signal = \"HUP\" }\nwatchdog = \"30s\"\nstart_limit = 5\nafter = [[\"/bin/b\"]]\n\
         [ready]\nwhen = { log = \"listening\" }\n\
         [health]\ncheck = { http = { port = 80, path = \"/up\", status = 204 } }\n\
         [failure]\naction = \"reboot\"\nalert = [\"/bin/tell\"]\ndependants = \"stop\"\n\
         [timer]\ninterval = \"1h\"\n",
    )
    .unwrap();
    assert_eq!(unit.service.reload, Some(Reload::Signal(cairn_unit::Signal::Hup)));
    assert!(!unit.starts_with_appliance());
    let commands: Vec<String> = unit.commands().iter().map(|(path, _)| path.join(".")).collect();
    assert_eq!(commands, ["service.command", "service.after.0", "failure.alert"]);
    let timed =
        parse("kind = \"oneshot\"\n[timer]\ncalendar = [\"daily\"]\npersistent = true\njitter = \"5m\"\n").unwrap();
    assert!(!timed.starts_with_appliance());
}

#[test]
fn what_cannot_work_together_is_refused_where_it_stands() {
    for (more, line, message) in [
        ("restart_jitter = 90\n", 1, "that is too much jitter"),
        (
            "restart_delay = \"2m\"\n",
            1,
            "restart_delay is above restart_delay_max",
        ),
        ("start_limit = 0\n", 1, "a limit of 0 starts nothing"),
        (
            "restart = \"never\"\nstart_limit = 3\n",
            2,
            "a unit that is never restarted has no start limit",
        ),
        ("watchdog = \"10ms\"\n", 1, "that is too short"),
        (
            "kind = \"oneshot\"\nwatchdog = \"10s\"\n",
            2,
            "a oneshot has no watchdog",
        ),
        (
            "kind = \"oneshot\"\nreload = \"notify\"\n",
            2,
            "a oneshot does not stay, so it cannot reload",
        ),
        ("reload = { signal = \"KILL\" }\n", 1, "KILL ends the service"),
        (
            "kind = \"oneshot\"\nrestart = \"always\"\n",
            2,
            "a oneshot ends when it is done",
        ),
        ("reload = { command = [\"a\"] }\n", 1, "`a` is not an absolute path"),
        ("after = [[]]\n", 1, "the command is empty"),
        (
            "[ready]\nwhen = { log = \"\" }\n",
            2,
            "that is in every line, or in none",
        ),
        (
            "[network]\nmode = \"none\"\n[ready]\nwhen = { port = 1 }\n",
            4,
            "Cairn reaches no port of a unit without a network of its own",
        ),
        ("[health]\ncheck = { tcp = 0 }\n", 2, "port 0 is no port"),
        (
            "[health]\ncheck = { tcp = 1 }\nfailures = 0\n",
            3,
            "at least one check must fail",
        ),
        (
            "[health]\ncheck = { http = { port = 1, path = \"up\" } }\n",
            2,
            "`up` is not a path of HTTP",
        ),
        (
            "[health]\ncheck = { http = { port = 1, status = 7 } }\n",
            2,
            "that is no status of HTTP",
        ),
        (
            "[network]\nmode = \"none\"\n[health]\ncheck = { tcp = 1 }\n",
            4,
            "Cairn reaches no port of a unit without a network of its own",
        ),
        ("[timer]\n", 1, "the timer has no time"),
        ("[timer]\ninterval = \"5ms\"\n", 2, "that is too often"),
        (
            "[timer]\ninterval = \"5m\"\npersistent = true\n",
            3,
            "there is nothing to make up for",
        ),
        ("[limits]\ncpu_quota = 0\n", 2, "a limit of 0 lets nothing run"),
        ("[limits]\nio_read_max = \"0\"\n", 2, "a limit of 0 lets nothing run"),
        ("[log]\nsize_max = \"1K\"\n", 2, "a log has at least 1M"),
        (
            "[log]\nrate = 100\nburst = 10\n",
            1,
            "the rate and the burst do not fit",
        ),
        (
            "[needs]\na = \"b@1\"\n[secrets.\"s@1\"]\n",
            3,
            "`s@1` has a `@`, which only a unit's name can have",
        ),
    ] {
        assert_eq!(wrong(more), (line, message.to_owned()), "{more}");
    }
}

#[test]
fn unknown_keys_are_refused_in_the_tables_of_behaviour() {
    for table in [
        "[health]\ncheck = { tcp = 1 }\nx = 1\n",
        "[failure]\nx = 1\n",
        "[timer]\ninterval = \"5m\"\nx = 1\n",
        "[log]\nx = 1\n",
    ] {
        let (_, message) = wrong(table);
        assert_eq!(message, "unknown key `x`", "{table}");
    }
}
