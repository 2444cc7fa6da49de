//! What is around the service: drop-ins, timers, sockets, other units, instances.

use cairn_import::{Fate, File, Level, Siblings};
use cairn_unit::Restart;

use super::{fate, of, packages};

#[test]
fn drop_ins_come_after_the_file() {
    let drop_in = File {
        name: "x.service.d/more.conf",
        text: "[Service]\nRestart=always\nNice=5\n",
    };
    let more = Siblings {
        drop_ins: vec![drop_in],
        ..packages()
    };
    let (unit, found) = of("x.service", "[Service]\nRestart=no\nUser=x\nExecStart=/bin/x\n", &more);
    assert_eq!(unit.service.restart, Restart::Always);
    assert_eq!(
        (found.notes[0].file.as_str(), found.notes[0].line),
        ("x.service.d/more.conf", Some(3))
    );
}

#[test]
fn only_units_that_can_be_there_are_waited_for() {
    let (unit, found) = of(
        "x.service",
        "[Unit]\nAfter=network.target sysinit.target systemd-journald.socket syslog.service db.service y@one.service php8.2-fpm.service\n[Service]\nUser=x\nExecStart=/bin/x\n",
        &packages(),
    );
    let after: Vec<&str> = unit.after.iter().map(|n| n.as_str()).collect();
    assert_eq!(after, ["db", "y@one"]);
    assert_eq!(fate(&found, "After"), Fate::Noted);
    assert!(found.notes[0].text.contains("php8.2-fpm"));
    let (_, found) = of(
        "x.service",
        "[Unit]\nRequires=db.service\n[Service]\nUser=x\nExecStart=/bin/x\n",
        &packages(),
    );
    assert!(found.notes[0].text.contains("needs"), "{:?}", found.notes);
}

#[test]
fn a_timer_starts_the_unit() {
    let timer = "[Timer]\nOnCalendar=Mon..Fri 03:00\nOnBootSec=15min\nOnUnitInactiveSec=1d\nRandomizedDelaySec=1h\nPersistent=true\nAccuracySec=1h\n";
    let more = Siblings {
        timer: Some(File {
            name: "x.timer",
            text: timer,
        }),
        ..packages()
    };
    let (unit, _) = of(
        "x.service",
        "[Service]\nType=oneshot\nUser=x\nExecStart=/bin/x\n",
        &more,
    );
    let timer = unit.timer.unwrap();
    assert_eq!(timer.calendar.len(), 1);
    assert_eq!(timer.after_boot.unwrap().millis(), 900_000);
    assert_eq!(timer.interval.unwrap().millis(), 86_400_000);
    assert_eq!(timer.jitter.unwrap().millis(), 3_600_000);
    assert!(timer.persistent);
    let boot = "[Timer]\nOnBootSec=5\nPersistent=true\n";
    let more = Siblings {
        timer: Some(File {
            name: "x.timer",
            text: boot,
        }),
        ..packages()
    };
    let (unit, _) = of("x.service", "[Service]\nUser=x\nExecStart=/bin/x\n", &more);
    assert!(
        !unit.timer.unwrap().persistent,
        "only a time of the calendar can be missed"
    );
    let zone = "[Timer]\nOnCalendar=03:00 Europe/Berlin\nRandomizedDelaySec=5\n";
    let more = Siblings {
        timer: Some(File {
            name: "x.timer",
            text: zone,
        }),
        ..packages()
    };
    let (unit, found) = of("x.service", "[Service]\nUser=x\nExecStart=/bin/x\n", &more);
    assert_eq!(unit.timer, None);
    assert!(found.changes_behaviour());
}

#[test]
fn sockets_and_paths_start_a_unit() {
    let socket = "[Socket]\nListenStream=127.0.0.1:8080\nListenStream=/run/x/sock\nListenDatagram=53\nAccept=no\nBacklog=7\nSocketMode=0660\n";
    let path = "[Path]\nDirectoryNotEmpty=/var/lib/x/in\nPathExists=/etc/x\n";
    let more = Siblings {
        socket: Some(File {
            name: "x.socket",
            text: socket,
        }),
        path: Some(File {
            name: "x.path",
            text: path,
        }),
        ..packages()
    };
    let service = "[Service]\nUser=x\nExecStart=/bin/x\nStateDirectory=x\n";
    let (unit, found) = of("x.service", service, &more);
    assert!(!unit.starts_with_appliance());
    let sockets: Vec<String> = unit
        .sockets
        .iter()
        .map(|(name, socket)| format!("{name} {:?} {} {}", socket.listen, socket.backlog, socket.mode))
        .collect();
    let expected = [
        "x-1 Tcp(8080) 7 0666",
        "x-2 Unix(Path(\"/run/x/sock\")) 7 0660",
        "x-3 Udp(53) 7 0666",
    ];
    assert_eq!(sockets, expected);
    assert!(unit.runtime.contains_key("/run/x"));
    assert_eq!(
        unit.path,
        Some(cairn_unit::PathTrigger::NotEmpty("/var/lib/x/in".parse().unwrap()))
    );
    let decide = |n: &&cairn_import::Note| n.level == Level::Behaviour;
    let texts: Vec<&str> = found.notes.iter().filter(decide).map(|n| n.text.as_str()).collect();
    assert!(
        texts.len() == 1 && texts[0].contains("exists = \"/etc/x\""),
        "{texts:?}"
    );
    assert_eq!(
        (fate(&found, "Accept"), fate(&found, "Backlog")),
        (Fate::Covered, Fate::Carried)
    );
}

#[test]
fn sockets_that_a_unit_cannot_have_are_told_line_by_line() {
    let socket = "[Socket]\nListenStream=/run/x.sock\nListenStream=@abstract\nListenStream=vsock::5\nListenDatagram=/run/x/log\nAccept=yes\n";
    let more = Siblings {
        socket: Some(File {
            name: "x.socket",
            text: socket,
        }),
        ..packages()
    };
    let (unit, found) = of("x.service", "[Service]\nUser=x\nExecStart=/bin/x\n", &more);
    assert!(unit.sockets.is_empty() && unit.starts_with_appliance());
    let decide = |n: &&cairn_import::Note| n.level == Level::Behaviour;
    assert_eq!(found.notes.iter().filter(decide).count(), 5, "{:?}", found.notes);
}

#[test]
fn a_template_keeps_its_instance_open() {
    let (unit, found) = of(
        "w@.service",
        "[Unit]\nDescription=Worker %i of 100%%\n[Service]\nUser=w\nExecStart=/bin/w --queue=%i %p\nStateDirectory=w/%i\n",
        &packages(),
    );
    assert_eq!(found.name, "w@");
    assert_eq!(unit.description, "Worker one of 100%");
    assert_eq!(unit.service.command, ["/bin/w", "--queue=one", "w"]);
    assert!(unit.state.contains_key("/var/lib/w/one"));
}
