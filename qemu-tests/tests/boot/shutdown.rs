//! Every way to end a boot leaves the data unmounted and sound.

use super::*;

#[test]
fn the_power_button_leaves_a_clean_file_system() {
    let home = set_up("power-button");
    switch_off(ready(&home));
    is_clean(&home);
}

#[test]
fn cairn_poweroff_leaves_a_clean_file_system() {
    let home = set_up("poweroff");
    let mut machine = ready(&home);
    // The answer may be lost when the machine is off first: its end is what counts.
    let _ = must(machine.agent()).exec(&["/usr/bin/cairn", "poweroff"], OFF);
    must(machine.wait_off(OFF));
    is_clean(&home);
}

#[test]
fn ctrl_alt_del_reboots_with_a_clean_file_system() {
    let home = set_up("ctrl-alt-del");
    let mut machine = ready(&home);
    must(machine.ctrl_alt_del());
    must(machine.wait_for("cairn: starting again", OFF));
    must(machine.wait_reset(OFF));
    // At the reset, before the next boot mounts anything.
    must(machine.kill());
    is_clean(&home);
}
