//! A unit's secrets in a folder of the host's memory: its own account alone reads them, nobody in the sandbox changes them, and one
//! that is replaced outside is seen while the unit runs.

mod common;
use common::{bind, root, run, script, start_on};

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use cairn_sandbox::{Plan, User};

fn put(folder: &Path, text: &str) {
    let new = folder.join(".tls");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o400)).unwrap();
    chown(&new, Some(33), Some(33)).unwrap();
    std::fs::rename(new, folder.join("tls")).unwrap();
}

fn with(folder: &Path, text: &str, uid: u32) -> Plan {
    let mut inside = script(text);
    inside.mounts.push(bind(folder, "/tmp/secrets", false));
    inside.user = User {
        uid,
        gid: uid,
        groups: Vec::new(),
    };
    inside
}

#[test]
fn a_replaced_secret_is_seen_by_the_units_account_while_it_runs() {
    if !root("a_replaced_secret_is_seen_by_the_units_account_while_it_runs") {
        return;
    }
    // On a tmpfs, as /run is.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    put(folder.path(), "one\n");
    let text =
        "cd /tmp/secrets; cat tls; stat -c '%a %u %g' tls; echo x > tls; rm -f tls; read line; cat tls; echo $line";
    let (read, mut write) = std::io::pipe().unwrap();
    let output = tempfile::tempfile().unwrap();
    let streams = [
        read.into(),
        output.try_clone().unwrap().into(),
        output.try_clone().unwrap().into(),
    ];
    let plan = serde_json::to_vec(&with(folder.path(), text, 33)).unwrap();
    let mut started = start_on(streams, &[], &plan, &[]);
    let (_, reports) = started.until_running();
    // Opened anew each time: to read where the sandbox writes would move the place at which it writes.
    let said = || std::fs::read_to_string(format!("/proc/self/fd/{}", output.as_raw_fd())).unwrap();
    while !said().contains("rm:") {
        std::thread::yield_now();
    }
    put(folder.path(), "two\n");
    write.write_all(b"end\n").unwrap();
    started.finish(reports);
    let said = said();
    assert!(said.starts_with("one\n400 33 33\n"), "{said}");
    assert!(said.ends_with("two\nend\n"), "{said}");
    let other = run(&with(folder.path(), "cat /tmp/secrets/tls", 34));
    assert!(!other.output.contains("two"), "{other:?}");
}
