//! The manager may be killed at any moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

const UNITS: [&str; 3] = ["caddy", "mariadb", "slapd"];
const BACK: Duration = Duration::from_secs(60);

/// The processes in a control group and those below it that hold a service's own.
fn processes(machine: &mut Machine, group: &str) -> Vec<i32> {
    let path = format!("/sys/fs/cgroup/cairn/{group}/cgroup.procs");
    let text = must(must(machine.agent()).read_file(&path));
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn services(machine: &mut Machine) -> BTreeMap<&'static str, Vec<i32>> {
    UNITS
        .into_iter()
        .map(|unit| (unit, processes(machine, &format!("units/{unit}"))))
        .collect()
}

#[test]
fn a_manager_killed_five_times_comes_back_and_no_service_notices() {
    let home = set_up("manager");
    let mut machine = ready(&home);
    let before = services(&mut machine);
    assert!(before.values().all(|pids| !pids.is_empty()), "{before:?}");
    for kill in 1..=5 {
        let manager = processes(&mut machine, "manager");
        assert_eq!(manager.len(), 1, "{manager:?}");
        must(must(machine.agent()).kill(manager[0]));
        wait_until(&format!("cairn status shows all ready after kill {kill}"), BACK, || {
            let status = must(must(machine.agent()).exec(&["/usr/bin/cairn", "status"], BACK));
            // 0: every unit is ready. The manager that answers must be another one.
            status.status == 0 && processes(&mut machine, "manager").iter().all(|pid| *pid != manager[0])
        });
        assert_eq!(services(&mut machine), before, "after kill {kill}");
    }
    all_services_answer(&mut machine);
    switch_off(machine);
    is_clean(&home);
}
