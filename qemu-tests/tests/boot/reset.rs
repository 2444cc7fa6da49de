//! The factory reset of a real appliance.

use super::daemons::Guest;
use super::*;

const KEPT: &str = "/data/kept-by-the-owner";

#[test]
fn a_factory_reset_removes_all_data_and_keeps_the_version() {
    let home = set_up("factory-reset");
    let mut guest = Guest(ready(&home));
    let before = secret(&mut guest.0, "mariadb", "admin");
    must(must(guest.0.agent()).write_file(KEPT, b"old"));
    let (code, said) = guest.ran(&["/usr/bin/cairn", "factory-reset", "--yes", "another"], READY);
    assert!(
        code == 1 && said.contains("nothing was removed: a factory reset needs this appliance's name, base-test"),
        "{said}"
    );
    let mark = guest.0.serial.mark();
    guest.cairn(&["factory-reset", "--yes", "base-test"]);
    must(guest.0.wait_reset(OFF));
    for line in [
        "factory reset: making the data partition",
        "Cairn: base-test 0.1.0",
        "Ready: https://",
    ] {
        must(guest.0.serial.wait_from(mark, line, READY));
    }
    assert!(
        must(guest.0.agent()).read_file(KEPT).is_err(),
        "a file outlived the reset"
    );
    assert_ne!(secret(&mut guest.0, "mariadb", "admin"), before);
    all_services_answer(&mut guest.0);
    switch_off(guest.0);
    is_clean(&home);
}
