//! The text formats of Cairn: the unit, the recipe of an appliance, and the manifest compiled from both.
//!
//! Text becomes types here, once; nothing after this crate checks a name, a size or a port again. Parsing is
//! pure: the only I/O is reading the named file. Every problem is a [`Problem`] with file, line, column and
//! what to do. Nothing here knows a service by name.

mod checks;
mod graph;
mod manifest;
mod problem;
mod recipe;
mod unit;
mod values;

pub use graph::{Binding, Graph};
pub use manifest::{Account, Manifest, ManifestUnit, Template};
pub use problem::{Problem, Problems, Source, nearest};
pub use recipe::{Arch, Boot, Exclude, Format, HostTree, ImageSpec, Profile, Recipe, TestOptions};
pub use unit::{
    Command, Directory, Kind, Limits, Need, Network, NetworkMode, Protocol, Provide, Publish, Ready, ReadyWhen,
    Restart, SandboxGrants, Secret, SecretKind, Service, Setup, Unit, UserSpec,
};
pub use values::{Bytes, Mode, Name, Path, Seconds, Signal, ValueError};
