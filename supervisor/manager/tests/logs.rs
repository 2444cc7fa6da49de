//! Logs over the death of managers: every line once and in order, whatever is killed when.

mod fake_init;

use std::fs::OpenOptions;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixDatagram;

use fake_init::World;
use rustix::fs::{CWD, FileType, Mode, mknodat};

const QUIET: &str = r#"{"service":{"command":["/bin/sleep","1000"]}}"#;

fn numbered(word: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{word} {number}")).collect()
}

fn same(found: &[String], expected: &[String]) {
    let at = found.iter().zip(expected).position(|(a, b)| a != b);
    let at = at.unwrap_or(found.len().min(expected.len()));
    let part = &found[at.saturating_sub(2)..found.len().min(at + 3)];
    assert!(
        found == expected,
        "{} lines for {}, another at {at}: {part:?}",
        found.len(),
        expected.len()
    );
}

#[test]
fn no_line_is_lost_or_stored_twice_by_a_manager_that_is_killed_while_units_write() {
    let writer = |word: &str| {
        let script = format!(
            "i=0; while [ $i -lt 8000 ]; do i=$((i+1)); echo {word} $i; [ $((i % 50)) = 0 ] && sleep 0.01; done; exec sleep 1000"
        );
        serde_json::json!({"service": {"command": ["/bin/sh", "-c", script]}}).to_string()
    };
    let (one, two) = (writer("one"), writer("two"));
    let mut world = World::new(&[("one", &one), ("two", &two)]);
    // A unit whose process no manager knows yet would be started again.
    world.until("ready", |w| w.state("one") == "ready" && w.state("two") == "ready");
    let mut kills = 0;
    while world.logged("one").len() < 8000 || world.logged("two").len() < 8000 {
        world.kill_manager();
        kills += 1;
        // A manager that is killed before it reads anything gets nowhere: each third lives until it has.
        if kills % 3 == 0 {
            let before = world.logged("one").len() + world.logged("two").len();
            world.until("more lines", |w| {
                let all = w.logged("one").len() + w.logged("two").len();
                all > before || all == 16_000
            });
        }
    }
    assert!(kills > 10, "{kills} kills");
    same(&world.logged("one"), &numbered("one", 8000));
    same(&world.logged("two"), &numbered("two", 8000));
}

#[test]
fn what_dev_log_takes_is_stored_once_over_the_death_of_managers() {
    let mut world = World::new(&[("one", QUIET)]);
    let path = world.at("run/cairn/log/one");
    world.until("ready", |w| w.state("one") == "ready" && path.exists());
    let sender = std::thread::spawn(move || {
        let socket = UnixDatagram::unbound().unwrap();
        for number in 1..=3000 {
            let text = format!("<29>Nov 22 08:32:02 d[7]: said {number}");
            socket.send_to(text.as_bytes(), &path).unwrap();
        }
    });
    let mut kills = 0;
    while world.logged("one").len() < 3000 {
        world.kill_manager();
        kills += 1;
        if kills % 3 == 0 {
            let before = world.logged("one").len();
            world.until("more", |w| w.logged("one").len() > before || before == 3000);
        }
    }
    sender.join().unwrap();
    assert!(kills > 3, "{kills} kills");
    same(&world.logged("one"), &numbered("said", 3000));
}

#[test]
fn kernel_messages_are_stored_once_though_each_manager_sees_them_all() {
    let mut world = World::prepared(&[("one", QUIET)], |place| {
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, place.join("dev/kmsg"), FileType::Fifo, mode, 0).unwrap();
    });
    let kernel = OpenOptions::new().read(true).write(true).open(world.at("dev/kmsg"));
    let mut kernel = kernel.unwrap();
    let mut told = 0;
    for round in 1..=5_usize {
        for number in 0..round * 8 {
            let record = format!("4,{},{},-;kernel {}\n", 300 + number, number * 1000, number + 1);
            kernel.write_all(record.as_bytes()).unwrap();
            // The kernel gives one record a read.
            world.until("read", |_| rustix::io::ioctl_fionread(&kernel).unwrap() == 0);
        }
        told = round * 8;
        world.until("stored", |w| w.logged("kernel").len() >= told);
        world.kill_manager();
    }
    same(&world.logged("kernel"), &numbered("kernel", told));
}

#[test]
fn the_last_lines_of_a_failed_unit_stand_on_the_console_and_why_it_failed_in_its_log() {
    let command =
        r#"{"service":{"command":["/bin/sh","-c","echo one; echo the reason >&2; exit 3"],"restart":"never"}}"#;
    let mut world = World::new(&[("bad", command)]);
    world.until("said", |w| {
        std::fs::read_to_string(w.at("dev/console"))
            .unwrap()
            .contains("  bad: the reason")
    });
    assert_eq!(world.logged("bad"), ["one", "the reason"]);
    let mut text = String::new();
    world
        .open("/v1/logs?unit=bad&priority=err")
        .read_to_string(&mut text)
        .unwrap();
    assert!(
        text.starts_with("HTTP/1.0 200") && text.contains("test bad: failed: "),
        "{text}"
    );
    assert!(!text.contains("the reason"), "{text}");
}

#[test]
fn a_follower_sees_what_was_and_what_comes_and_other_questions_are_answered_meanwhile() {
    let mut world = World::new(&[("one", QUIET), ("two", QUIET)]);
    let path = world.at("run/cairn/log/one");
    world.until("ready", |w| w.state("one") == "ready" && w.state("two") == "ready");
    let socket = UnixDatagram::unbound().unwrap();
    let say = |text: &str| assert!(socket.send_to(text.as_bytes(), &path).is_ok());
    say("<13>x: before");
    world.until("stored", |w| w.logged("one") == ["before"]);
    let mut reader = world.open("/v1/logs?unit=one&lines=1&follow=1&output=json");
    let mut line = String::new();
    while !line.contains("\"MESSAGE\":\"before\"") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the answer ended");
    }
    for number in 0..5 {
        assert_eq!(world.state("two"), "ready");
        say(&format!("<13>x: after {number}"));
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("\"MESSAGE\":\"after {number}\"")), "{line}");
    }
    let status = |path: &str| {
        let mut first = String::new();
        world.open(path).read_line(&mut first).unwrap();
        first.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("/v1/logs?unit=none"), "404");
    assert_eq!(status("/v1/logs?since=never"), "400");
    assert!(world.manager_kib() < 3 << 10, "{} KiB", world.manager_kib());
}

#[test]
fn what_units_say_at_the_very_end_is_stored_before_the_machine_stops() {
    let command = r#"{"service":{"command":["/bin/sh","-c","trap 'echo last words; exit 0' TERM; echo begun; while :; do sleep 0.01; done"]}}"#;
    let mut world = World::new(&[("one", command)]);
    world.until("begun", |w| w.logged("one") == ["begun"]);
    world.power();
    world.until("shutdown asked", |w| w.shut_down());
    assert_eq!(world.logged("one"), ["begun", "last words"]);
}
