//! A manager that is replaced by another program, as an upgrade does it, and what happens when that one is no good.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::World;

/// The script of the manager that hands over to the program in the file `new`.
const HAND_OVER: &str = "hello\nspawn 1 sleep 1000\nexpect spawned\nreplace new\nexpect Replacing\nexit 1";

#[test]
fn a_manager_can_be_replaced_and_its_successor_gets_everything() {
    let end = World::new()
        .program("new")
        .manager(0, HAND_OVER)
        .manager(1, "hello\nexpect Resumed\ndie")
        .manager(2, "hello\nexpect Resumed\nshutdown 100")
        .run();
    assert!(
        end.has("started 0 manager") && end.has("started 1 new") && end.has("started 2 new"),
        "{:#?}",
        end.log
    );
    assert!(end.of(1).contains(&"running token=1"));
    assert!(end.of(2)[0].ends_with("origin: Replacement }"));
}

#[test]
fn a_replacement_may_lie_in_memory() {
    let end = World::new()
        .program("new")
        .manager(0, "hello\nreplace-in-memory new\nexit 1")
        .manager(1, "hello\nexpect Resumed\nshutdown 100")
        .run();
    assert!(end.of(1)[0].ends_with("origin: Replacement }"), "{:#?}", end.log);
}

#[test]
fn a_replacement_that_fails_three_times_is_given_up_with_its_last_words() {
    let end = World::new()
        .program("new")
        .manager(0, HAND_OVER)
        .manager(4, "hello\nexpect Resumed\nshutdown 100")
        .others("hello\nprint I cannot read this\nexit 1")
        .run();
    let names: Vec<_> = end
        .log
        .iter()
        .filter_map(|line| line.strip_prefix("started "))
        .collect();
    assert_eq!(names, ["0 manager", "1 new", "2 new", "3 new", "4 manager"]);
    assert!(end.of(4)[0].ends_with("origin: FellBack }"), "{:#?}", end.log);
    assert!(end.of(4).contains(&"running token=1"));
    assert!(
        end.console
            .contains("failed 3 times in a row; going back to the one in the image")
    );
    assert!(end.console.contains("cairn:   I cannot read this"));
}

#[test]
fn a_replacement_that_does_not_say_hello_in_time_is_given_up() {
    let end = World::new()
        .program("new")
        .arguments(&["--greeting-ms", "300"])
        .manager(0, HAND_OVER)
        .manager(1, "expect never")
        .manager(2, "hello\nexpect Resumed\nshutdown 100")
        .run();
    assert!(
        end.has("started 1 new") && end.has("started 2 manager"),
        "{:#?}",
        end.log
    );
    assert!(end.console.contains("did not say hello within"), "{}", end.console);
}

#[test]
fn what_is_no_program_does_not_replace_the_manager() {
    let world = World::new()
        .manager(0, "hello\nreplace text\nexpect Refused\nreplace .\ndie")
        .manager(1, "hello\nreplace broken\nexpect Replacing\nexit 0")
        .manager(2, "hello\nexpect Resumed\nshutdown 100");
    let file = |name: &str, mode: u32| {
        let path = world.folder.path().join(name);
        fs::write(&path, "text").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("text", 0o644);
    file("broken", 0o755);
    let end = world.run();
    assert!(
        end.of(0).contains(&"Refused { request: 7, errno: 13 }"),
        "{:#?}",
        end.log
    );
    assert!(end.of(1)[0].ends_with("origin: Image }"), "{:#?}", end.log);
    // One that only looks like a program is found out when it is started.
    assert!(end.console.contains("cannot start the manager"), "{}", end.console);
    assert!(end.of(2)[0].ends_with("origin: FellBack }"), "{:#?}", end.log);
}
