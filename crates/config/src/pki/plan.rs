//! What is to be done about an authority and its certificates: a pure function.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::names::{Names, Permitted, list};
use super::read::{Facts, Found, Held};

/// How long a certificate holds from the moment of its making.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long before that moment it begins.
pub const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wanted {
    /// The appliance's name, one label.
    pub appliance: String,
    /// The domain under which it is reached, if it has one.
    pub domain: Option<String>,
    /// The certificates, by use. A use is part of a file's name.
    pub certificates: BTreeMap<String, Names>,
    /// Whether another authority is to be made in place of the one that is there, with all certificates.
    pub replace: bool,
}

/// A certificate that is to be issued.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// What it is for.
    pub of: String,
    /// Its names.
    pub names: Names,
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make the authority, which was never there.
    Make {
        /// The appliance's name.
        appliance: String,
        /// What it is to be for.
        permitted: Permitted,
    },
    /// Make another authority in place of the one that is there. Whoever trusts the old one has to be told the new one.
    Replace {
        /// The appliance's name.
        appliance: String,
        /// What it is to be for.
        permitted: Permitted,
    },
    /// Write the authority's certificate again with the same key. Who trusts the old one goes on trusting for its names.
    Rewrite {
        /// The appliance's name.
        appliance: String,
        /// What it is to be for.
        permitted: Permitted,
        /// Why.
        why: String,
    },
    /// Issue a certificate that is not there or cannot be used.
    Issue(Certificate, String),
    /// Issue a certificate whose time is over or nearly so.
    Renew(Certificate, String),
    /// Remove a certificate that nothing wants any more.
    Remove(String),
    /// Do nothing about this, because it cannot be done: what, and a sentence that says why and what to do.
    Refuse(String, String),
}

impl Step {
    /// Why something could not be done, if this step says so.
    pub fn refusal(&self) -> Option<String> {
        matches!(self, Step::Refuse(..)).then(|| self.to_string())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Make { permitted, .. } => write!(f, "make the authority for {permitted}"),
            Step::Replace { permitted, .. } => {
                write!(f, "replace the authority, as was asked for, by one for {permitted}")
            }
            Step::Rewrite { permitted, why, .. } => {
                write!(
                    f,
                    "write the authority's certificate again, with the same key, for {permitted}: {why}"
                )
            }
            Step::Issue(one, why) => write!(f, "issue {} for {}: {why}", one.of, list(&one.names)),
            Step::Renew(one, why) => write!(f, "renew {} until {}: {why}", one.of, day(one.until)),
            Step::Remove(of) => write!(f, "remove {of}: nothing wants it any more"),
            Step::Refuse(what, why) => write!(f, "{what}: {why}"),
        }
    }
}

fn day(at: Timestamp) -> impl fmt::Display {
    at.strftime("%Y-%m-%d %H:%M UTC")
}

/// What has to be done at `now` so that what was `found` becomes what is `wanted`; nothing if it is. Uses that were not looked for are
/// not touched.
pub fn plan(now: Timestamp, found: &Found, wanted: &Wanted) -> Vec<Step> {
    let permitted = match Permitted::of(&wanted.appliance, wanted.domain.as_deref()) {
        Ok(permitted) => permitted,
        Err(why) => return vec![Step::Refuse("no certificate can be issued".into(), why)],
    };
    let mut steps = Vec::new();
    let appliance = wanted.appliance.clone();
    // Whether what is there was issued by the authority that there will be.
    let mut stays = true;
    match &found.authority {
        Held::Absent => steps.push(Step::Make {
            appliance,
            permitted: permitted.clone(),
        }),
        _ if wanted.replace => {
            stays = false;
            steps.push(Step::Replace {
                appliance,
                permitted: permitted.clone(),
            });
        }
        Held::Damaged(why) => {
            let what = "the certificate authority's key is lost, so nothing is issued or renewed".to_owned();
            let help = "put authority.pem back from a backup, or have the authority replaced; then everybody who trusts it has to be \
                        told the new one";
            return vec![Step::Refuse(what, format!("{why}; {help}"))];
        }
        Held::Whole(authority) => {
            let missing = permitted.0.difference(&authority.permitted.0).next();
            let why = match (&authority.certificate_damaged, missing) {
                (Some(why), _) => Some(why.clone()),
                (None, Some(missing)) => Some(format!("it was not for {missing}")),
                (None, None) => None,
            };
            stays = authority.certificate_damaged.is_none();
            steps.extend(why.map(|why| Step::Rewrite {
                appliance,
                permitted: permitted.clone(),
                why,
            }));
        }
    }
    for (of, names) in &wanted.certificates {
        steps.extend(certificate(
            now,
            of,
            names,
            found.certificates.get(of),
            stays,
            &permitted,
        ));
    }
    let unwanted = found
        .certificates
        .keys()
        .filter(|of| !wanted.certificates.contains_key(*of));
    steps.extend(unwanted.cloned().map(Step::Remove));
    steps
}

/// What has to be done about one certificate.
fn certificate(
    now: Timestamp,
    of: &str,
    names: &Names,
    held: Option<&Held<Facts>>,
    stays: bool,
    permitted: &Permitted,
) -> Option<Step> {
    let refuse = |why: String| Some(Step::Refuse(format!("no certificate for {of}"), why));
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-@.".contains(c);
    if of.is_empty() || of.starts_with('.') || !of.chars().all(fine) {
        return refuse("a use is lower case letters, digits, `-`, `@` and `.`".into());
    }
    if names.is_empty() {
        return refuse("it has no name".into());
    }
    if let Some(other) = names.iter().find(|name| !permitted.allows(name)) {
        return refuse(format!(
            "the authority is for {permitted}, and not for {other}; import a certificate for it"
        ));
    }
    let new = Certificate {
        of: of.to_owned(),
        names: names.clone(),
        from: now.saturating_sub(BACKDATED).unwrap_or(now).max(Timestamp::UNIX_EPOCH),
        until: now.saturating_add(LIFETIME).unwrap_or(now),
    };
    let issue = |why: &str| Some(Step::Issue(new.clone(), why.to_owned()));
    let facts = match held {
        None | Some(Held::Absent) => return issue("there is none"),
        Some(Held::Damaged(why)) => return issue(why),
        Some(Held::Whole(facts)) => facts,
    };
    if !stays {
        return issue("its authority is another");
    }
    if !facts.ours {
        return issue(&format!("{} had issued it", facts.issuer));
    }
    if let Some(missing) = names.iter().find(|name| !facts.names.contains(name)) {
        return issue(&format!("it was not for {missing}"));
    }
    let renew = |why: String| Some(Step::Renew(new.clone(), why));
    if now < facts.from {
        return renew(format!("it begins on {}, so the clock was set back", day(facts.from)));
    }
    let left = facts.until.duration_since(now);
    if left <= SignedDuration::ZERO {
        return renew(format!("it ended on {}", day(facts.until)));
    }
    if left < facts.until.duration_since(facts.from) / 3 {
        return renew(format!("it ends on {}", day(facts.until)));
    }
    None
}
