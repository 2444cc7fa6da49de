//! What the manager does about certificates while units run: it looks at them every ten minutes, lets running units see renewed
//! ones, and has them reload, or restarts those that cannot.

use std::time::Duration;

use cairn_api::{Accepted, Authority, Certificate, Certificates};
use cairn_config::Real;
use cairn_config::pki::{self, AltName, Found, Held, Names, Step, plan};

use crate::certificates::{self, Checked};
use crate::control::Answered;
use crate::error::Error;
use crate::supervisor::{Msg, Supervisor};

/// How long after the clock was set, or a certificate has become due, it is renewed at the latest.
const PACE: Duration = Duration::from_secs(600);

impl Supervisor {
    /// Begins to look at the certificates from time to time, if any unit has one.
    pub(crate) fn watch_certificates(&self) {
        let mut units = self.manifest.units.values();
        if units.all(|unit| certificates::secrets(unit).next().is_none()) {
            return;
        }
        let send = self.send.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PACE).await;
                if send.send(Msg::CheckCertificates).is_err() {
                    return;
                }
            }
        });
    }

    /// Looks at the certificates, in a thread that may wait for the disk.
    pub(crate) fn check_certificates(&self, replace: bool) {
        let (config, manifest, send) = (self.config.clone(), self.manifest.clone(), self.send.clone());
        let address = self.address();
        tokio::task::spawn_blocking(move || {
            let checked = certificates::check(&config, &manifest, &address, replace);
            let _ = send.send(Msg::Certificates(checked));
        });
    }

    /// They were looked at: units whose certificates are others now are told.
    pub(crate) fn certificates_checked(&mut self, checked: Checked) {
        for line in &checked.done {
            self.console.say(&format!("Certificates: {line}"));
        }
        // The same trouble is said once.
        for line in checked.failed.iter().filter(|line| !self.unrenewed.contains(line)) {
            self.console.say(&format!("Certificates: {line}"));
        }
        self.unrenewed = checked.failed;
        if !checked.changed.is_empty() {
            self.render_again();
        }
        for name in &checked.changed {
            // One that has no process sees the new one when it starts.
            let runs = |kept: &crate::saved::Kept| kept.pid != 0 && kept.machine.ready();
            if self.saved.power.is_none() && self.saved.units.get(name).is_some_and(runs) {
                let told = self.reload_unit(name);
                if told.status >= 400 {
                    let why = String::from_utf8_lossy(&told.body).trim_end().to_owned();
                    let line = format!("unit {name}: has not been told of its renewed certificate: {why}");
                    self.console.say(&line);
                }
            }
        }
    }

    /// Renews what is due now, or makes another authority.
    pub(crate) fn renew_certificates(&self, replace: bool) -> Answered {
        self.check_certificates(replace);
        Answered::of(202, &Accepted::default())
    }

    /// Lists the certificates.
    pub(crate) fn certificates(&self) -> Answered {
        match self.listed() {
            Ok(all) => Answered::of(200, &all),
            Err(e) => Answered::error(500, &e.to_string()),
        }
    }

    fn listed(&self) -> Result<Certificates, Error> {
        let folder = self.config.authority();
        let found = Found::read(&Real, &folder, None)?;
        let wanted = certificates::wanted(&self.manifest, "");
        let steps = plan(certificates::now(&self.manifest), &found, &wanted);
        let imported = pki::imported(&Real, &self.config.imported())?;
        let text = |names: &Names| names.iter().map(AltName::to_string).collect::<Vec<_>>();
        let mut all = Vec::new();
        for (name, unit) in &self.manifest.units {
            for secret in certificates::secrets(unit) {
                let of = certificates::of(name.as_str(), secret);
                let due = steps.iter().find(|step| match step {
                    Step::Issue(one, _) | Step::Renew(one, _) => one.of == of,
                    _ => false,
                });
                let mut shown = Certificate {
                    unit: name.as_str().to_owned(),
                    secret: secret.to_owned(),
                    names: wanted.certificates.get(&of).map(text).unwrap_or_default(),
                    issuer: String::new(),
                    from: String::new(),
                    until: String::new(),
                    due: due.map(Step::to_string),
                    imported: crate::imported::shown(&imported, &self.manifest, name.as_str(), unit)
                        .map(|(id, _)| id.to_owned()),
                };
                if let Some(Held::Whole(facts)) = found.certificates.get(&of) {
                    shown.names = text(&facts.names);
                    shown.issuer.clone_from(&facts.issuer);
                    shown.from = facts.from.to_string();
                    shown.until = facts.until.to_string();
                }
                all.push(shown);
            }
        }
        let authority = match found.authority {
            Held::Whole(authority) => Some(Authority {
                name: authority.name,
                fingerprint: authority.fingerprint,
                permitted: authority.permitted.0.into_iter().collect(),
                pem: cairn_config::pki::authority_certificate(&Real, &folder)?.unwrap_or_default(),
            }),
            _ => None,
        };
        let mut errors: Vec<String> = steps.iter().filter_map(Step::refusal).collect();
        errors.extend(
            self.unrenewed
                .iter()
                .filter(|why| !errors.contains(why))
                .cloned()
                .collect::<Vec<_>>(),
        );
        Ok(Certificates {
            authority,
            certificates: all,
            imported: self.imported(&imported),
            errors,
        })
    }
}
