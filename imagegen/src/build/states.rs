//! The versions of units' states, as the image has them.

use std::collections::BTreeMap;

use cairn_unit::{Manifest, Name, StateVersion, Unit};

use super::BuildError;

/// The version of a unit's state: as its file says, or that of one of its packages; `locked` tells those.
///
/// # Errors
/// The package's version does not have so many numbers.
pub(super) fn version(
    name: &Name,
    unit: &Unit,
    locked: impl Fn(&str) -> Option<String>,
) -> Result<StateVersion, BuildError> {
    let Some(migration) = &unit.migration else {
        return Ok(StateVersion::default());
    };
    let Some(package) = &migration.package else {
        return Ok(migration.version.map(StateVersion::number).unwrap_or_default());
    };
    let version = locked(package).unwrap_or_default();
    StateVersion::of_package(&version, migration.numbers()).ok_or_else(|| BuildError::NoStateVersion {
        unit: name.to_string(),
        package: package.clone(),
        version: format!("`{version}`"),
        numbers: migration.numbers(),
    })
}

/// Those of all units that keep a state.
pub(super) fn all(manifest: &Manifest) -> BTreeMap<String, StateVersion> {
    let units = manifest.units.iter().filter(|(_, unit)| !unit.unit.state.is_empty());
    units
        .map(|(name, unit)| (name.to_string(), unit.state_version.clone()))
        .collect()
}

#[cfg(test)]
mod tests {

    fn of(migration: &str, version: &str) -> Result<String, String> {
        let text = format!(
            r#"{{"description": "x", "packages": ["db-core"], "service": {{"command": ["/x"]}}, "state": {{"/var/lib/db": {{}}}}{migration}}}"#
        );
        let unit = serde_json::from_str(&text).unwrap();
        let locked = |package: &str| (package == "db-core").then(|| version.to_owned());
        super::version(&"db".parse().unwrap(), &unit, locked)
            .map(|version| version.to_string())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_state_has_the_version_that_its_unit_says_or_its_packages() {
        assert_eq!(of("", "1:11.8.6-0+deb13u1").as_deref(), Ok("1"));
        assert_eq!(
            of(r#", "migration": {"version": 4}"#, "1:11.8.6-0+deb13u1").as_deref(),
            Ok("4")
        );
        let follows = r#", "migration": {"package": "db-core", "steps": [{"up": ["/u"]}]}"#;
        assert_eq!(of(follows, "1:11.8.6-0+deb13u1").as_deref(), Ok("11.8"));
        let refused = of(follows, "17-1").unwrap_err();
        assert!(
            refused.contains("its state has the version of db-core, and `17-1` has fewer than 2 numbers"),
            "{refused}"
        );
    }
}
