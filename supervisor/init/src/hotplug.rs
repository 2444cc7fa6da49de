//! A child of PID 1 that loads the modules which devices ask for: all at the start, then those of each device that
//! comes. It parses and allocates, so that PID 1 need not.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;

use crate::modules::{self, Loader};
use crate::uevents::Uevents;

/// Runs until it is killed. Tells PID 1 by SIGUSR1 whenever there may be new devices.
pub(crate) fn run() -> ! {
    let Ok(events) = Uevents::open() else {
        std::process::exit(1)
    };
    crate::console::set_debug_from_cmdline();
    let mut loader = Loader::new();
    let mut listed = modules::listed(Path::new("/usr/lib/modules-load.d"));
    loop {
        loader.load_for_devices(modules::all_devices);
        let _ = kill(getppid(), Signal::SIGUSR1);
        // After the devices: a network card is waited for longer than a firewall.
        for name in listed.drain(..) {
            if !loader.load(&name) {
                crate::console::debug!("module {name}, listed in /usr/lib/modules-load.d, is not there");
            }
        }
        events.wait(None);
        // Devices come in bursts: one look for a burst.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
