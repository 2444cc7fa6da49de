//! The owner's choices for single units: `/data/site/site.toml`. Only what can change without another image.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::Limits;
use crate::manifest::{Manifest, ManifestUnit};
use crate::net_values::TimeServer;
use crate::outside::SiteNetwork;
use crate::policy::SiteUpgrade;
use crate::problem::{Problems, Source, nearest};
use crate::setting::Chosen;
use crate::values::{Bytes, Domain, Name};

/// The owner's choices.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// The appliance as a whole. Written when it is set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appliance: Option<SiteAppliance>,
    /// When later versions are installed, if not as the appliance was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<SiteUpgrade>,
    /// The outside network, if it is not to be as DHCP has it.
    #[serde(skip_serializing_if = "SiteNetwork::is_empty")]
    pub network: SiteNetwork,
    /// Choices for single units, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<Name, SiteUnit>,
    /// While the appliance waits to be set up: the units that run all the same.
    #[serde(skip)]
    pub only: Option<BTreeSet<Name>>,
}

/// The owner's choices for the appliance as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteAppliance {
    /// Its name in the network: it is reached as `NAME.local`, and its units know each other as `UNIT.NAME.internal`.
    pub name: Name,
    /// The domain that it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// Servers that tell the time, in place of those that the unit which keeps the clock asks else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<TimeServer>,
}

/// The owner's choices for one unit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteUnit {
    /// Whether it is started; left out: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Limits in place of the unit's own.
    pub limits: LimitsChange,
    /// Values for what the unit offers as settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: Chosen,
}

macro_rules! changes {
    ($($(#[doc = $doc:literal])* $key:ident: $kind:ty => $set:expr;)*) => {
        /// Limits in place of a unit's own; what is left out stays.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitsChange {
            $($(#[doc = $doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<$kind>,)*
        }

        impl LimitsChange {
            /// The limits with these changes.
            pub fn apply(&self, limits: &Limits) -> Limits {
                let mut limits = limits.clone();
                $(if let Some(value) = self.$key {
                    let set: fn(&mut Limits, $kind) = $set;
                    set(&mut limits, value);
                })*
                limits
            }
        }
    };
}

changes! {
    /// As in the unit.
    memory_high: Bytes => |l, v| l.memory_high = Some(v);
    /// As in the unit.
    memory_max: Bytes => |l, v| l.memory_max = v;
    /// As in the unit.
    swap_max: Bytes => |l, v| l.swap_max = v;
    /// As in the unit.
    cpu_weight: u16 => |l, v| l.cpu_weight = v;
    /// As in the unit.
    cpu_quota: u32 => |l, v| l.cpu_quota = Some(v);
    /// As in the unit.
    io_weight: u16 => |l, v| l.io_weight = v;
    /// As in the unit.
    io_read_max: Bytes => |l, v| l.io_read_max = Some(v);
    /// As in the unit.
    io_write_max: Bytes => |l, v| l.io_write_max = Some(v);
    /// As in the unit.
    disk_max: Bytes => |l, v| l.disk_max = Some(v);
    /// As in the unit.
    processes: u32 => |l, v| l.processes = v;
    /// As in the unit; holds from the next start on.
    open_files: u64 => |l, v| l.open_files = v;
}

impl Site {
    /// Parses a site and checks it against the appliance that it is for.
    pub fn parse(source: &Source, manifest: &Manifest) -> Result<Site, Problems> {
        source.parse::<Site>()?.checked(source, manifest)
    }

    /// Checks choices that stand in `source` against the appliance that they are for.
    pub(crate) fn checked(mut self, source: &Source, manifest: &Manifest) -> Result<Site, Problems> {
        let site = &mut self;
        let mut found = Problems::default();
        if site.appliance.is_none() {
            site.only = Site::unset(manifest).only;
        }
        if let Some(appliance) = site.appliance.as_ref().filter(|a| a.name.instance().is_some()) {
            let message = format!("an appliance cannot be called `{}`", appliance.name);
            let help = "it is a host name: leave out the `@`".to_owned();
            found
                .0
                .push(source.problem_at(&["appliance", "name"], message, Some(help)));
        }
        if let Some(upgrade) = &site.upgrade {
            if manifest.upgrade.is_none() {
                let message = "the appliance was built without upgrades".to_owned();
                let help = Some("leave [upgrade] out".to_owned());
                found.0.push(source.problem_at(&["upgrade"], message, help));
            }
            crate::checks::bandwidth(upgrade.bandwidth, &mut |path, message, help| {
                found.0.push(source.problem_at(path, message, Some(help.to_owned())));
            });
        }
        found.0.extend(site.network.check(source));
        for (name, choice) in &site.units {
            let Some(unit) = manifest.units.get(name) else {
                let near = nearest(name.as_str(), manifest.units.keys().map(Name::as_str));
                let help = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`cairn status` lists the units".to_owned(),
                };
                let message = format!("the appliance has no unit `{name}`");
                found
                    .0
                    .push(source.problem_at(&["units", name.as_str()], message, Some(help)));
                continue;
            };
            if choice.enabled == Some(false)
                && let Some(consumer) = site.consumer(manifest, unit)
            {
                let message = format!("`{name}` cannot be disabled: `{consumer}` needs it");
                let help = format!("disable `{consumer}` too");
                found
                    .0
                    .push(source.problem_at(&["units", name.as_str(), "enabled"], message, Some(help)));
            }
            for (key, value) in &choice.settings {
                let offered = &unit.unit.settings;
                let (message, help) = match offered.get(key).map(|setting| setting.check(value)) {
                    Some(Ok(())) => continue,
                    Some(Err(why)) => (format!("`{key}` {why}"), format!("`cairn set {name}` says what it is")),
                    None => {
                        let help = match nearest(key.as_str(), offered.keys().map(Name::as_str)) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => format!("`cairn set {name}` lists its settings"),
                        };
                        (format!("`{name}` has no setting `{key}`"), help)
                    }
                };
                let path = ["units", name.as_str(), "settings", key.as_str()];
                found.0.push(source.problem_at(&path, message, Some(help)));
            }
            let limits = choice.limits.apply(&unit.unit.limits);
            crate::behaviour::limits(&limits, &mut |path, message, help| {
                let path = [&["units", name.as_str()], path].concat();
                found.0.push(source.problem_at(&path, message, Some(help.to_owned())));
            });
        }
        found.or(self)
    }

    /// An enabled unit that needs what `unit` provides.
    fn consumer<'a>(&self, manifest: &'a Manifest, unit: &ManifestUnit) -> Option<&'a Name> {
        let needs = |consumer: &ManifestUnit| {
            let mut needs = consumer.unit.needs.values().filter(|need| !need.optional);
            needs.any(|need| unit.unit.provides.contains_key(&need.from))
        };
        let mut consumers = manifest
            .units
            .iter()
            .filter(|(name, other)| needs(other) && self.enabled(name.as_str()));
        consumers.next().map(|(name, _)| name)
    }

    /// The choices of an owner who has made none.
    pub fn unset(manifest: &Manifest) -> Site {
        let only = manifest.setup.clone().map(|setup| {
            let mut all = BTreeSet::from([setup]);
            loop {
                let units = all.iter().filter_map(|name| manifest.units.get(name));
                let names = units.flat_map(|unit| unit.waits_for.iter().chain(&unit.unit.with));
                let more: BTreeSet<Name> = names
                    .filter(|name| manifest.units.contains_key(*name))
                    .cloned()
                    .collect();
                let before = all.len();
                all.extend(more);
                if all.len() == before {
                    return all;
                }
            }
        });
        Site {
            only,
            ..Site::default()
        }
    }

    /// Whether a unit is started with the appliance.
    pub fn enabled(&self, unit: &str) -> bool {
        if self.only.as_ref().is_some_and(|only| !only.contains(unit)) {
            return false;
        }
        self.units.get(unit).and_then(|u| u.enabled).unwrap_or(true)
    }

    /// What was chosen of what units offer, by unit.
    pub fn chosen(&self) -> BTreeMap<Name, Chosen> {
        let units = self.units.iter().filter(|(_, unit)| !unit.settings.is_empty());
        units
            .map(|(name, unit)| (name.clone(), unit.settings.clone()))
            .collect()
    }

    /// A unit's limits.
    pub fn limits(&self, unit: &str, own: &Limits) -> Limits {
        self.units
            .get(unit)
            .map_or_else(|| own.clone(), |u| u.limits.apply(own))
    }
}
