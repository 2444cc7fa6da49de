//! What PID 1 takes, in the build that the image has: `CAIRN_STATIC_INIT` names it (static, `--profile appliance`; a build of an
//! image leaves one in `target/appliance/TARGET/appliance/cairn-init`).

mod common;

use std::fmt::Write as _;

use common::{World, lines};

/// KiB.
const MOST: u32 = 1024;

/// A manager's script: fifty units with their descriptors and hundreds of exits, then a look at PID 1's memory, then a shutdown with a
/// process that has to be waited for, named and killed, and looks on meanwhile.
fn script(samples: &std::path::Path) -> String {
    let mut script = String::from("hello\n");
    for unit in 1..=50 {
        let _ = writeln!(script, "spawn {unit} sleep 1000");
        for kind in ["notify", "status", "logr", "logw"] {
            let _ = writeln!(script, "store {kind}@unit-{unit} text");
        }
    }
    for n in 1..=300 {
        let _ = write!(script, "spawn {0} exit 3\nexpect token={0} exit\nack {n}\n", 1000 + n);
    }
    let samples = samples.display();
    let watch = format!("exec >>{samples}; trap '' TERM; while :; do grep RssFile /proc/1/status; sleep 0.1; done");
    let begun = format!("until [ -s {samples} ]; do sleep 0.1; done");
    let _ = write!(
        script,
        "rss\nspawn 2000 {watch}\nspawn 2001 {begun}\nexpect token=2001 exit\nshutdown 4000"
    );
    script
}

#[test]
#[ignore = "needs CAIRN_STATIC_INIT, the path of cairn-init as the image has it"]
fn pid_1_takes_less_than_a_megabyte_and_needs_no_more_of_its_program_to_shut_down() {
    let mut world = World::new();
    world.init = std::env::var_os("CAIRN_STATIC_INIT")
        .expect("CAIRN_STATIC_INIT is set")
        .into();
    let samples = world.folder.path().join("samples");
    let script = script(&samples);
    let world = world.manager(0, &script);
    let end = world.run();
    assert!(end.console.contains("s more for"), "it waited: {}", end.console);
    assert!(
        end.console.contains("killing what did not stop"),
        "it killed: {}",
        end.console
    );

    let rss = end.log.iter().find_map(|line| line.strip_prefix("rss ")).unwrap();
    let (all, files) = rss.split_once(' ').unwrap();
    let (all, files): (u32, u32) = (all.parse().unwrap(), files.parse().unwrap());
    println!("VmRSS {all} KiB, of that {files} KiB of the program's file");
    assert!((100..MOST).contains(&all), "{all} KiB");
    let seen = kib(&lines(&samples));
    assert!(
        seen.len() > 10 && seen.iter().all(|kib| *kib == files),
        "{files} KiB before, then {seen:?}"
    );
}

/// The numbers of lines like `RssFile: 123 kB`.
fn kib(lines: &[String]) -> Vec<u32> {
    let word = |line: &String| line.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    lines.iter().filter_map(word).collect()
}
