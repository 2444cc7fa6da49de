//! The units' certificates: their names, and when they are issued and renewed. What they are and the rules stand in
//! `cairn_config::pki`.

use std::collections::{BTreeMap, BTreeSet};

use cairn_config::pki::{self, AltName, Found, Names, Permitted, Step, Wanted};
use cairn_config::{Real, Timestamp};
use cairn_unit::{Manifest, ManifestUnit, SecretKind};

use crate::config::Config;
use crate::error::Error;

/// The secret by which a unit sees the authority's certificate.
pub(crate) const AUTHORITY: &str = "ca";

/// What a check of all certificates came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Checked {
    /// The units that see other files now.
    pub(crate) changed: BTreeSet<String>,
    /// What was done.
    pub(crate) done: Vec<String>,
    /// What could not be, in sentences.
    pub(crate) failed: Vec<String>,
}

/// The use of a unit's certificate, as the authority's folder has it. A dot is in no unit's name.
pub(crate) fn of(unit: &str, secret: &str) -> String {
    format!("{unit}.{secret}")
}

/// The secrets of a unit that are certificates.
pub(crate) fn secrets(unit: &ManifestUnit) -> impl Iterator<Item = &str> {
    let all = unit.unit.secrets.iter();
    all.filter(|(_, secret)| secret.kind == SecretKind::Certificate)
        .map(|(secret, _)| secret.as_str())
}

/// Whether a unit sees the authority's certificate: it has one by it, or is bound to a unit that may.
pub(crate) fn sees_authority(unit: &ManifestUnit) -> bool {
    !unit.unit.secrets.contains_key(AUTHORITY) && (secrets(unit).next().is_some() || !unit.unit.needs.is_empty())
}

/// The name by which other units check a unit's certificate.
pub(crate) fn internal_name(manifest: &Manifest, unit: &str) -> String {
    format!("{}.{}.internal", crate::plan::host_name(unit), manifest.name.host())
}

/// The names of a unit's certificates: its own, and the appliance's if it is reached from outside. A public address is left out,
/// because the authority may not vouch for it.
pub(crate) fn names(manifest: &Manifest, name: &str, unit: &ManifestUnit, address: &str) -> Names {
    let mut all = vec![internal_name(manifest, name)];
    if !unit.unit.network.publish.is_empty() {
        all.push(format!("{}.local", manifest.name.host()));
        all.push(address.to_owned());
    }
    let private = |name: &AltName| matches!(name, AltName::Dns(_)) || Permitted::default().allows(name);
    all.iter()
        .filter_map(|name| name.parse().ok())
        .filter(private)
        .collect()
}

/// The time by which certificates are issued. The image was built before it ran, so the clock is not right before that.
pub(crate) fn now(manifest: &Manifest) -> Timestamp {
    let built = i64::try_from(manifest.built).unwrap_or(0);
    crate::clock::timestamp().max(Timestamp::from_second(built).unwrap_or_default())
}

/// The certificates of all units.
pub(crate) fn wanted(manifest: &Manifest, address: &str) -> Wanted {
    let mut certificates = BTreeMap::new();
    for (name, unit) in &manifest.units {
        for secret in secrets(unit) {
            let names = names(manifest, name.as_str(), unit, address);
            certificates.insert(of(name.as_str(), secret), names);
        }
    }
    Wanted {
        appliance: manifest.name.host(),
        domain: None,
        certificates,
        replace: false,
    }
}

/// What the start of a unit needs: its certificates, issued or renewed if that is due, and the authority's. A certificate that cannot be
/// renewed is used as it is; one that cannot be issued is an error.
pub(crate) fn prepare(
    config: &Config,
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
    address: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let (folder, all) = (config.authority(), wanted(manifest, address));
    let ensure = |only: &str, certificates| {
        let wanted = Wanted {
            certificates,
            ..all.clone()
        };
        pki::ensure(&Real, &folder, now(manifest), &wanted, Some(only))
    };
    let mut texts = BTreeMap::new();
    for secret in secrets(unit) {
        let of = of(name, secret);
        let names = all.certificates.get(&of).cloned().unwrap_or_default();
        let done = ensure(&of, [(of.clone(), names)].into());
        match (pki::issued(&Real, &folder, &of)?, done) {
            (Some(text), _) => drop(texts.insert(secret.to_owned(), text)),
            (None, Ok(steps)) => {
                let why: Vec<String> = steps.iter().filter_map(Step::refusal).collect();
                return Err(Error::Sandbox {
                    unit: name.to_owned(),
                    why: why.join("; "),
                });
            }
            (None, Err(e)) => return Err(e.into()),
        }
    }
    if sees_authority(unit) {
        if texts.is_empty() {
            ensure("", BTreeMap::new())?;
        }
        let text = pki::authority_certificate(&Real, &folder)?;
        texts.extend(text.map(|text| (AUTHORITY.to_owned(), text)));
    }
    Ok(texts)
}

/// Renews what is due of the certificates that there are; units without one get theirs when they start. Makes another authority if
/// the owner asks for that.
pub(crate) fn check(config: &Config, manifest: &Manifest, address: &str, replace: bool) -> Checked {
    let mut checked = Checked::default();
    if let Err(e) = renew(config, manifest, address, replace, &mut checked) {
        checked.failed.push(e.to_string());
    }
    for (name, unit) in &manifest.units {
        let name = name.as_str();
        // A unit that has not started in this boot has nothing to see anew.
        if checked.changed.contains(name)
            && config.shown_secrets(name).exists()
            && let Err(e) = crate::secrets::refresh(config, manifest, name, unit, address)
        {
            checked.failed.push(e.to_string());
        }
    }
    checked
}

fn renew(
    config: &Config,
    manifest: &Manifest,
    address: &str,
    replace: bool,
    checked: &mut Checked,
) -> Result<(), Error> {
    let folder = config.authority();
    let found = Found::read(&Real, &folder, None)?;
    if found.authority == pki::Held::Absent {
        return Ok(());
    }
    let mut all = wanted(manifest, "");
    all.certificates.retain(|of, _| found.certificates.contains_key(of));
    // Another address alone is no reason to disturb a unit: its certificate has it after the next start.
    let steps = pki::plan(now(manifest), &found, &Wanted { replace, ..all.clone() });
    let due: BTreeSet<&str> = steps.iter().filter_map(issues).collect();
    let full = wanted(manifest, address).certificates;
    for (of, names) in &mut all.certificates {
        let there = match found.certificates.get(of) {
            Some(pki::Held::Whole(facts)) if !due.contains(of.as_str()) => Some(&facts.names),
            _ => full.get(of),
        };
        names.extend(there.into_iter().flatten().cloned());
    }
    let steps = pki::ensure(&Real, &folder, now(manifest), &Wanted { replace, ..all }, None)?;
    let authority = |step: &Step| matches!(step, Step::Make { .. } | Step::Replace { .. } | Step::Rewrite { .. });
    for (name, unit) in &manifest.units {
        let name = name.as_str();
        let issued = |secret: &str| steps.iter().filter_map(issues).any(|issued| issued == of(name, secret));
        if secrets(unit).any(issued) || steps.iter().any(authority) && sees_authority(unit) {
            checked.changed.insert(name.to_owned());
        }
    }
    for step in &steps {
        match step.refusal() {
            Some(refusal) => checked.failed.push(refusal),
            None => checked.done.push(step.to_string()),
        }
    }
    Ok(())
}

/// The use for which a step issues a certificate.
fn issues(step: &Step) -> Option<&str> {
    match step {
        Step::Issue(one, _) | Step::Renew(one, _) => Some(&one.of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    const WEB: &str =
        r#"{"secrets":{"tls":{"kind":"certificate"}},"network":{"mode":"bridge","publish":[{"port":443}]}}"#;
    const DB: &str = r#"{"secrets":{"tls":{"kind":"certificate"}}}"#;

    fn texts(names: &Names) -> Vec<String> {
        names.iter().map(AltName::to_string).collect()
    }

    fn of_web(config: &Config) -> Vec<String> {
        match &Found::read(&Real, &config.authority(), None).unwrap().certificates["web.tls"] {
            pki::Held::Whole(facts) => texts(&facts.names),
            other => panic!("{other:?}"),
        }
    }

    /// Starts both units, at no address yet.
    fn started() -> (tempfile::TempDir, Config, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        let manifest = manifest(&[("web", WEB), ("db", DB)]);
        for (name, unit) in &manifest.units {
            crate::secrets::refresh(&config, &manifest, name.as_str(), unit, "").unwrap();
        }
        (dir, config, manifest)
    }

    #[test]
    fn a_certificate_has_the_names_by_which_the_unit_is_reached_and_no_public_address() {
        let manifest = manifest(&[("web@1", WEB), ("db", DB)]);
        let of = |name: &str, address: &str| texts(&names(&manifest, name, &manifest.units[name], address));
        assert_eq!(of("db", "192.168.1.5"), ["db.test.internal"]);
        assert_eq!(of("web@1", ""), ["test.local", "web-1.test.internal"]);
        assert_eq!(
            of("web@1", "192.168.1.5"),
            ["test.local", "web-1.test.internal", "192.168.1.5"]
        );
        assert_eq!(of("web@1", "203.0.113.5"), of("web@1", ""));
    }

    #[test]
    fn another_address_disturbs_no_unit_and_is_taken_when_the_certificate_is_renewed_or_the_unit_starts() {
        let (_dir, config, manifest) = started();
        assert_eq!(check(&config, &manifest, "10.0.0.5", false), Checked::default());
        assert_eq!(of_web(&config), ["test.local", "web.test.internal"]);
        let then = now(&manifest) - std::time::Duration::from_secs(25 * 86_400);
        pki::ensure(&Real, &config.authority(), then, &wanted(&manifest, ""), None).unwrap();
        // Not started in this boot: what it sees at its start is made then.
        std::fs::remove_dir_all(config.shown_secrets("web")).unwrap();
        let checked = check(&config, &manifest, "10.0.0.5", false);
        assert!(!config.shown_secrets("web").exists());
        assert_eq!(checked.changed, ["db".to_owned(), "web".to_owned()].into());
        assert_eq!(of_web(&config), ["test.local", "web.test.internal", "10.0.0.5"]);
        // An address that has gone is no reason either; another one is at a start.
        assert_eq!(check(&config, &manifest, "", false), Checked::default());
        crate::secrets::refresh(&config, &manifest, "web", &manifest.units["web"], "10.0.0.6").unwrap();
        assert_eq!(of_web(&config), ["test.local", "web.test.internal", "10.0.0.6"]);
    }

    #[test]
    fn a_check_leaves_units_alone_that_have_not_started_and_removes_what_no_unit_has() {
        let (dir, config, manifest) = started();
        let more = crate::testing::manifest(&[("web", WEB), ("new", DB)]);
        let checked = check(&config, &more, "", false);
        assert_eq!(checked.changed, BTreeSet::new());
        assert_eq!(checked.done, ["remove db.tls: nothing wants it any more"]);
        assert_eq!(checked.failed, [""; 0]);
        // Before anything was started there is nothing to look at.
        let other = Config::below(&dir.path().join("other"));
        assert_eq!(check(&other, &manifest, "", false), Checked::default());
        assert!(!other.authority().exists());
    }

    #[test]
    fn a_unit_that_is_bound_sees_the_authority_and_one_with_a_secret_of_that_name_sees_its_own() {
        let (_dir, config, _) = started();
        let needs = r#"{"needs":{"db":"sql"}}"#;
        let own = r#"{"secrets":{"ca":{},"tls":{"kind":"certificate"}}}"#;
        let db = r#"{"provides":{"sql":{"kind":"database","port":3306}}}"#;
        let manifest = manifest(&[("web", needs), ("own", own), ("db", db)]);
        let seen =
            |name: &str| crate::secrets::secrets(&config, &manifest, name, &manifest.units[name], "", true).unwrap();
        assert!(seen("web")["ca"].starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(seen("own")["ca"].len(), 32);
        assert!(seen("db").is_empty());
    }

    #[test]
    fn the_clock_is_never_taken_to_be_before_the_image_was_built() {
        let mut manifest = manifest(&[("db", DB)]);
        assert!(now(&manifest) <= crate::clock::timestamp());
        manifest.built = 40_000_000_000;
        assert_eq!(now(&manifest).as_second(), 40_000_000_000);
    }
}
