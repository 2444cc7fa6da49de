//! The initrd stage of the recovery entry: modules for what there is, and cairn-recovery, again whenever it ends. It mounts no root and changes
//! no disk.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, wait};

use crate::console::say;
use crate::modules::{self, Loader};
use crate::uevents::Uevents;

const PROGRAM: &str = "/usr/lib/cairn/cairn-recovery";
/// How long to wait before the program is started again.
const PAUSE: Duration = Duration::from_secs(3);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(500);

/// Never returns: the machine is restarted or switched off by the program.
pub(super) fn run(uevents: &Uevents, mut loader: Loader) -> ! {
    super::encryption::lock_unopened();
    loop {
        loader.load_for_devices(modules::bus_devices);
        let child = Command::new(PROGRAM).env_clear().stdin(Stdio::inherit()).spawn();
        match child {
            Ok(child) => {
                let end = tend(uevents, &mut loader, child.id());
                say!("recovery has ended ({end}); it is started again");
            }
            Err(error) => say!("cannot start {PROGRAM}: {error}; start the machine again"),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reaps, and loads modules for devices that come, until this child has ended.
fn tend(uevents: &Uevents, loader: &mut Loader, child: u32) -> String {
    loop {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if u32::try_from(pid.as_raw_nonzero().get()).is_ok_and(|pid| pid == child) {
                return format!("{status:?}");
            }
        }
        if uevents.wait(Some(Instant::now() + LOOK)) {
            loader.load_for_devices(modules::bus_devices);
        }
    }
}
