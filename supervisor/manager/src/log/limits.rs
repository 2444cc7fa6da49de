//! How much of each log is kept, and how fast a unit may write: what the unit says (the format has the defaults), and what holds
//! for all together.

use std::collections::BTreeMap;

use cairn_log::{Limits, Rate, UnitLimits};
use cairn_unit::{Manifest, Unit};

use super::{KERNEL, OWN};

/// All logs together, in thousandths of the data file system.
const SHARE: u16 = 100;

/// What holds for one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnitLog {
    /// How much is kept.
    pub(crate) keep: UnitLimits,
    /// How fast it may come.
    pub(crate) rate: Rate,
}

/// What holds for a unit; `None` for the kernel's log and the manager's own.
fn of(unit: Option<&Unit>) -> UnitLog {
    let limits = unit.map(|unit| unit.log.clone()).unwrap_or_default();
    UnitLog {
        keep: UnitLimits {
            bytes: Some(limits.size_max.0),
            age: Some(limits.age_max.duration()),
        },
        rate: Rate {
            burst: limits.burst,
            per_second: limits.rate,
        },
    }
}

/// Every log that the appliance has.
pub(super) fn all(manifest: &Manifest) -> BTreeMap<String, UnitLog> {
    let units = manifest.units.iter();
    let units = units.map(|(name, unit)| (name.as_str().to_owned(), of(Some(&unit.unit))));
    let own = [KERNEL, OWN].map(|name| (name.to_owned(), of(None)));
    units.chain(own).collect()
}

/// The same, as the store wants it.
pub(super) fn keep(units: &BTreeMap<String, UnitLog>) -> Limits {
    Limits {
        // Of units that an earlier version of the appliance had.
        unit: of(None).keep,
        units: units.iter().map(|(name, unit)| (name.clone(), unit.keep)).collect(),
        share: Some(SHARE),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_unit_has_its_own_limits_and_all_others_those_of_the_format() {
        let own = r#"{"log":{"size_max":"2M","age_max":"3d","rate":5,"burst":50}}"#;
        let all = all(&crate::testing::manifest(&[("web", own), ("db", "{}")]));
        let web = all["web"];
        assert_eq!(web.keep.bytes, Some(2 << 20));
        assert_eq!(web.keep.age, Some(Duration::from_secs(3 * 86_400)));
        assert_eq!((web.rate.per_second, web.rate.burst), (5, 50));
        assert_eq!(all["db"], all[KERNEL]);
        let limits = keep(&all);
        assert_eq!(limits.units["web"], web.keep);
        assert_eq!((limits.unit, limits.share), (all["db"].keep, Some(100)));
    }
}
