//! The manifest: what `imagegen` compiled, as the running appliance reads it from
//! `/usr/lib/cairn/appliance.json`. Everything in it was checked at build time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::migration::StateVersion;
use crate::net_values::TimeServer;
use crate::recipe::Upgrade;
use crate::setting::Chosen;
use crate::unit::Unit;
use crate::values::{Domain, Name, Path};

/// The compiled appliance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The appliance's name.
    pub name: Name,
    /// Its version.
    pub version: String,
    /// One line that says what it is.
    pub description: String,
    /// The image's time, in seconds since 1970: a lower bound for the clock.
    pub built: u64,
    /// The domain that the owner chose; a build knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// The time servers that the owner chose; a build knows none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<TimeServer>,
    /// The unit by which the owner sets the appliance up. Until that is done, only it and what it needs run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Name>,
    /// What the owner chose of what single units offer, by unit; a build knows none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chosen: BTreeMap<Name, Chosen>,
    /// The units that the owner does not let run; a build knows none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub disabled: BTreeSet<Name>,
    /// Where later versions come from, if the appliance can be upgraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// The units, by name. A copy of the manifest shares them until one is changed: they are most of what a manager with many units keeps.
    pub units: BTreeMap<Name, Arc<ManifestUnit>>,
}

/// A unit with what only its root could tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestUnit {
    /// The unit as written.
    pub unit: Unit,
    /// The service root's path in the image: `/services/NAME`.
    pub root: Path,
    /// Which block of 65,536 host ids is the unit's: its range starts at `(1 + index) * 65536`. Fixed in the lock.
    pub index: u32,
    /// The accounts of the root's `/etc/passwd`, by name.
    pub accounts: BTreeMap<String, Account>,
    /// The groups of the root's `/etc/group`: name to id.
    pub groups: BTreeMap<String, u32>,
    /// Files rendered before every start.
    pub templates: Vec<Template>,
    /// The version of its state.
    #[serde(default, skip_serializing_if = "StateVersion::is_first")]
    pub state_version: StateVersion,
    /// The units that must be ready before this one starts.
    pub waits_for: Vec<Name>,
}

/// One account of a service root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its id inside the unit.
    pub uid: u32,
    /// Its primary group's id.
    pub gid: u32,
    /// Further groups' ids.
    pub groups: Vec<u32>,
    /// Its home folder.
    pub home: Path,
}

/// A file of an overlay whose name ended in `.tmpl`: the image holds the template's text at `PATH.tmpl`, and at `path` a link to where the
/// rendered file is seen, below [`Template::FOLDER`]. So a new text takes the old one's place at once, also under a running unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Where the rendered file is seen in the unit. The source is the same path with `.tmpl` added.
    pub path: Path,
}

impl Template {
    /// The folder in which a unit sees its rendered files, each at its own path below it.
    pub const FOLDER: &'static str = "/run/config";
}
