//! The units' certificates: their names, when they are issued and renewed, and which units show an imported one. What they are and
//! the rules stand in `cairn_config::pki`.
//!
//! A unit that publishes a port is asked for by two kinds of people: those outside, by the owner's domain, and other units, by its
//! internal name. The first get an imported certificate if there is one for the domain, as the secret itself; the second the
//! authority's, which the unit sees beside it as `SECRET.internal` ([`INTERNAL`]).

use std::collections::{BTreeMap, BTreeSet};

use cairn_config::pki::{self, AltName, Found, Held, Names, Permitted, Step, Wanted};
use cairn_config::{Real, Timestamp};
use cairn_unit::{AskKind, Manifest, ManifestUnit, SecretKind};

use crate::config::Config;
use crate::error::Error;
use crate::imported::{look, public_names, shown};

/// The secret by which a unit sees the authority's certificate.
pub(crate) const AUTHORITY: &str = "ca";

/// How the name of a secret ends under which a unit that publishes a port sees the authority's certificate. A dot is in no secret's
/// name.
pub(crate) const INTERNAL: &str = ".internal";

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

/// Whether a unit is reached from outside.
pub(crate) fn is_published(unit: &ManifestUnit) -> bool {
    !unit.unit.network.publish.is_empty()
}

/// The names of a unit's certificates: its own, and the appliance's if it is reached from outside. A public address is left out,
/// because the authority may not vouch for it.
pub(crate) fn names(manifest: &Manifest, name: &str, unit: &ManifestUnit, address: &str) -> Names {
    let mut all = vec![internal_name(manifest, name)];
    if is_published(unit) {
        all.push(format!("{}.local", manifest.name.host()));
        all.push(address.to_owned());
    }
    let private = |name: &AltName| matches!(name, AltName::Dns(_)) || Permitted::default().allows(name);
    let own = all.iter().filter_map(|name| name.parse().ok()).filter(private);
    let asked = asked_names(manifest, name, unit);
    own.chain(public_names(manifest, name, unit)).chain(asked).collect()
}

/// The names in the owner's domain under which a unit serves others, as they ask it to.
fn asked_names(manifest: &Manifest, name: &str, unit: &ManifestUnit) -> Names {
    let domain = manifest.domain.as_ref().filter(|_| is_published(unit));
    let mut all = Names::new();
    for bond in manifest.consumers(name) {
        let (Some(domain), Some(upstream)) = (domain, &bond.provide.upstream) else {
            continue;
        };
        let answers = upstream.answers(bond.need);
        let hosts = upstream.asks.iter().filter(|(_, ask)| ask.is == AskKind::Host);
        let labels = hosts.filter_map(|(key, _)| answers.get(key.as_str()).filter(|label| !label.is_empty()));
        all.extend(labels.filter_map(|label| format!("{label}.{domain}").parse().ok()));
    }
    all
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
        domain: manifest.domain.as_ref().map(ToString::to_string),
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
    let imported = match is_published(unit) {
        true => pki::imported(&Real, &config.imported())?,
        false => Vec::new(),
    };
    let chosen = shown(&imported, manifest, name, unit).map(|(_, one)| &one.pem);
    for secret in secrets(unit) {
        let of = of(name, secret);
        let names = all.certificates.get(&of).cloned().unwrap_or_default();
        let done = ensure(&of, [(of.clone(), names)].into());
        match (pki::issued(&Real, &folder, &of)?, done) {
            (Some(text), _) => {
                texts.insert(secret.to_owned(), chosen.unwrap_or(&text).clone());
                if is_published(unit) {
                    texts.insert(format!("{secret}{INTERNAL}"), text);
                }
            }
            (None, Ok(_)) if chosen.is_some() => {
                let pem = chosen.cloned().unwrap_or_default();
                texts.insert(format!("{secret}{INTERNAL}"), pem.clone());
                texts.insert(secret.to_owned(), pem);
            }
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

/// The files that [`prepare`] gives a unit, by name.
pub(crate) fn files(unit: &ManifestUnit) -> Vec<String> {
    let mut all = Vec::new();
    for secret in secrets(unit) {
        all.push(secret.to_owned());
        if is_published(unit) {
            all.push(format!("{secret}{INTERNAL}"));
        }
    }
    if sees_authority(unit) {
        all.push(AUTHORITY.to_owned());
    }
    all
}

/// Renews what is due of the certificates that there are; units without one get theirs when they start. Makes another authority if
/// the owner asks for that.
pub(crate) fn check(config: &Config, manifest: &Manifest, address: &str, replace: bool) -> Checked {
    let mut checked = Checked::default();
    if let Err(e) = renew(config, manifest, address, replace, &mut checked) {
        checked.failed.push(e.to_string());
    }
    match pki::imported(&Real, &config.imported()) {
        Ok(imported) => look(config, manifest, &imported, &mut checked),
        Err(e) => checked.failed.push(e.to_string()),
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
    if found.authority == Held::Absent {
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
            Some(Held::Whole(facts)) if !due.contains(of.as_str()) => Some(&facts.names),
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
#[path = "certificates_tests.rs"]
mod tests;
