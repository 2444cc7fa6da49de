//! Virtual machines under QEMU: a machine as a plain value ([`MachineSpec`]), the exact command line it stands for, and
//! the one place that starts it ([`Running::start`]).
//!
//! What a machine is (`spec`) never touches the system and is tested as a value. How QEMU is found and started is a
//! [`Launcher`]'s business: from the host's path, or from the tools tree in a sandbox. `qmp` talks to a running machine,
//! `accel` decides once whether KVM is of use, `run` is `imagegen run`.
//!
//! A machine that was started is always ended: when its [`Running`] is dropped QEMU is killed by its own process id.

mod accel;
mod error;
mod firmware;
mod kernel;
mod launch;
mod qmp;
mod run;
mod running;
mod spec;
mod tpm;

pub use accel::{Accel, AccelCache, decide_accel};
pub use error::MachineError;
pub use firmware::Firmware;
pub use launch::{Bind, HostLauncher, Launch, Launcher};
pub use qmp::{Event, Qmp};
pub use run::{RunOptions, run_interactive};
pub use running::Running;
pub use spec::{Boot, CONTROL_PORT, Cache, Disk, DiskBus, DiskFormat, Filter, Forward, MachineSpec, Sockets, Video};
