//! The text formats of Cairn: the unit, the recipe of an appliance, and the manifest compiled from both.
//!
//! Text becomes types here, once; nothing after this crate checks a name, a size or a port again. Parsing is
//! pure: the only I/O is reading the named file. Every problem is a [`Problem`] with file, line, column and
//! what to do. Nothing here knows a service by name.

mod behaviour;
mod bounds;
mod calendar;
mod checks;
mod dump;
mod first;
mod graph;
mod manifest;
mod migration;
mod need;
mod net_values;
mod outside;
mod policy;
mod problem;
mod recipe;
mod service;
mod setting;
mod site;
mod trigger;
mod unit;
mod values;

pub use bounds::{ControlScope, Limits, LogLimits, Network, NetworkMode, Protocol, Publish, SandboxGrants};
pub use calendar::Calendar;
pub use dump::Dump;
pub use first::{Administrator, FIRST_MAX, First};
pub use graph::{Binding, Graph, account_name};
pub use manifest::{Account, Manifest, ManifestUnit, Template};
pub use migration::{Migration, MigrationStep, StateVersion};
pub use need::{Ask, AskKind, Bond, Need, Upstream};
pub use net_values::{DeviceName, INTERNAL, Mac, NetAddress, SearchDomain, TimeServer};
pub use outside::{DNS_MAX, Ipv6, Method, SEARCH_MAX, SiteDevice, SiteNetwork};
pub use policy::{Hold, Moment, SiteUpgrade, UpgradeMode, UpgradePolicy, Window};
pub use problem::{Problem, Problems, Source, nearest};
pub use recipe::{
    Arch, Boot, Encryption, Enroll, Exclude, Format, HostTree, ImageSpec, Profile, Recipe, TestOptions, Upgrade,
};
pub use service::{
    Check, Command, Dependants, Failure, FailureAction, Health, HttpCheck, Kind, Ready, ReadyWhen, Reload, Restart,
    Service,
};
pub use setting::{Chosen, Setting, SettingKind, SettingValue};
pub use site::{LimitsChange, Site, SiteAppliance, SiteUnit};
pub use trigger::{Listen, ListenSocket, PathTrigger, Timer};
pub use unit::{AccountSpec, AccountStep, Directory, Provide, Secret, SecretKind, Setup, Unit, UserSpec};
pub use values::{Bytes, Domain, Mode, Name, Path, Seconds, Signal, ValueError, is_label};
