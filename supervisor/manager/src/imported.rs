//! Certificates that somebody else issued: which units show them, and what the owner is told of them. Those that a unit gets by ACME
//! come the same way.

use cairn_api::{Accepted, Imported};
use cairn_config::pki::{self, AltName, Held, Imported as Known, Names};
use cairn_config::{Real, Timestamp};
use cairn_unit::{Manifest, ManifestUnit};

use crate::certificates::{self, Checked, INTERNAL, is_published, now, secrets};
use crate::config::Config;
use crate::control::Answered;
use crate::supervisor::Supervisor;

/// The names by which a unit is reached in the owner's domain: the domain itself, and its own name in it. None if it is not reached
/// from outside, or there is no domain.
pub(crate) fn public_names(manifest: &Manifest, name: &str, unit: &ManifestUnit) -> Names {
    let domain = manifest.domain.as_ref().filter(|_| is_published(unit));
    let all = domain.map(|domain| [domain.to_string(), format!("{}.{domain}", crate::plan::host_name(name))]);
    all.iter().flatten().filter_map(|name| name.parse().ok()).collect()
}

/// The imported certificate that a unit shows to those outside, if there is one, with its id.
pub(crate) fn shown<'a>(
    imported: &'a [(String, Held<Known>)],
    manifest: &Manifest,
    name: &str,
    unit: &ManifestUnit,
) -> Option<(&'a str, &'a Known)> {
    secrets(unit).next()?;
    pki::choose(imported, &public_names(manifest, name, unit), now(manifest))
}

/// Finds the units that show another certificate than they should: one was imported, renewed or removed, or its time is over.
pub(crate) fn look(config: &Config, manifest: &Manifest, imported: &[(String, Held<Known>)], checked: &mut Checked) {
    for (id, held) in imported {
        checked.failed.extend(unused(id, held, now(manifest)));
    }
    for (name, unit) in manifest.units.iter().filter(|(_, unit)| is_published(unit)) {
        let name = name.as_str();
        let folder = config.shown_secrets(name);
        let chosen = shown(imported, manifest, name, unit);
        for secret in secrets(unit) {
            let seen = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
            let Some(shown) = seen(secret) else { continue };
            let wanted = match chosen {
                Some((_, one)) => Some(one.pem.clone()),
                None => seen(&format!("{secret}{INTERNAL}")),
            };
            if wanted.is_some_and(|wanted| wanted != shown) {
                let line = match chosen {
                    Some((id, one)) => format!("{name} shows the imported certificate {id}, of {}", one.issuer),
                    None => format!("{name} shows the authority's certificate again"),
                };
                checked.done.push(line);
                checked.changed.insert(name.to_owned());
            }
        }
    }
}

/// Why an imported certificate is not shown by anybody, if that is its own fault.
pub(crate) fn unused(id: &str, held: &Held<Known>, now: Timestamp) -> Option<String> {
    let day = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    match held {
        Held::Whole(one) if now >= one.until => Some(format!(
            "the imported certificate {id} ended on {}; import its successor, or remove it",
            day(one.until)
        )),
        Held::Whole(one) if now < one.from => Some(format!(
            "the imported certificate {id} begins on {}; if that is past, the appliance's clock is wrong",
            day(one.from)
        )),
        Held::Damaged(why) => Some(format!(
            "the imported certificate {id} cannot be used: {why}; import it again, or remove it"
        )),
        Held::Whole(_) | Held::Absent => None,
    }
}

impl Supervisor {
    /// Takes a certificate that somebody else issued. Units that show it are told at once.
    pub(crate) fn import_certificate(&self, pem: &str) -> Answered {
        let now = certificates::now(&self.manifest);
        let taken = match pki::import(pem, &Names::new(), now) {
            Ok(taken) if taken.names.is_empty() => {
                return Answered::error(422, "the certificate is for no name, so nobody would accept it");
            }
            Ok(taken) => taken,
            Err(refused) => return Answered::error(422, &refused.to_string()),
        };
        let id = match pki::keep_imported(&Real, &self.config.imported(), &taken) {
            Ok(id) => id,
            Err(e) => return Answered::error(500, &e.to_string()),
        };
        self.check_certificates(false);
        match pki::imported(&Real, &self.config.imported()) {
            Ok(all) => {
                let mut listed = self.imported(&all).into_iter();
                match listed.find(|one| one.id == id) {
                    Some(one) => Answered::of(200, &one),
                    None => Answered::error(500, "the certificate was kept and is gone"),
                }
            }
            Err(e) => Answered::error(500, &e.to_string()),
        }
    }

    /// Removes an imported certificate.
    pub(crate) fn remove_certificate(&self, id: &str) -> Answered {
        match pki::remove_imported(&Real, &self.config.imported(), id) {
            Ok(true) => {
                self.check_certificates(false);
                Answered::of(200, &Accepted::default())
            }
            Ok(false) => Answered::error(
                404,
                &format!("there is no imported certificate `{id}`; `cairn certificates` lists them"),
            ),
            Err(e) => Answered::error(500, &e.to_string()),
        }
    }

    /// What was imported, as it is told.
    pub(crate) fn imported(&self, all: &[(String, Held<Known>)]) -> Vec<Imported> {
        let units = |id: &str| {
            let shows = |name: &str, unit: &ManifestUnit| {
                let shown = shown(all, &self.manifest, name, unit);
                shown.is_some_and(|(own, _)| own == id)
            };
            let units = self.manifest.units.iter();
            let using = units.filter(|(name, unit)| shows(name.as_str(), unit));
            using.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        let now = certificates::now(&self.manifest);
        let told = |(id, held): &(String, Held<Known>)| {
            let used_by = units(id);
            let mut one = Imported {
                id: id.clone(),
                names: Vec::new(),
                issuer: String::new(),
                from: String::new(),
                until: String::new(),
                unused: unused(id, held, now),
                used_by,
            };
            if let Held::Whole(known) = held {
                one.names = known.names.iter().map(AltName::to_string).collect();
                one.issuer.clone_from(&known.issuer);
                one.from = known.from.to_string();
                one.until = known.until.to_string();
            }
            if one.used_by.is_empty() && one.unused.is_none() {
                one.unused = Some(match &self.manifest.domain {
                    None => "the appliance has no domain yet, so no unit is reached by its names".to_owned(),
                    Some(domain) => format!(
                        "no unit is reached by its names, or another certificate is for more of them; a unit that publishes a port is \
                         reached as {domain} and UNIT.{domain}"
                    ),
                });
            }
            one
        };
        all.iter().map(told).collect()
    }
}
