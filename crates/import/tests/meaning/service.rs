//! What runs, and when it starts and ends.

use cairn_import::{Fate, import};
use cairn_unit::{FailureAction, Kind, ReadyWhen, Reload, Restart, Signal, Source, Unit};

use super::{of, packages, service};

#[test]
fn a_service_that_says_nothing_special_needs_no_note() {
    let (unit, found) = service("");
    assert_eq!(found.notes, []);
    assert!(!found.changes_behaviour());
    assert_eq!(unit.service.user, "x");
    assert!(unit.users.contains_key("x"));
    assert_eq!(unit.packages, ["example"]);
}

#[test]
fn an_unknown_directive_is_a_decision() {
    let (_, found) = service("Frobnicate=yes");
    assert!(found.changes_behaviour());
    assert_eq!(
        found.notes[0].to_string(),
        "x.service:6: decide: Frobnicate: a unit has nothing of this name: look at what it is for"
    );
    let (_, found) = service("X-Frobnicate=yes\n[X-Mine]\nA=b");
    assert_eq!(found.notes, [], "what begins with X- is not systemd's");
}

#[test]
fn types_become_kinds_and_signs_of_readiness() {
    let (unit, _) = service("Type=notify\nTimeoutStartSec=5min");
    let ready = unit.ready.unwrap();
    assert_eq!((ready.when, ready.timeout.millis()), (ReadyWhen::Notify, 300_000));
    let (unit, _) = service("Type=notify-reload");
    assert_eq!(unit.service.reload, Some(Reload::Notify));
    let (unit, found) = service("Type=exec");
    assert_eq!((unit.ready, found.notes.len()), (None, 0));
    for kind in ["forking", "dbus"] {
        assert!(service(&format!("Type={kind}")).1.changes_behaviour(), "{kind}");
    }
}

#[test]
fn the_commands_of_a_oneshot_run_in_order() {
    let (unit, _) = service(
        "Type=oneshot\nExecStartPre=/bin/first\nExecStart=/bin/second ; /bin/third \\; b\nExecStopPost=-/bin/last",
    );
    assert_eq!(unit.service.kind, Kind::Oneshot);
    assert_eq!(unit.service.restart, Restart::Never);
    assert_eq!(
        unit.service.before,
        [vec!["/bin/first"], vec!["/usr/bin/x"], vec!["/bin/second"]]
    );
    assert_eq!(unit.service.command, ["/bin/third", ";", "b"]);
    assert_eq!(unit.service.after, [["/bin/last"]]);
}

#[test]
fn an_empty_line_takes_back_what_was_said_before() {
    let (unit, found) = service("ExecStart=\nExecStart=/bin/other\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2");
    assert_eq!(unit.service.command, ["/bin/other"]);
    assert!(unit.service.before.is_empty());
    assert_eq!(unit.service.environment.keys().collect::<Vec<_>>(), ["B"]);
    assert_eq!(found.directives.iter().filter(|d| d.fate == Fate::Replaced).count(), 4);
}

#[test]
fn a_stop_and_a_reload_by_kill_become_signals() {
    let (unit, found) = service("ExecReload=/bin/kill -HUP $MAINPID\nExecStop=/bin/kill -s QUIT $MAINPID");
    assert_eq!(unit.service.reload, Some(Reload::Signal(Signal::Hup)));
    assert_eq!(unit.service.stop_signal, Signal::Quit);
    assert_eq!(found.notes, []);
    let (unit, found) = service("ExecReload=/bin/x --tell $MAINPID\nExecStop=/bin/x stop");
    assert_eq!((unit.service.reload, found.notes.len()), (None, 2));
}

#[test]
fn times_and_restarts_are_carried_over() {
    let (unit, found) = service(
        "Restart=on-failure\nRestartSec=90\nTimeoutSec=1min 30s\nWatchdogSec=20\nStartLimitBurst=4\nFailureAction=reboot",
    );
    let service = unit.service;
    assert_eq!(service.restart, Restart::OnFailure);
    assert_eq!(
        (service.restart_delay.millis(), service.restart_delay_max.millis()),
        (90_000, 90_000)
    );
    assert_eq!(service.stop_timeout.millis(), 90_000);
    assert_eq!(service.watchdog.unwrap().millis(), 20_000);
    assert_eq!(service.start_limit, Some(4));
    assert_eq!(unit.failure.action, FailureAction::Reboot);
    assert_eq!(found.notes, []);
    let (unit, found) = super::service("Restart=always\nRestartSec=0");
    assert_eq!(
        (unit.service.restart_delay.millis(), found.notes.len()),
        (100, 1),
        "no restart without end and delay"
    );
    for inexact in [
        "Restart=on-abnormal",
        "Restart=on-success",
        "KillMode=process",
        "KillSignal=SIGRTMIN+3",
        "WatchdogSec=10ms",
    ] {
        assert!(self::service(inexact).1.changes_behaviour(), "{inexact}");
    }
}

#[test]
fn what_cairn_would_refuse_is_told_with_its_place() {
    let found = import("x.service", "[Service]\nUser=x\nExecStart=/bin/x a\0b\n", &packages());
    assert!(found.changes_behaviour());
    let text = &found.notes.last().unwrap().text;
    assert!(
        text.starts_with("the unit is not valid until this is put right: x.toml:") && text.contains("NUL"),
        "{text}"
    );
    let (unit, _) = of(
        "x.service",
        "[Unit]\nDescription=%i\n[Service]\nExecStart=/bin/x\n",
        &packages(),
    );
    assert_eq!(unit.description, "The service x");
}

#[test]
fn a_damaged_file_gives_a_unit_or_says_what_is_wrong_with_it() {
    let whole = "[Unit]\nDescription=A %i b\nAfter=a.service b@%i.service\n[Service]\nType=notify\nUser=X y\nGroup=%H\nExecStart=-@/bin//x y \"a b\" 'c\\x41' $A ${B}\n\
                 Environment=\"A=1 2\" B=\u{e9}\nStateDirectory=../x a:b \u{e9}\nWorkingDirectory=~\nMemoryMax=1G\nMemoryHigh=2G\nTimeoutSec=99999999999999999999\n\
                 LimitNOFILE=-1\nRestartSec=1y\nRestartMaxDelaySec=5\nAmbientCapabilities=~CAP_CHOWN\nDynamicUser=yes\n";
    for end in (0..=whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        for name in ["x.service", "x@.service", "%.service", ".service", "kernel"] {
            let found = import(name, &whole[..end], &packages());
            let told = found.notes.iter().any(|n| n.text.starts_with("the unit is not valid"));
            let text = found.unit_toml.replace("%i", "one");
            let valid = Unit::parse(&Source {
                file: "x.toml".into(),
                text,
            })
            .is_ok();
            assert!(valid || told, "{}", &whole[..end]);
        }
    }
}
