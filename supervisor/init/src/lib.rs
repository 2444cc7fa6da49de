//! cairn-init: the initrd's /init, PID 1, and the kernel's module loader, in one static binary.
//!
//! The library is what its two users share: [`protocol`] and [`channel`] are how cairn-manager talks to it; [`main`]
//! is all of the binary.

pub mod channel;
mod console;
pub mod data_state;
mod hotplug;
mod initrd;
mod modules;
mod mounts;
mod pid1;
pub mod protocol;
mod sys;
mod times;
mod uevents;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

pub use sys::CountingAllocator;

use console::say;

/// Runs what this binary was started as, and ends the process or the machine.
///
/// - `/init`, PID 1 in an initrd: the initrd stage;
/// - PID 1 otherwise: the supervisor (`--no-mounts` with `--manager PATH --exec PATH`: for tests and user instances);
/// - `modprobe -q -- NAME`, as the kernel calls it: loads a module;
/// - `hotplug`: loads modules for devices (started by PID 1);
/// - `meanwhile SET`: loads modules beside the initrd stage (started by it).
pub fn main() -> ! {
    std::panic::set_hook(Box::new(|info| {
        say!("internal error: {info}");
        if std::process::id() == 1 {
            restart_machine();
        }
        std::process::exit(70);
    }));
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    if name.ends_with("modprobe") || args.first().is_some_and(|arg| arg == "-q") {
        modprobe(&args);
    }
    if args.first().is_some_and(|arg| arg == "hotplug") {
        hotplug::run();
    }
    if args.first().is_some_and(|arg| arg == initrd::MEANWHILE) {
        initrd::meanwhile(args.get(1).map(String::as_str));
    }
    if std::process::id() != 1 {
        say!("this program is PID 1 of a machine or of a PID namespace; there is nothing to do otherwise");
        std::process::exit(64);
    }
    // The kernel starts an initrd's program under this name; the root's is started by its full path.
    if name == "/init" {
        initrd::run();
    }
    match pid1::Options::parse(args.into_iter()) {
        Ok(options) => pid1::run(options),
        Err(why) => {
            say!("{why}");
            pid1::run(pid1::Options::default());
        }
    }
}

/// What the kernel's usermode helper is asked for: the last argument is a name or an alias.
fn modprobe(args: &[String]) -> ! {
    let name = args.iter().rfind(|arg| !arg.starts_with('-'));
    let loaded = name.is_some_and(|name| modules::Loader::new(Path::new("/")).load(name));
    std::process::exit(i32::from(!loaded));
}

/// Tells the kernel whom to call for modules; it is then called with `-q -- NAME`.
fn set_module_helper(path: &str) {
    let _ = std::fs::write("/proc/sys/kernel/modprobe", path);
}

/// This program in the root: what the initrd stage hands over to.
const IN_ROOT: &str = "/usr/lib/cairn/cairn-init";

/// Makes /dev/console our stdin, stdout and stderr; without one they stay as they are.
fn open_console() {
    if let Ok(console) = File::options().read(true).write(true).open("/dev/console") {
        let _ = rustix::stdio::dup2_stdin(console.as_fd());
        let _ = rustix::stdio::dup2_stdout(console.as_fd());
        let _ = rustix::stdio::dup2_stderr(console.as_fd());
    }
}

/// The last resort of PID 1: time to read the message, then a restart. In a namespace: just the end.
fn restart_machine() -> ! {
    std::thread::sleep(Duration::from_secs(10));
    rustix::fs::sync();
    loop {
        if rustix::system::reboot(rustix::system::RebootCommand::Restart).is_err() {
            std::process::exit(70);
        }
    }
}
